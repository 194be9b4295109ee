"""`ld3m train-on`: one network, its file, and what it shares with an evaluation."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.data.load import load_task
from ld3m_plugin.evaluation import evaluate
from ld3m_plugin.evaluation.train_network import accuracy
from ld3m_plugin.networks.build import get_network

EMBEDDED = ("--data", "fashion-mnist:embedded")


@pytest.fixture(scope="module")
def task():
    return load_task("fashion-mnist:embedded")


@pytest.fixture
def saved(task, tmp_path):
    """A set of ten real images in tmp_path/set."""
    labels = torch.arange(10)
    images = task.real_images_of(labels, torch.Generator().manual_seed(0))
    facts = {"class_names": list(task.class_names), "mean": list(task.mean), "std": list(task.std), "seed": 3}
    made = DistilledSet(images, labels, facts)
    made.save(tmp_path / "set")
    return made


@pytest.mark.slow
def test_the_network_is_the_first_of_an_evaluation_and_its_file_has_all_of_it(saved, task, ld3m, tmp_path, two_epochs):
    outcome = ld3m("train-on", "set", "--network", "MLP", *EMBEDDED, "--protocol", two_epochs, "--out", "w.safetensors")
    assert outcome.code == 0, outcome.err
    with safe_open(tmp_path / "w.safetensors", framework="pt") as file:
        header = file.metadata()
    network = get_network(header["network"], **json.loads(header["settings"]))
    network.load_state_dict(load_file(tmp_path / "w.safetensors"))
    reached = accuracy(network, task)
    assert float(header["accuracy"]) == pytest.approx(reached, abs=1e-4)
    assert f"{reached:.1f} %" in outcome.out
    table = evaluate(saved, task, networks=["MLP"], protocol=two_epochs, repeats=1, random_real=False, seed=3)
    assert table.rows[0].accuracies == (reached,)
    assert json.loads(header["class_names"]) == list(task.class_names)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--network", "ConvNat", *EMBEDDED],
        ["--network", "MLP", *EMBEDDED, "--protocol", "quik"],
        ["--network", "MLP"],
        ["--network", "MLP", *EMBEDDED, "-D", "image_size=16"],
    ],
    ids=["network", "protocol", "no data", "size"],
)
def test_mistakes_are_found_before_the_training(saved, ld3m, tmp_path, arguments):
    outcome = ld3m("train-on", "set", *arguments, "--out", "w.safetensors")
    assert outcome.code in (1, 2)
    assert outcome.error
    assert "training" not in outcome.err.replace(outcome.error, "")
    assert not (tmp_path / "w.safetensors").exists()


def test_a_file_that_is_there_stays(saved, ld3m, tmp_path):
    (tmp_path / "w.safetensors").write_text("mine")
    assert ld3m("train-on", "set", "--network", "MLP", *EMBEDDED, "--out", "w.safetensors").code == 2
    assert (tmp_path / "w.safetensors").read_text() == "mine"


@pytest.mark.parametrize(
    "command", [("evaluate", "set"), ("train-on", "set", "--network", "MLP", "--out", "w.safetensors")]
)
def test_a_set_of_tensors_asks_for_data(saved, ld3m, tmp_path, command):
    data = {"name": "tensors", "options": {}}
    DistilledSet(saved.images, saved.labels, {**saved.metadata, "config": {"data": data}}).save(tmp_path / "set")
    outcome = ld3m(*command)
    assert outcome.code in (1, 2)
    assert "'tensors': give --data" in outcome.error
