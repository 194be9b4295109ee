"""The built-in generators: latents in, images out. One file or folder each; listing them imports none of them."""

from ld3m_plugin.hookspecs import hookimpl
from ld3m_plugin.plugins import Register


@hookimpl
def register_generators(register: Register) -> None:
    """Register the built-in generators by import path."""
    register("pixel", "ld3m_plugin.generators.pixel:PixelGenerator", summary="the images themselves are learned")
