"""Latent diffusion priors on the command line: `ld3m prior train ldm`, `convert`, `info`."""

from __future__ import annotations

import zipfile
from pathlib import Path

from pydantic import Field

from ld3m_plugin.contracts import Options, PriorKind, Task, TrainingReporter
from ld3m_plugin.generators.ld3m import ldm_folder as files
from ld3m_plugin.generators.ld3m.training.ldm_training_options import LdmTrainingOptions

_CHECKPOINTS = (".ckpt", ".pt", ".pth", ".safetensors")


class LdmConversionOptions(Options):
    """Options of `ld3m prior convert` for original CompVis checkpoints."""

    config: Path | None = Field(
        None,
        description="YAML of the checkpoint; default: the YAML beside it, or that of cin256-v2 if the shapes match",
    )
    classes: Path | None = Field(
        None,
        description="file of class names in row order, one per line or JSON entry; default: ImageNet's for 1,000 classes",
    )
    source: str | None = Field(None, description="origin of the weights, for the record")
    licence: str | None = Field(None, description="licence of the weights, for the record")
    half: bool = Field(False, description="store the weights in half precision")


class LatentDiffusionKind(PriorKind):
    """Priors of the LD3M and autoencoder generators."""

    TrainingOptions = LdmTrainingOptions
    ConversionOptions = LdmConversionOptions

    def recognises(self, path: Path) -> bool:
        if path.is_dir():
            has_autoencoder = (path / "vae").is_dir() or (path / "vqvae").is_dir()
            return (path / files.INDEX).is_file() and (path / "unet").is_dir() and has_autoencoder
        # torch.save writes a zip; `convert` reports a truncated one.
        return path.suffix in _CHECKPOINTS or zipfile.is_zipfile(path)

    def find(self, name: str) -> Path | None:
        from ld3m_plugin.generators.ld3m.ldm_prior import SHIPPED

        return SHIPPED.get(name)

    def train(self, task: Task, out: Path, options: Options, *, seed: int, reporter: TrainingReporter) -> None:
        from ld3m_plugin.generators.ld3m.training.train_ldm import train_prior

        assert isinstance(options, LdmTrainingOptions)  # noqa: S101 (for the type checker)
        train_prior(task, options, seed, out, reporter)

    def convert(self, source: Path, out: Path, options: Options) -> None:
        from ld3m_plugin.generators.ld3m.compvis.compvis_convert import convert

        assert isinstance(options, LdmConversionOptions)  # noqa: S101 (for the type checker)
        convert(
            source,
            out,
            config=options.config,
            classes=options.classes,
            note=options.source,
            licence=options.licence,
            half=options.half,
        )

    def describe(self, path: Path) -> dict[str, str]:
        from ld3m_plugin.generators.ld3m.ldm_describe import describe

        return describe(path)
