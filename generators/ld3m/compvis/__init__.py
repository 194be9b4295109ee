"""Conversion of original latent-diffusion checkpoints (CompVis names) to prior folders.

Source of the layout: Rombach, Blattmann, Lorenz, Esser and Ommer, "High-Resolution Image Synthesis with Latent Diffusion
Models", CVPR 2022, and the names in its published checkpoints.

- `compvis_checkpoint`: reads the file without running it
- `compvis_config`: the YAML of a checkpoint; `cin256`: that of the published ImageNet model
- `names`: how one tensor becomes another; `unet_layout`, `autoencoder_layout`: which tensor becomes which
- `accounting`: checks that no tensor is missing or left over; `compvis_convert`: the whole conversion
"""
