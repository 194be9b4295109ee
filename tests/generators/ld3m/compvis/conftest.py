"""Checkpoints with the names of the original code, made as the golden files say."""

import copy
import importlib.util
import json
from pathlib import Path

import pytest
import torch
import yaml

from ld3m_plugin.generators.ld3m.compvis.compvis_config import parse_config

DATA = Path(__file__).parents[3] / "data"
DESCRIPTIONS = {
    stem: json.loads((DATA / f"{stem}.json").read_text()) for stem in ("ldm_class_conditional", "ldm_unconditional")
}


class Named:
    """Looks like a network to the fixture that sets golden weights."""

    def __init__(self, shapes):
        self.tensors = {name: torch.empty(shape) for name, shape in shapes.items()}

    def named_parameters(self):
        return self.tensors.items()


@pytest.fixture
def tensors(set_golden_weights):
    """`tensors(shapes)`: the golden rule's weights for these names."""
    return lambda shapes: set_golden_weights(Named(shapes)).tensors


@pytest.fixture
def description():
    """The description in a golden file: `config`, `parameters`, `buffers`, `ddim_timesteps`, ..."""
    return lambda stem: copy.deepcopy(DESCRIPTIONS[stem])


@pytest.fixture
def original(description, tensors):
    """`original(stem)`: configuration and state_dict of a golden model as its checkpoint holds them."""

    def make(stem):
        about = description(stem)
        state = tensors(about["parameters"])
        betas = torch.linspace(0.0015**0.5, 0.0195**0.5, 1000, dtype=torch.float64) ** 2
        buffers = {name: torch.zeros(shape) for name, shape in about["buffers"].items()}
        buffers |= {"betas": betas.float(), "alphas_cumprod": (1 - betas).cumprod(0).float()}
        return parse_config(about["config"], stem), {**buffers, **state}

    return make


@pytest.fixture
def checkpoint(tmp_path, original, description):
    """A golden model as a Lightning checkpoint with its YAML: `checkpoint(stem, change=...)`."""

    def write(stem="ldm_class_conditional", change=None):
        _, state = original(stem)
        if change is not None:
            change(state)
        torch.save(
            {"state_dict": state, "global_step": 7, "optimizer_states": [{"state": {}}]}, tmp_path / "model.ckpt"
        )
        config = {"model": {"base_learning_rate": 1e-4, **description(stem)["config"]}}
        (tmp_path / "model.yaml").write_text(yaml.safe_dump(config))
        return tmp_path / "model.ckpt"

    return write


@pytest.fixture(scope="session")
def exact(golden):
    """`exact(stem)`: inputs of a golden file, widened to float64, and what the published code makes of them in float64."""

    def load(stem):
        inputs = {name: v.double() if v.is_floating_point() else v for name, v in golden(stem).items()}
        return inputs, golden(f"{stem}_float64")

    return load


@pytest.fixture(scope="session")
def second_form():
    """The class in `second_form.py`; a folder of tests is not a package, so it is read by its path."""
    specification = importlib.util.spec_from_file_location("second_form", Path(__file__).with_name("second_form.py"))
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.SecondForm
