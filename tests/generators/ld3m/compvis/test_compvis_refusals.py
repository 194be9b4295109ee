"""Tensors and settings that no prior can be made of: one line about the checkpoint, and nothing is left behind."""

import pickle
from pathlib import Path

import pytest
import torch
import yaml

from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.ld3m.compvis.compvis_checkpoint import read_state
from ld3m_plugin.generators.ld3m.compvis.compvis_convert import convert, convert_state
from ld3m_plugin.generators.ld3m.ldm_prior import load_prior

CONV = "model.diffusion_model.input_blocks.0.0.weight"
LAST = "model.diffusion_model.out.2"
EMBEDDING = "cond_stage_model.embedding.weight"
CODEBOOK = "first_stage_model.quantize.embedding.weight"


def every(change):
    """A change of all tensors of the state."""

    def apply(state):
        for name, value in state.items():
            state[name] = change(value)

    return apply


def one(name, change):
    """A change of one tensor of the state."""
    return lambda state: state.update({name: change(state[name])})


def spoilt(value):
    """One number of the tensor replaced by `value`."""

    def change(tensor):
        tensor = tensor.clone()
        tensor.view(-1)[-1] = value
        return tensor

    return change


def refusal(checkpoint, tmp_path, change, **options):
    """The message about a checkpoint with this change; before the file and after it there is nothing else."""
    path = checkpoint(change=change)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(PriorError) as excinfo:
        convert(path, tmp_path / "prior", **options)
    assert sorted(tmp_path.iterdir()) == before
    message = str(excinfo.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert "again" not in message
    return message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "found"),
    [
        (every(lambda value: (value * 100).to(torch.int8)), "(int8)"),
        (every(lambda value: value.to(torch.complex64)), "(complex64)"),
        (one(CONV, lambda value: value.to(torch.int64)), f"{CONV} (int64)"),
        (one(CONV, lambda value: value.to(torch.float8_e5m2)), f"{CONV} (float8_e5m2)"),
        (one(EMBEDDING, lambda value: value.bool()), f"{EMBEDDING} (bool)"),
        (one(CONV, lambda value: value.to_sparse()), f"{CONV} (sparse_coo)"),
        (one(CONV, lambda value: value.to("meta")), CONV),
        (one(CONV, spoilt(torch.nan)), CONV),
        (one(CODEBOOK, spoilt(-torch.inf)), CODEBOOK),
        (one(EMBEDDING, spoilt(torch.inf)), EMBEDDING),
        (one(CONV, lambda value: spoilt(1e300)(value.double())), CONV),
    ],
)
def test_weights_that_are_no_finite_dense_floats(checkpoint, tmp_path, change, found):
    assert found in refusal(checkpoint, tmp_path, change)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("factor", "found"),
    [
        (torch.tensor(-1.0), "-1.0"),
        (torch.tensor(0.0), "0.0"),
        (torch.tensor(torch.inf), "inf"),
        (torch.tensor(torch.nan), "nan"),
        (torch.ones(2), "shape (2,)"),
        (torch.ones(0), "shape (0,)"),
        (torch.tensor(1j), "complex64"),
        (torch.tensor(1.0, device="meta"), "without values"),
        (torch.tensor([1.0]).to_sparse(), "sparse_coo"),
    ],
    ids=["negative", "zero", "inf", "nan", "two", "none", "complex", "meta", "sparse"],
)
def test_a_scale_factor_is_one_positive_finite_number(checkpoint, tmp_path, factor, found):
    message = refusal(checkpoint, tmp_path, lambda state: state.update(scale_factor=factor))
    assert "scale_factor" in message
    assert message.endswith(found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda value: value.reshape(10, 100), "(10, 100)"),
        (lambda value: value[:10], "(10,)"),
        (lambda value: value.to_sparse(), "sparse_coo"),
        (lambda value: value.to("meta"), "without values"),
        (lambda value: value.to(torch.complex64), "complex64"),
    ],
    ids=["reshaped", "short", "sparse", "meta", "complex"],
)
def test_noise_levels_are_one_number_for_each_timestep(checkpoint, tmp_path, change, found):
    message = refusal(checkpoint, tmp_path, one("alphas_cumprod", change))
    assert all(word in message for word in ("alphas_cumprod", found, "(1000,)"))


