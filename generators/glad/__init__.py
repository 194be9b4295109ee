"""GLaD's prior: StyleGAN-XL, whose styles and intermediate features are the latents.

Source: Cazenavette, Wang, Torralba, Efros and Zhu, "Generalizing Dataset Distillation via Deep Generative Prior" (GLaD), CVPR
2023, arXiv:2305.01649; Sauer, Schwarz and Geiger, "StyleGAN-XL", SIGGRAPH 2022; Karras et al., StyleGAN3, NeurIPS 2021.

- `generator`: from latents to images; `options`: its options
- `shape`: a network's numbers; `network`: mapping and synthesis; `layers`: their parts; `filters`: what resamples
- `pretrained`: which network, and whether its weights are trained
- `folder`: what a prior is on disk; `describe`: facts about it; `kind`: both for the command line, with the next two
- `convert`, `pickles`: official network files, read without running them; `training`: a prior of one's own
"""
