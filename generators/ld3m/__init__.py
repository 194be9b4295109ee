"""LD3M: latents and class embeddings of a frozen latent diffusion model, with a residual through the denoising chain.

Source: Moser, Raue, Palacio, Frolov and Dengel, "Latent Dataset Distillation with Diffusion Models" (LD3M), arXiv:2403.03881.

- `ld3m_generator`: renders images from latents; `ld3m_options`: its options; `start`: shared with the autoencoder generator
- `sampler`: the denoising chain; `schedule`: its noise levels
- `ldm_prior`: the frozen model; `ldm_folder`: its layout on disk; `diffusers_parts`: reads each part; `ldm_describe`: facts
- `compvis`: converts original checkpoints; `training`: trains a prior; `ldm_kind`: both, for the command line
"""
