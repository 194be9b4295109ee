"""GLaD's prior: StyleGAN-XL, whose styles and intermediate features are the latents.

Source: Cazenavette, Wang, Torralba, Efros and Zhu, "Generalizing Dataset Distillation via Deep Generative Prior" (GLaD), CVPR
2023, arXiv:2305.01649; Sauer, Schwarz and Geiger, "StyleGAN-XL", SIGGRAPH 2022; Karras et al., StyleGAN3, NeurIPS 2021.

- `glad_generator`: from latents to images; `glad_options`: its options
- `stylegan_shape`: a network's numbers; `stylegan_network`: mapping and synthesis, of `stylegan_layers` and `filters`
- `pretrained`: opens a network, with trained or random weights
- `gan_folder`: reads and writes prior folders; `gan_describe`: facts about one; `gan_kind`: the command line's entry
- `gan_convert`, `pickles`: read official network files without executing them; `training`: train a GAN of one's own
"""
