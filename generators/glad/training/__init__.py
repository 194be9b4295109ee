"""Training a StyleGAN-XL generator against a discriminator."""