@pytest.mark.slow
def test_betas_that_leave_no_signal(checkpoint, tmp_path):
    path = checkpoint(change=lambda state: state.pop("alphas_cumprod"))
    about = yaml.safe_load((tmp_path / "model.yaml").read_text())
    about["model"]["params"] |= {"linear_start": 0.9, "linear_end": 0.99}
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(about))
    with pytest.raises(PriorError, match=r"model\.ckpt .*scheduler_config\.json"):
        convert(path, tmp_path / "prior")
    assert not (tmp_path / "prior").exists()
    about["model"]["params"]["parameterization"] = "v"  # v says where the clean image is even in pure noise
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(about))
    convert(path, tmp_path / "prior")


@pytest.mark.slow
def test_half_precision_ends_at_65504(checkpoint, tmp_path):
    message = refusal(checkpoint, tmp_path, one(CONV, spoilt(7e4)), half=True)
    assert CONV in message
    assert "65504" in message
    convert(checkpoint(change=one(CONV, spoilt(6.5e4))), tmp_path / "halves", half=True)
    assert load_prior(tmp_path / "halves").denoiser.state_dict()["conv_in.weight"].max() == 6.4992e4  # multiples of 32
    convert(checkpoint(change=one(CONV, spoilt(7e4))), tmp_path / "singles")
    assert load_prior(tmp_path / "singles").denoiser.state_dict()["conv_in.weight"].max() == 7e4


@pytest.mark.slow
def test_of_moving_averages_the_values_that_are_not_used_may_be_anything(original):
    config, state = original("ldm_class_conditional")
    network = [name for name in state if name.startswith("model.")]
    averages = {"model_ema." + name.removeprefix("model.").replace(".", ""): state[name] for name in network}
    raw = {name: value * torch.nan if name in network else value for name, value in state.items()}
    convert_state({**raw, **averages}, config)
    last = "model_ema.diffusion_modelout2bias"
    averages[last] = averages[last] * torch.nan
    with pytest.raises(PriorError, match=last):
        convert_state({**state, **averages}, config)


def test_a_network_that_diffusers_cannot_build_is_one_line(original):
    config, state = original("ldm_class_conditional")
    odd = config.unet.model_copy(update={"model_channels": 20})  # what the YAML's own check would stop
    with pytest.raises(PriorError, match="num_channels"):
        convert_state(state, config.model_copy(update={"unet": odd}))


@pytest.mark.slow
def test_what_could_not_be_loaded_is_not_written(checkpoint, tmp_path):
    """Each tensor fits the YAML; that the two networks do not fit each other is found when the prior is read back."""

    def widen(state):
        for part in ("weight", "bias"):
            state[f"{LAST}.{part}"] = torch.cat([state[f"{LAST}.{part}"]] * 2)

    path = checkpoint(change=widen)
    about = yaml.safe_load((tmp_path / "model.yaml").read_text())
    about["model"]["params"]["unet_config"]["params"]["out_channels"] = 6
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(about))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(PriorError) as excinfo:
        convert(path, tmp_path / "prior")
    assert sorted(tmp_path.iterdir()) == before
    message = str(excinfo.value)
    assert message.startswith(str(path))
    assert "partial" not in message, "the folder that it was written to first is of no use to anybody"


class Runs:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


def test_a_plain_pickle_is_refused_in_a_line_of_ours(tmp_path):
    checkpoint, witness = tmp_path / "old.ckpt", tmp_path / "witness"
    checkpoint.write_bytes(pickle.dumps({"state_dict": Runs(witness)}))
    with pytest.raises(PriorError, match=r"old\.ckpt") as caught:
        read_state(checkpoint)
    assert not witness.exists()
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)


def test_another_model_is_not_taken_for_one_without_a_head_count(tmp_path):
    torch.save({"state_dict": {"nope": torch.zeros(1)}}, tmp_path / "other.ckpt")
    with pytest.raises(PriorError, match=r"model\.diffusion_model"):
        convert(tmp_path / "other.ckpt", tmp_path / "out")


def test_references_in_the_yaml_are_refused(tmp_path, checkpoint):
    """Nine lines of YAML can stand for 9^9 texts."""
    path = checkpoint()
    lines = ["a0: &a0 [x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10))]
    text = (tmp_path / "model.yaml").read_text()
    (tmp_path / "model.yaml").write_text("\n".join(lines) + "\n" + text)
    with pytest.raises(PriorError, match=r"model\.yaml .*references") as excinfo:
        convert(path, tmp_path / "prior")
    assert len(str(excinfo.value)) < 300 + len(str(tmp_path))
    assert "\n" not in str(excinfo.value)
