"""The artefact: a distilled set on disk, with its pictures and its dataset card."""
