"""Networks that diverge: the definition by arithmetic, the record, and gradient clipping against a second form."""

import math

import pytest
import torch
from torch import nn

from ld3m_plugin.contracts import Network
from ld3m_plugin.evaluation import Evaluation, Row, evaluate_random_real, get_protocol
from ld3m_plugin.evaluation.divergence import has_diverged
from ld3m_plugin.evaluation.train_network import train
from ld3m_plugin.networks.build import get_network
from ld3m_plugin.randomness import stream
from ld3m_plugin.testing import tiny_task

QUICK = get_protocol("quick")
LABELS = torch.tensor([0, 1, 2, 3])


class Says(Network):
    """Gives these logits (N, K), whatever the images."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, images):
        return self.logits


def diverged(logits, labels=LABELS):
    return has_diverged(Says(torch.as_tensor(logits)), torch.zeros(len(labels), 1), labels)


def test_an_answer_that_is_the_same_for_all_images_has_diverged():
    assert diverged(torch.zeros(4, 4))
    assert diverged(torch.tensor([3.0, 0.0, 0.0, 0.0]).expand(4, 4))
    assert diverged(torch.full((4, 4), math.nan))
    assert diverged(torch.full((4, 4), math.inf))


def test_a_network_that_knows_some_of_its_images_has_not():
    assert not diverged(10 * torch.eye(4))
    # Sure of itself and mostly wrong: the loss is above ln 4, but half of the answers are right.
    wrong = 10 * torch.eye(4)[[0, 1, 0, 0]]
    assert nn.functional.cross_entropy(wrong, LABELS) > math.log(4)
    assert not diverged(wrong)
    # Right about nothing yet, and closer than chance.
    assert not diverged(torch.tensor([[1.0, 1.1, 0, 0], [1.1, 1.0, 0, 0], [0, 0, 1.0, 1.1], [0, 0, 1.1, 1.0]]))


def test_classes_of_unequal_size_are_measured_by_the_best_constant_answer():
    labels = torch.tensor([0, 0, 0, 1])
    best = torch.tensor([0.75, 0.25]).log().expand(4, 2)  # its loss is below ln 2
    assert nn.functional.cross_entropy(best, labels) < math.log(2)
    assert diverged(best, labels)
    soft = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    assert diverged(torch.zeros(2, 2), soft)
    assert not diverged(soft.log(), soft)


def test_a_rate_that_is_too_large_is_recorded_as_diverged():
    task = tiny_task(image_size=8)
    recipe = QUICK.model_copy(update={"epochs": 5, "dsa": "none", "learning_rate": 1e6, "learning_rates": {}})
    found = evaluate_random_real(torch.tensor([0, 1, 2]), task, networks=["MLP"], protocol=recipe, repeats=2)
    assert found.rows[0].diverged == (0, 1)
    assert found.record()["rows"][0]["diverged"] == (0, 1)
    assert "2 diverged" in str(found.rows[0])
    assert Evaluation.from_record(found.record()).rows[0].diverged == (0, 1)


def test_older_records_say_nothing_of_it():
    row = {"images": "distilled", "network": "MLP", "accuracies": [10.0]}
    record = {"protocol": QUICK.model_dump(), "rows": [row], "test_images": 1, "seed": 0, "seconds": 1.0, "data": ""}
    assert Evaluation.from_record(record).rows[0].diverged == ()
    assert str(Row("distilled", "MLP", (10.0,))) == "10.0 (n=1)"


def test_a_protocol_without_clipping_has_the_record_of_before():
    assert "gradient_clip" not in QUICK.model_dump()
    assert QUICK.model_copy(update={"gradient_clip": 1.0}).model_dump()["gradient_clip"] == 1.0


@pytest.mark.parametrize("clip", [None, 1e-3, 1e3])
def test_clipped_gradients_are_scaled_to_the_norm(clip):
    task, rng = tiny_task(image_size=8), torch.Generator().manual_seed(0)
    images, labels = task.real_images_of(torch.tensor([0, 1, 2]), stream(0, "x")), torch.tensor([0, 1, 2])
    update = {"epochs": 1, "dsa": "none", "gradient_clip": clip, "momentum": 0.0, "weight_decay": 0.0}
    settings = {"channels": 1, "image_size": 8, "num_classes": 3, "width": 4}
    trained = get_network("MLP", rng=stream(0, "w"), **settings)
    train(trained, images, labels, QUICK.model_copy(update=update), 0.1, rng)
    other = get_network("MLP", rng=stream(0, "w"), **settings)
    nn.functional.cross_entropy(other(images), labels).backward()
    norm = torch.cat([p.grad.flatten() for p in other.parameters()]).norm()
    scale = 1.0 if clip is None else min(1.0, clip / float(norm))
    for now, before in zip(trained.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(now, before - 0.1 * scale * before.grad, rtol=1e-4, atol=1e-7)
