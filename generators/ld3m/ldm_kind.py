"""Latent diffusion priors on the command line: `ld3m prior train ldm`, `convert`, `info`."""

from __future__ import annotations

import zipfile
from pathlib import Path

from pydantic import Field

from ld3m_plugin.generators.ld3m import ldm_folder as files
from ld3m_plugin.generators.ld3m.training.ldm_training_options import LdmTrainingOptions
from ld3m_plugin.priors.folder_kind import FolderConversionOptions, FolderKind

_CHECKPOINTS = (".ckpt", ".pt", ".pth", ".safetensors")


class LdmConversionOptions(FolderConversionOptions):
    """Options of `ld3m prior convert` for original CompVis checkpoints."""

    config: Path | None = Field(
        None,
        description="YAML of the checkpoint; default: the one beside it, or that of cin256-v2 if the shapes match",
    )


class LatentDiffusionKind(FolderKind):
    """Priors of the LD3M and autoencoder generators."""

    TrainingOptions = LdmTrainingOptions
    ConversionOptions = LdmConversionOptions
    shipped = files.SHIPPED
    trainer = "ld3m_plugin.generators.ld3m.training.train_ldm:train_prior"
    converter = "ld3m_plugin.generators.ld3m.compvis.compvis_convert:convert"
    describer = "ld3m_plugin.generators.ld3m.ldm_describe:describe"

    def recognises(self, path: Path) -> bool:
        if path.is_dir():
            has = [any((path / part).is_dir() for part in parts) for parts in (files.NETWORKS, files.AUTOENCODERS)]
            return (path / files.INDEX).is_file() and all(has)
        # torch.save writes a zip file; `convert` reports a damaged one.
        return path.suffix in _CHECKPOINTS or zipfile.is_zipfile(path)
