"""Distilled sets in the formats of other tools, and theirs as distilled sets.

- `export_formats`: the formats, and `export`
- `hub_parquet`, `tar_shards`, `plain_tensors`: how they are written
- `latent_file`: the learned numbers alone; `latent_rendering` makes images of them again
- `imported_set`: tensors of other programs
- `trained_network`: one network, trained on a set
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ld3m_plugin import moved

if TYPE_CHECKING:
    from ld3m_plugin.exports.export_formats import export
    from ld3m_plugin.exports.imported_set import import_tensors
    from ld3m_plugin.exports.latent_rendering import distilled_from_latents
    from ld3m_plugin.exports.trained_network import train_on

__all__ = ["distilled_from_latents", "export", "import_tensors", "train_on"]

_HERE = "ld3m_plugin.exports"

__getattr__ = moved.lazy(
    __name__,
    {
        "distilled_from_latents": f"{_HERE}.latent_rendering",
        "export": f"{_HERE}.export_formats",
        "import_tensors": f"{_HERE}.imported_set",
        "train_on": f"{_HERE}.trained_network",
    },
)
