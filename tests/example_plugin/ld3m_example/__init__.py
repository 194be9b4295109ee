"""A plugin for ld3m-plugin: the hooks. Backends are named as text, so that listing plugins imports no torch."""

from ld3m_plugin import hookimpl


@hookimpl
def register_generators(register):
    register("example-upsample", "ld3m_example.backends:Upsample", summary="small images, enlarged bilinearly")


@hookimpl
def register_objectives(register):
    register("example-moments", "ld3m_example.backends:Moments", summary="mean and square of each pixel, by class")
