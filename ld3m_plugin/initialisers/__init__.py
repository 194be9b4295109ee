"""What generators start from, where nothing is learned yet: real images, class means, centres of clusters, medoids.

- `start_options`: the option `init` of generators that can start from pictures; `starting`: how they start
- `pixel_statistics`: initialisers that need the training images alone

An initialiser that needs a prior is registered by the package that reads such priors. Each one is a row of comparisons as well
(`comparison/controls.py`). This module only registers them by name: listing plugins must not import torch.
"""

from __future__ import annotations

from ld3m_plugin.hookspecs import Register, hookimpl


@hookimpl
def register_initialisers(register: Register) -> None:
    """Register the initialisers that need no prior."""
    where = "ld3m_plugin.initialisers.pixel_statistics"
    register("real", f"{where}:RealImages", summary="distinct real images of the class, drawn anew for each seed")
    register("mean", f"{where}:ClassMeans", summary="the mean image of the class, for each of its images")
    register("centres", f"{where}:Centres", summary="k-means centres of the class in pixels")
    register("medoids", f"{where}:Medoids", summary="the real image nearest to each k-means centre of the class")
