"""Training a latent diffusion prior: first the autoencoder, then the class-conditional denoiser on its latents."""
