"""Names imported on first use, and names that moved in version 0.2: the old ones work until 1.0, with one warning each."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_UNTIL = "1.0"
_PACKAGE = "ld3m_plugin"

#: Old module -> the modules that have its names now, all below `ld3m_plugin`.
MODULES = {
    "artefact_checks": "artefact.reading",
    "card": "artefact.card",
    "checkpoints": "runs.checkpoints",
    "cli.experts": "objectives.mtt.commands",
    "compare": "comparison.points comparison.grid_runner config",
    "data.cifar_classes": "data.cifar",
    "environment": "runs.provenance storage",
    "evaluation.frechet": "priors.quality.frechet",
    "evaluation.judge": "priors.quality.judge",
    "evaluation.quality": "priors.quality.measure",
    "evaluation.quality_report": "priors.quality.quality_report",
    "evaluation.training": "evaluation.train_network",
    "generators.glad.convert": "generators.glad.gan_convert",
    "generators.glad.describe": "generators.glad.gan_describe",
    "generators.glad.folder": "generators.glad.gan_folder generators.glad.stylegan_shape priors.prior_json",
    "generators.glad.generator": "generators.glad.glad_generator",
    "generators.glad.kind": "generators.glad.gan_kind",
    "generators.glad.layers": "generators.glad.stylegan_layers",
    "generators.glad.network": "generators.glad.stylegan_network",
    "generators.glad.options": "generators.glad.glad_options",
    "generators.glad.shape": "generators.glad.stylegan_shape",
    "generators.glad.training.options": "generators.glad.training.gan_training_options",
    "generators.glad.training.train": "generators.glad.training.train_gan",
    "generators.ld3m.compvis.autoencoder": "generators.ld3m.compvis.autoencoder_layout",
    "generators.ld3m.compvis.checkpoint": "generators.ld3m.compvis.compvis_checkpoint",
    "generators.ld3m.compvis.config": "generators.ld3m.compvis.compvis_config",
    "generators.ld3m.compvis.convert": "generators.ld3m.compvis.compvis_convert",
    "generators.ld3m.compvis.unet": "generators.ld3m.compvis.unet_layout",
    "generators.ld3m.describe": "generators.ld3m.ldm_describe",
    "generators.ld3m.folder": "generators.ld3m.ldm_folder",
    "generators.ld3m.generator": "generators.ld3m.ld3m_generator",
    "generators.ld3m.kind": "generators.ld3m.ldm_kind",
    "generators.ld3m.options": "generators.ld3m.ld3m_options",
    "generators.ld3m.parts": "generators.ld3m.diffusers_parts",
    "generators.ld3m.prior": "generators.ld3m.ldm_prior",
    "generators.ld3m.training.autoencoder": "generators.ld3m.training.train_autoencoder",
    "generators.ld3m.training.denoiser": "generators.ld3m.training.train_denoiser",
    "generators.ld3m.training.options": "generators.ld3m.training.ldm_training_options",
    "generators.ld3m.training.report": "generators.ld3m.training.train_ldm",
    "generators.ld3m.training.train": "generators.ld3m.training.train_ldm",
    "generators.priors.batches": "priors.training.batches",
    "generators.priors.classes": "priors.classes",
    "generators.priors.conditioning": "priors.class_matching",
    "generators.priors.facts": "priors.prior_json",
    "generators.priors.options": "priors.training.training_options",
    "generators.priors.origin": "priors.training.origin",
    "generators.priors.phase": "priors.training.phase",
    "generators.priors.report": "priors.training.sample_report",
    "loop": "distillation.loop",
    "memory": "budgets allocator",
    "objectives.dc.objective": "objectives.dc.dc_objective",
    "objectives.mtt.objective": "objectives.mtt.mtt_objective",
    "objectives.mtt.store.experts": "objectives.mtt.store.stored_experts",
    "objectives.mtt.store.files": "objectives.mtt.store.expert_files",
    "objectives.mtt.store.folder": "objectives.mtt.store.store_folder",
    "objectives.mtt.store.images": "objectives.mtt.store.training_images",
    "objectives.mtt.store.key": "objectives.mtt.store.store_identity objectives.mtt.store.store_format",
    "objectives.mtt.store.plan": "objectives.mtt.store.expert_plan",
    "objectives.mtt.store.settings": "objectives.mtt.store.expert_settings",
    "objectives.mtt.store.training": "objectives.mtt.store.train_experts",
    "optimizer": "distillation.optimizer",
    "pictures": "artefact.pictures",
    "plugins": "registry hookspecs",
    "prior_contract": "priors.contract",
    "provenance": "runs.provenance",
    "rendering": "distillation.rendering",
    "reporting": "priors.contract",
    "run": "runs.run",
}

#: (module, old name) -> new name in the same module.
NAMES = {
    ("ld3m_plugin", "PriorReporter"): "TrainingReporter",
    ("ld3m_plugin.contracts", "PriorReporter"): "TrainingReporter",
    ("ld3m_plugin.priors.contract", "PriorReporter"): "TrainingReporter",
}

#: A package that was a module -> the modules that have its names now.
PACKAGES = {
    "artefact": "artefact.distilled_set",
    "comparison": "comparison.results comparison.grid_runner",
    "priors": "priors.service",
}

# Packages that are gone; their modules are in `MODULES`.
_PACKAGES = {"generators.priors"}


def renamed(module: str, name: str) -> Any:
    """Get the object that `module` had under the old `name`, and warn.

    Raises:
        AttributeError: there was no such name.
    """
    new = NAMES.get((module, name))
    if new is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    warnings.warn(
        f"{module}.{name} is {module}.{new} now; the old name goes in version {_UNTIL}",
        DeprecationWarning,
        stacklevel=3,
    )
    return getattr(import_module(module), new)


def lazy(module: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Make a module's `__getattr__`: names are imported on first use, so that listing plugins imports no torch.

    Args:
        homes: name -> the module that has it.
    """

    def get(name: str) -> Any:
        return getattr(import_module(homes[name]), name) if name in homes else renamed(module, name)

    return get


