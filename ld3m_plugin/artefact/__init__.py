"""The artefact: a distilled set on disk, with its pictures and its dataset card."""

from ld3m_plugin import moved

__getattr__ = moved.was_module(__name__)
