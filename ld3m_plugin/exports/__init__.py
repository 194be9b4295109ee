"""Distilled sets in the formats of other tools, and theirs as distilled sets.

- `export_formats`: the formats, and `export`
- `hub_parquet`, `tar_shards`, `plain_tensors`: how they are written
- `latent_file`: the learned numbers alone; `latent_rendering` makes images of them again
- `imported_set`: tensors of other programs
- `trained_network`: one network, trained on a set
"""
