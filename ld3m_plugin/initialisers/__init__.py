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
    where, no_options = "ld3m_plugin.initialisers.pixel_statistics", "ld3m_plugin.options:Options"
    for name, factory, summary in (
        ("real", "RealImages", "distinct real images of the class, drawn anew for each seed"),
        ("mean", "ClassMeans", "the mean image of the class, for each of its images"),
        ("centres", "Centres", "k-means centres of the class in pixels"),
        ("medoids", "Medoids", "the real image nearest to each k-means centre of the class"),
    ):
        register(name, f"{where}:{factory}", summary=summary, options=no_options)
