"""GAN priors for the command line: `ld3m prior train gan`, `convert`, `info`."""

from __future__ import annotations

from pathlib import Path

from ld3m_plugin.generators.glad.gan_files import SHAPE, SHIPPED, WEIGHTS
from ld3m_plugin.generators.glad.training.gan_training_options import GanTrainingOptions
from ld3m_plugin.priors.folder_kind import FolderKind


class GanKind(FolderKind):
    """Priors of the GLaD generator."""

    TrainingOptions = GanTrainingOptions
    # `embedded` names a latent diffusion model.
    shipped = {name: folder for name, folder in SHIPPED.items() if name.endswith("-gan")}  # noqa: RUF012 (a constant of the base)
    trainer = "ld3m_plugin.generators.glad.training.train_gan:train_prior"
    converter = "ld3m_plugin.generators.glad.gan_convert:convert"
    describer = "ld3m_plugin.generators.glad.gan_describe:describe"

    def recognises(self, path: Path) -> bool:
        if path.is_dir():
            return (path / SHAPE).is_file() and (path / WEIGHTS).is_file()
        # By name alone: `convert` reports a damaged file.
        return path.suffix in (".pkl", ".pickle")
