"""GAN priors for the command line: `ld3m prior train gan`, `convert`, `info`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from ld3m_plugin.contracts import Options, PriorKind, Task, TrainingReporter
from ld3m_plugin.generators.glad.training.gan_training_options import GanTrainingOptions


class GanConversionOptions(Options):
    """Options of `ld3m prior convert` for official StyleGAN-XL network files."""

    classes: Path | None = Field(
        None, description="class names in row order, a line or JSON entry each; default: ImageNet's for 1,000 classes"
    )
    source: str | None = Field(None, description="where the weights come from, for the record")
    licence: str | None = Field(None, description="of the weights, for the record")
    half: bool = Field(False, description="store the weights in half precision")


class GanKind(PriorKind):
    """Priors of the GLaD generator."""

    TrainingOptions = GanTrainingOptions
    ConversionOptions = GanConversionOptions

    def recognises(self, path: Path) -> bool:
        if path.is_dir():
            return (path / "network.json").is_file() and (path / "network.safetensors").is_file()
        # A truncated file is for `convert` to name.
        return path.suffix in (".pkl", ".pickle")

    def find(self, name: str) -> Path | None:
        from ld3m_plugin.generators.glad.pretrained import SHIPPED

        # `embedded` alone is the latent diffusion model.
        return SHIPPED[name] if name == "embedded-gan" else None

    def train(self, task: Task, out: Path, options: Options, *, seed: int, reporter: TrainingReporter) -> None:
        from ld3m_plugin.generators.glad.training.train_gan import train_prior

        assert isinstance(options, GanTrainingOptions)  # noqa: S101 (for the type checker)
        train_prior(task, options, seed, out, reporter)

    def convert(self, source: Path, out: Path, options: Options) -> None:
        from ld3m_plugin.generators.glad.gan_convert import convert

        assert isinstance(options, GanConversionOptions)  # noqa: S101 (for the type checker)
        convert(
            source,
            out,
            classes=options.classes,
            note=options.source,
            licence=options.licence,
            half=options.half,
        )

    def describe(self, path: Path) -> dict[str, str]:
        from ld3m_plugin.generators.glad.gan_describe import describe

        return describe(path)
