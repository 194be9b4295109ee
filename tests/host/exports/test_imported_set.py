"""Tensors that other programs saved, as distilled sets."""

import pytest
import torch

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.data.load import load_task
from ld3m_plugin.exports import export


@pytest.fixture
def saved(tmp_path):
    """Ten images of 32 pixels and their labels, as published code saves them."""
    images = torch.randn(10, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.save(images, tmp_path / "images_best.pt")
    torch.save(torch.arange(10), tmp_path / "labels_best.pt")
    return images


LABELS = ("--labels", "labels_best.pt")
SCALE = ("--mean", "0.4", "--std", "0.2")


def test_an_export_comes_back_as_it_was(exported_set, ld3m, tmp_path):
    out = export(exported_set, "glad", tmp_path / "out")
    scale = [",".join(map(str, exported_set.metadata[name])) for name in ("mean", "std")]
    outcome = ld3m(
        *("import", out / "images_best.pt", "--labels", out / "labels_best.pt", "--mean", scale[0], "--std", scale[1]),
        *("--classes", "a, b, c", "--out", "back"),
    )
    assert outcome.code == 0, outcome.err
    back = DistilledSet.load(tmp_path / "back")
    assert torch.equal(back.images, exported_set.images)
    assert torch.equal(back.labels, exported_set.labels)
    assert back.class_names == ["a", "b", "c"]
    assert back.latents is None


@pytest.mark.parametrize(
    ("given", "missing"), [([*LABELS], "--mean"), ([*LABELS, *SCALE[:2]], "--std"), ([*SCALE], "--labels")]
)
def test_what_the_files_do_not_say_must_be_given(saved, ld3m, tmp_path, given, missing):
    outcome = ld3m("import", "images_best.pt", *given, "--out", "set")
    assert outcome.code == 2
    assert missing in outcome.error
    assert not (tmp_path / "set").exists()


def test_images_of_another_scale_become_those_of_the_data(saved, ld3m, tmp_path):
    outcome = ld3m("import", "images_best.pt", *LABELS, *SCALE, "--data", "fashion-mnist:embedded", "--out", "set")
    assert outcome.code == 0, outcome.err
    task, made = load_task("fashion-mnist:embedded"), DistilledSet.load(tmp_path / "set")
    assert made.class_names == list(task.class_names)
    assert made.metadata["mean"] == pytest.approx(list(task.mean))
    assert torch.allclose(task.denormalise(made.images), saved * 0.2 + 0.4, atol=1e-6)


@pytest.mark.slow
def test_an_imported_set_is_evaluated_on_its_data(saved, ld3m, two_epochs):
    ld3m("import", "images_best.pt", *LABELS, *SCALE, "--data", "fashion-mnist:embedded", "--out", "set")
    outcome = ld3m(
        *("evaluate", "set", "--protocol", two_epochs, "--networks", "MLP", "--repeats", "1", "--test-per-class", "5")
    )
    assert outcome.code == 0, outcome.err


class Harmful:
    def __reduce__(self):
        return print, ("this was run",)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("images_best.pt", Harmful()),
        ("labels_best.pt", Harmful()),
        ("images_best.pt", {"images": torch.zeros(3)}),
        ("images_best.pt", torch.zeros(10, 3, 32, 32)),
        ("images_best.pt", torch.zeros(10, 1, 32, 16)),
        ("images_best.pt", torch.zeros(10, 1, 32, 32, dtype=torch.uint8)),
        ("images_best.pt", torch.zeros(10, 1, 32, 32, dtype=torch.complex64)),
        ("images_best.pt", torch.ones(10, 1, 32, 32).to_sparse()),
        ("labels_best.pt", torch.tensor(1)),
        ("labels_best.pt", torch.arange(10) / 2),
        ("labels_best.pt", torch.arange(10) + 10**12),
        ("images_best.pt", torch.full((10, 1, 32, 32), torch.nan)),
        ("labels_best.pt", torch.zeros(9, dtype=torch.int64)),
        ("labels_best.pt", torch.arange(10) - 1),
        ("labels_best.pt", torch.full((10, 4), 0.3)),
        ("labels_best.pt", torch.zeros(0, dtype=torch.int64)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_of_something_else_are_one_line(saved, ld3m, tmp_path, name, content):
    torch.save(content, tmp_path / name)
    outcome = ld3m("import", "images_best.pt", *LABELS, *SCALE, "--out", "set")
    assert outcome.code in (1, 2)
    assert "images" in outcome.error or "labels" in outcome.error or name in outcome.error
    assert "this was run" not in outcome.out
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    "scale", [("--mean", "a", "--std", "1"), ("--mean", "0.5", "--std", "0"), ("--mean", "0.5,0.5", "--std", "1,1")]
)
def test_numbers_that_fit_no_channel_are_refused(saved, ld3m, scale):
    assert ld3m("import", "images_best.pt", *LABELS, *scale, "--out", "set").code == 2


def test_options_without_effect_are_refused(saved, ld3m):
    assert "-G" in ld3m("import", "images_best.pt", *LABELS, *SCALE, "-G", "prior=x", "--out", "set").error
    assert "--mean" in ld3m("import", "x.safetensors", "--mean", "0.5", "--out", "set").error
