"""Original latent-diffusion checkpoints (CompVis names), turned into the prior folder.

Source of the layout: Rombach, Blattmann, Lorenz, Esser and Ommer, "High-Resolution Image Synthesis with Latent Diffusion
Models", CVPR 2022, and the names in its published checkpoints.

- `checkpoint`: reading the file without running it
- `config`: what the tensors do not say; `cin256`: that of the published ImageNet model
- `names`: how one tensor becomes another; `unet`, `autoencoder`: which one becomes which
- `accounting`: no tensor is missing or left over; `convert`: all of it
- `classes`: what the rows of the class embedding are called
"""