def was_module(package: str) -> Callable[[str], Any]:
    """Make the `__getattr__` of a package that was a module in version 0.1: its old names are found, with a warning."""
    homes = PACKAGES[package.removeprefix(f"{_PACKAGE}.")]

    def get(name: str) -> Any:
        home, found = _search(package, homes, name)
        warnings.warn(
            f"{package}.{name} is {home}.{name} now; the old name goes in version {_UNTIL}",
            DeprecationWarning,
            stacklevel=2,
        )
        return found

    return get


def _search(module: str, homes: str, name: str) -> tuple[str, Any]:
    """The module of `homes` that has `name`, and what it is there; special names are never looked for."""
    for home in () if name.startswith("__") else homes.split():
        new = import_module(f"{_PACKAGE}.{home}")
        if hasattr(new, name):
            return new.__name__, getattr(new, name)
    raise AttributeError(f"module {module!r} has no attribute {name!r}")


def _own_names(module: ModuleType) -> list[str]:
    mine = [
        name for name, value in vars(module).items() if getattr(value, "__module__", module.__name__) == module.__name__
    ]
    return [name for name in mine if name[0] != "_" and not isinstance(vars(module)[name], ModuleType)]


class _Finder(MetaPathFinder, Loader):
    """Finds the old modules. It comes last, so that it is asked only for what no file has."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        old = fullname.removeprefix(f"{_PACKAGE}.")
        if old in _PACKAGES:
            return ModuleSpec(fullname, self, is_package=True)
        if old not in MODULES or old == fullname:
            return None
        new = " and ".join(f"{_PACKAGE}.{home}" for home in MODULES[old].split())
        warnings.warn(
            f"{fullname} is {new} now; the old name goes in version {_UNTIL}", DeprecationWarning, stacklevel=2
        )
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to Python to make an empty module."""

    def exec_module(self, module: ModuleType) -> None:
        homes = MODULES.get(module.__name__.removeprefix(f"{_PACKAGE}."), "")

        def get(name: str) -> Any:
            if name == "__all__":  # for `from old import *`
                news = [import_module(f"{_PACKAGE}.{home}") for home in homes.split()]
                return sorted({name for new in news for name in getattr(new, "__all__", None) or _own_names(new)})
            return _search(module.__name__, homes, name)[1]

        module.__dict__["__getattr__"] = get


def install() -> None:
    """Let the old modules be imported; called once, by the package."""
    sys.meta_path.append(_Finder())
