"""LD3M: latents and class embeddings of a frozen latent diffusion model, with a residual through the denoising chain.

Source: Moser, Raue, Palacio, Frolov and Dengel, "Latent Dataset Distillation with Diffusion Models" (LD3M), arXiv:2403.03881.

- `generator`: from latents to images; `options`: its options; `start`: what it shares with the autoencoder generator
- `sampler`: the denoising chain; `schedule`: its noise levels
- `folder`: what a prior is on disk; `parts`: how each part is read; `prior`: the frozen model; `describe`: facts about it
- `compvis`: original checkpoints; `training`: a prior of one's own; `kind`: both, for the command line
"""
