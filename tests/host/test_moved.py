"""Names keep importing from where they were in version 0.1, each moved one with a warning that says where it is now."""

import subprocess
import sys
import warnings
from importlib import import_module

import pytest

import ld3m_plugin
from ld3m_plugin import moved

#: Module of version 0.1 -> its public names.
NAMES = {
    "ld3m_plugin": (
        "DataOptions DifferentiableObjective DistilledSet Generator ImagesByClass Latents Match Network "
        "Objective PriorKind PriorReporter RunConfig Step Task Tracker distill evaluate get_generator "
        "get_network get_objective hookimpl load_task "
    ),
    "ld3m_plugin.contracts": (
        "BackendOptions DataOptions DifferentiableObjective Generator ImagesByClass Latents Match Network "
        "Objective PriorKind PriorReporter Task Tracker "
    ),
    "ld3m_plugin.plugins": (
        "Backend HOST_DISTRIBUTION KINDS Owner PluginRecord Register Registry build_registry default_registry "
    ),
    "ld3m_plugin.rendering": "Precision Rendering render render_with_pull_back",
    "ld3m_plugin.errors": (
        "ArtefactError DataError DuplicateBackendError ExitCode ExpertError HostError InvalidOptionError "
        "NonFiniteError PluginLoadError PriorError UnknownBackendError UnknownOptionError UsageError nearest "
    ),
    "ld3m_plugin.evaluation": "Evaluation ImageSet PROTOCOLS Protocol Row check_evaluation evaluate get_protocol",
    "ld3m_plugin.evaluation.quality": (
        "ClassQuality Quality Reconstruct Reconstruction Sample measure_quality name_without_path reconstruction_error "
    ),
    "ld3m_plugin.augmentation": (
        "DSA DSABrightness DSAColor DSAContrast DSACrop DSACutout DSADraw DSAFlip DSARotate DSASaturation DSAScale "
    ),
    "ld3m_plugin.generators.priors.classes": "class_names imagenet_classes read_classes",
    "ld3m_plugin.generators.ld3m.parts": (
        "load_embedding load_levels load_model load_scheduler one_line weight_files "
    ),
    "ld3m_plugin.generators.ld3m.folder": (
        "AUTOENCODERS CLASS_EMBEDDING FACTS INDEX PriorClass PriorFacts autoencoder_part digest read_facts "
        "read_json save_prior "
    ),
    "ld3m_plugin.generators.glad.folder": (
        "KIND digest empty_network fill load_network read_facts read_shape save_network "
    ),
    "ld3m_plugin.generators.glad.pickles.network": "expected_tensors network_of read_network",
    "ld3m_plugin.objectives.mtt.store": "ExpertSettings StoredExperts open_experts",
}
MOVED = {module for module in NAMES if module.removeprefix("ld3m_plugin.") in moved.MODULES}
RENAMED = {module for module, _ in moved.NAMES}


def forget(module):
    """Let the next import of an old module be the first."""
    for name in [name for name in sys.modules if name == module or name.startswith(f"{module}.")]:
        del sys.modules[name]


@pytest.fixture(params=sorted(moved.MODULES))
def old(request):
    name = f"ld3m_plugin.{request.param}"
    forget(name)
    yield name
    forget(name)


def test_the_table_covers_what_moved():
    assert {module for module in NAMES if module not in KEPT} == MOVED


KEPT = {
    *(
        "ld3m_plugin",
        "ld3m_plugin.contracts",
        "ld3m_plugin.errors",
        "ld3m_plugin.evaluation",
        "ld3m_plugin.augmentation",
    ),
    *("ld3m_plugin.generators.glad.pickles.network", "ld3m_plugin.objectives.mtt.store"),
}


@pytest.mark.parametrize("module", NAMES)
def test_every_public_name_is_still_there(module):
    forget(module) if module in MOVED else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        missing = [name for name in NAMES[module].split() if not hasattr(import_module(module), name)]
    assert missing == []


def test_an_old_module_warns_once_and_names_the_new_one(old):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module = import_module(old)
        import_module(old)
    (warning,) = caught
    assert warning.category is DeprecationWarning
    homes = moved.MODULES[old.removeprefix("ld3m_plugin.")].split()
    for home in homes:
        assert f"ld3m_plugin.{home}" in str(warning.message)
        import_module(f"ld3m_plugin.{home}")
    assert "1.0" in str(warning.message)
    with pytest.raises(AttributeError, match="no_such_name"):
        module.no_such_name  # noqa: B018


def test_old_and_new_names_are_the_same_objects():
    forget("ld3m_plugin.plugins")
    with pytest.warns(DeprecationWarning, match=r"ld3m_plugin\.registry"):
        from ld3m_plugin.plugins import Register, Registry
    from ld3m_plugin import hookspecs, registry

    assert (Registry, Register) == (registry.Registry, hookspecs.Register)


@pytest.mark.parametrize("module", ["ld3m_plugin", "ld3m_plugin.contracts"])
def test_a_renamed_class_warns_and_is_the_new_one(module):
    with pytest.warns(DeprecationWarning, match="TrainingReporter"):
        assert import_module(module).PriorReporter is ld3m_plugin.TrainingReporter


@pytest.mark.slow
def test_the_warning_points_at_the_line_that_imports(tmp_path):
    script = tmp_path / "user.py"
    script.write_text("import os\nfrom ld3m_plugin.rendering import render\n", encoding="utf-8")
    done = subprocess.run([sys.executable, "-P", script], capture_output=True, text=True, check=True)
    assert f"{script}:2: DeprecationWarning" in done.stderr


def test_what_never_existed_is_not_found():
    with pytest.raises(ModuleNotFoundError):
        import_module("ld3m_plugin.no_such_module")
    with pytest.raises(AttributeError, match="no_such_name"):
        ld3m_plugin.no_such_name  # noqa: B018


@pytest.mark.parametrize(
    ("package", "name", "home"),
    [
        ("artefact", "DistilledSet", "artefact.distilled_set"),
        ("comparison", "pictures", "comparison.results"),
        ("priors", "train_prior", "priors.service"),
    ],
)
def test_a_package_that_was_a_module_has_its_names(package, name, home):
    with pytest.warns(DeprecationWarning, match=rf"ld3m_plugin\.{home}\.{name}"):
        found = getattr(import_module(f"ld3m_plugin.{package}"), name)
    assert found is getattr(import_module(f"ld3m_plugin.{home}"), name)
    with pytest.raises(AttributeError, match="no_such_name"):
        import_module(f"ld3m_plugin.{package}").no_such_name  # noqa: B018


def test_everything_can_be_imported_from_an_old_module():
    forget("ld3m_plugin.rendering")
    names: dict[str, object] = {}
    with pytest.warns(DeprecationWarning, match="rendering"):
        exec("from ld3m_plugin.rendering import *", names)  # noqa: S102 (only a module allows it)
    assert {"render", "render_with_pull_back", "Rendering"} <= names.keys()
