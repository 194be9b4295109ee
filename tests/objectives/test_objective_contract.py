"""Every registered objective passes the contract suite; and the suite catches objectives that break the contract."""

import pytest
import torch

from ld3m_plugin.backends import get_objective
from ld3m_plugin.contracts import DifferentiableObjective, Match, Objective
from ld3m_plugin.registry import default_registry
from ld3m_plugin.testing import check_objective, tiny_task

SMALL = {"batch_real": 8, "network_settings": {"depth": 2, "width": 8}}


#: Options of an objective that has others than `SMALL`.
OPTIONS = {
    "mtt": {"network_settings": SMALL["network_settings"], "expert_epochs": 2, "max_start_epoch": 2, "syn_steps": 3}
}


@pytest.mark.slow
@pytest.mark.parametrize("name", default_registry().names("objective"))
@pytest.mark.parametrize("channels", [1, 3])
def test_objective_keeps_the_contract(name, channels, trained_experts):
    task = tiny_task(channels=channels)
    experts = trained_experts(task) if name == "mtt" else None

    def make():
        objective = get_objective(name, **OPTIONS.get(name, SMALL))
        if experts is not None:
            objective.experts = experts
        return objective

    check_objective(make, task)


class Sound(DifferentiableObjective):
    """A correct objective; each class below breaks one clause."""

    def loss(self, images, labels, step):
        weights = torch.rand(images.shape[1:], generator=self.rng)
        return (images * weights).square().mean()


class WrongSign(Objective):
    def match(self, images, labels, step):
        loss = images.square().sum()
        return Match(float(loss.detach()), -2 * images.detach())


class UsesGlobalStream(Sound):
    def loss(self, images, labels, step):
        return super().loss(images, labels, step) * (1 + torch.rand(()))


class ForgetsItsStream(Sound):
    def load_state_dict(self, state):
        pass


class KeepsTheGraph(Objective):
    def match(self, images, labels, step):
        loss = images.square().sum()
        (gradient,) = torch.autograd.grad(loss, images, create_graph=True)
        return Match(float(loss.detach()), gradient)


def giving(result):
    """An objective that gives what `result` makes of the images."""
    return type("Giving", (Objective,), {"match": lambda self, images, labels, step: result(images.detach())})


class LossAsVector(Sound):
    def loss(self, images, labels, step):
        return images.square().sum((1, 2, 3))


class GrayAlone(Sound):
    """Correct on gray images, wrong in colour."""

    def match(self, images, labels, step):
        match = super().match(images, labels, step)
        return match if images.shape[1] == 1 else Match(match.loss, -match.image_grad)


@pytest.mark.parametrize(
    ("broken", "clause"),
    [
        (giving(lambda x: (1.0, x)), "tuple"),
        (giving(lambda x: Match(1.0, x.double())), "float64"),
        (giving(lambda x: Match(1.0, torch.zeros_like(x).double())), "float64"),
        (giving(lambda x: Match(x.sum((1, 2, 3)), x)), r"\(9,\)"),
        (giving(lambda x: Match(1.0, x[:1])), "image_grad"),
        (giving(lambda x: Match(1.0, x, {"a": "b"})), "metrics"),
        (LossAsVector, r"\(9,\)"),
        (GrayAlone, "lowers the loss"),
        (WrongSign, "lowers the loss"),
        (UsesGlobalStream, "same loss|global random stream"),
        (ForgetsItsStream, "bit for bit"),
        (KeepsTheGraph, "free of a graph"),
    ],
)
def test_suite_catches(broken, clause):
    check_objective(Sound)
    with pytest.raises(AssertionError, match=clause):
        check_objective(broken)


def test_objective_cannot_reach_the_test_set():
    class ReadsTheTestSet(Sound):
        def prepare(self, task, labels, rng):
            super().prepare(task, labels, rng)
            task.test.counts()

    with pytest.raises(Exception, match="only evaluation may read it"):
        check_objective(ReadsTheTestSet)
