"""Names of strategies that settings have as defaults, without torch."""

#: The strategy of all six operations, as DSA was published (Zhao and Bilen, ICML 2021).
FULL = "color_crop_cutout_flip_scale_rotate"
IDENTITY = "none"
