"""Random streams, tasks, latents and memory: what everything else stands on."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import field_validator, model_validator

from ld3m_plugin.budgets import GIB, images_at_once
from ld3m_plugin.contracts import Latents
from ld3m_plugin.errors import DataError, InvalidOptionError
from ld3m_plugin.options import Options, build
from ld3m_plugin.randomness import lent_to_global, stream
from ld3m_plugin.storage import complete_folder
from ld3m_plugin.testing import tiny_task


@pytest.mark.slow
@settings(max_examples=30)
@given(st.integers(0, 2**63 - 1), st.text(max_size=8), st.text(max_size=8))
def test_streams_depend_on_seed_and_name_alone(seed, first, second):
    draw = torch.rand(4, generator=stream(seed, first))
    assert torch.equal(draw, torch.rand(4, generator=stream(seed, first)))
    if first != second:
        assert not torch.equal(draw, torch.rand(4, generator=stream(seed, second)))


def test_neighbouring_seeds_are_unrelated():
    draws = torch.stack([torch.rand(1000, generator=stream(seed, "x")) for seed in range(5)])
    correlation = torch.corrcoef(draws) - torch.eye(5)
    # Of 1000 independent pairs the correlation has a standard deviation of 0.03.
    assert correlation.abs().max() < 0.15


def test_lending_advances_the_stream_and_restores_the_global_one():
    before = torch.get_rng_state()
    rng, second = stream(0, "a"), stream(0, "a")
    with lent_to_global(rng):
        first = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, torch.rand(3, generator=second))
    assert torch.equal(torch.rand(3, generator=rng), torch.rand(3, generator=second))


def test_lending_restores_after_an_error():
    before, rng = torch.get_rng_state(), stream(0, "a")

    def fail():
        torch.rand(1)
        raise ValueError

    with pytest.raises(ValueError), lent_to_global(rng):  # noqa: PT011 (any error will do)
        fail()
    assert torch.equal(torch.get_rng_state(), before)


def test_normalise_and_back():
    task = tiny_task(channels=3)
    raw = task.train.read(0, torch.arange(4))
    images = task.normalise(raw)
    torch.testing.assert_close(images, (raw.float() / 255 - 0.5) / 0.25)
    torch.testing.assert_close(task.denormalise(images) * 255, raw.float())


def test_real_images_are_distinct():
    task = tiny_task(train=12)
    images = task.real_images(1, 12, stream(0, "x"))
    assert len(images.flatten(1).unique(dim=0)) == 12


def test_too_few_images_name_class_and_place():
    with pytest.raises(
        DataError, match=r"class 'class 1' has 12 images and 13 are asked for \(random images for tests\)"
    ):
        tiny_task(train=12).real_images(1, 13, stream(0, "x"))


def test_test_set_is_out_of_reach_in_training():
    task = tiny_task()
    assert task.test.counts() == (4, 4, 4)
    with pytest.raises(DataError, match="only evaluation may read it"):
        _ = task.for_training().test


def test_latents_share_rows_and_save(tmp_path):
    latents = Latents({"a": torch.randn(3, 2), "b": torch.arange(3)}, learned=("a",))
    latents.save(tmp_path / "latents.safetensors")
    loaded = Latents.load(tmp_path / "latents.safetensors")
    assert loaded.learned == {"a"}
    assert torch.equal(loaded["a"], latents["a"])
    assert torch.equal(loaded["b"], latents["b"])
    assert torch.equal(latents.rows(slice(1, 3))["b"], torch.tensor([1, 2]))


@pytest.mark.parametrize(
    ("tensors", "learned"),
    [
        ({}, ()),
        ({"a": torch.zeros(2), "b": torch.zeros(3)}, ()),
        ({"a": torch.zeros(2)}, ("b",)),
        ({"a": torch.arange(2)}, ("a",)),
        ({"a": torch.tensor(1.0)}, ("a",)),
    ],
)
def test_latents_that_make_no_sense(tensors, learned):
    with pytest.raises(ValueError, match="latent"):
        Latents(tensors, learned)


def test_images_at_once_by_hand():
    image = torch.zeros(1, 1, 8, 8)
    # The largest output is 4 x 64 floats an image = 1 KiB, three of which live at once.
    forward = lambda x: x.repeat(1, 4, 1, 1).mean((2, 3))  # noqa: E731
    assert images_at_once(forward, image, budget=30 * 1024 / GIB) == 10
    assert images_at_once(forward, image, budget=1e-12) == 1


def test_folder_is_complete_or_not_there(tmp_path):
    def half():
        with complete_folder(tmp_path / "x") as folder:
            (folder / "a").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert list(tmp_path.iterdir()) == []
    with complete_folder(tmp_path / "x") as folder:
        (folder / "a").write_text("whole")
    assert (tmp_path / "x" / "a").read_text() == "whole"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


class _Inner(Options):
    low: int = 0
    high: float = 1

    @model_validator(mode="after")
    def _order(self):
        if self.low >= self.high:
            raise ValueError(f"low = {self.low} must be below high = {self.high}")
        return self


class _Outer(_Inner):
    inner: _Inner = _Inner()
    sizes: tuple[int, ...] = (8, 8)
    even: int = 0

    @field_validator("even")
    @classmethod
    def _even(cls, value):
        if value % 2:
            raise ValueError("must be even")
        return value


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"low": 2}, "x: low = 2 must be below high = 1"),
        ({"inner": {"low": 2}}, "x: inner: low = 2 must be below high = 1"),
        ({"even": 3}, "x: even = 3: must be even"),
        ({"sizes": "16, 16"}, "x: sizes = '16, 16': write [16,16] (a list)"),
        ({"sizes": "(16 32)"}, "x: sizes = '(16 32)': write [16,32] (a list)"),
        ({"sizes": 16}, "x: sizes = 16: write [16] (a list)"),
        ({"sizes": None}, "x: sizes = None: write a list, such as [64,96]"),
        ({"sizes": ""}, "x: sizes = '': write a list, such as [64,96]"),
        ({"high": float("inf")}, "x: high = inf: Input should be a finite number"),
    ],
    ids=str,
)
def test_a_wrong_option_says_what_to_write(values, message):
    with pytest.raises(InvalidOptionError) as error:
        build(_Outer, values, "x")
    assert str(error.value) == message
