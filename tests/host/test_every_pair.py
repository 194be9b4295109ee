"""Any generator with any objective, through the command line: the built-ins with each other, and strangers with all of them.

What an objective is given here depends on the objective alone, and a generator is given nothing.
"""

import itertools
from statistics import mean

import pytest
import torch

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.backends import get_objective
from ld3m_plugin.config import parse_assignment
from ld3m_plugin.data.load import load_task
from ld3m_plugin.randomness import stream
from ld3m_plugin.registry import default_registry

DATA = "fashion-mnist:embedded"
GENERATORS, OBJECTIVES = (default_registry().names(kind) for kind in ("generator", "objective"))

_NETWORK = "network_settings={width: 16}"
_MATCHING = (_NETWORK, "batch_real=16")
#: What makes an objective quick; one that is not named takes no options.
QUICK = {
    "dm": _MATCHING,
    "dc": _MATCHING,
    "mtt": (_NETWORK, "syn_steps=5", "expert_epochs=1", "max_start_epoch=2", "expert_settings={count: 1}"),
}

# A generator and an objective that know of nothing but the contracts.
STRANGERS = """
import torch

from ld3m_plugin import DifferentiableObjective, Generator, Latents, hookimpl


class Rows(Generator):
    '''One learned row of pixels, stretched over the image.'''

    def prepare(self, task):
        self.task = task

    def initial_latents(self, task, labels, rng):
        return Latents({"row": torch.randn(len(labels), task.channels, 1, task.image_size, generator=rng)}, ("row",))

    def render(self, latents):
        return latents["row"].expand(-1, -1, self.task.image_size, -1).contiguous()

    def learning_rates(self):
        return {"row": 0.05}


class MeanImages(DifferentiableObjective):
    '''Images of a class should be the mean of some real ones.'''

    def loss(self, images, labels, step):
        real = [self.task.real_images(k, 16, self.rng).mean(0) for k in range(self.task.num_classes)]
        return (images - torch.stack(real)[labels]).square().mean()


@hookimpl
def register_generators(register):
    register("rows", Rows)


@hookimpl
def register_objectives(register):
    register("mean-images", MeanImages)
"""


@pytest.fixture(scope="module")
def task():
    return load_task(DATA, device="cpu").for_training()


@pytest.fixture(scope="module")
def experts(tmp_path_factory):
    """A folder with the one expert of two epochs that `QUICK` asks for, trained on the embedded images."""
    from ld3m_plugin.objectives.mtt.commands import train_command

    root = tmp_path_factory.mktemp("experts")
    train_command(root, DATA, settings=[_NETWORK], count=1, epochs=2, device="cpu")
    return root


@pytest.fixture
def distil(ld3m, tmp_path, experts, monkeypatch):
    """Runs a pair from its initial images for some steps, and gives what it wrote."""
    monkeypatch.setenv("LD3M_EXPERTS", str(experts))

    def distil(generator, objective, steps):
        options = [word for option in QUICK.get(objective, ()) for word in ("-O", option)]
        pair = ("-g", generator, "-o", objective, *options)
        out = f"{generator}-{objective}-{steps}"
        done = ld3m("distill", "--data", DATA, *pair, "--steps", steps, "--no-evaluate", "--out", out)
        assert done.code == 0, done.err
        return DistilledSet.load(tmp_path / out)

    return distil


@pytest.fixture
def loss_of(task, distil):
    """The mean of an objective's loss over some draws, the same for all images: a fresh objective on a stream of its own."""

    def loss_of(objective, distilled):
        made = get_objective(objective, **dict(map(parse_assignment, QUICK.get(objective, ()))))
        made.prepare(task, distilled.labels, stream(0, "judge"))
        images = distilled.images
        return mean(made.match(images.clone().requires_grad_(), distilled.labels, step).loss for step in range(6))

    return loss_of


@pytest.fixture
def improves(distil, loss_of):
    """Checks that a pair ends with a lower loss than that of its own initial images."""

    def improves(generator, objective):
        first, last = distil(generator, objective, 0), distil(generator, objective, 8)
        assert last.images.shape == first.images.shape
        assert torch.isfinite(last.images).all()
        before, after = (loss_of(objective, distilled) for distilled in (first, last))
        assert after < before

    return improves


@pytest.mark.slow
@pytest.mark.parametrize(("generator", "objective"), list(itertools.product(GENERATORS, OBJECTIVES)))
def test_every_built_in_pair_improves_on_its_own_initial_images(improves, generator, objective):
    improves(generator, objective)


@pytest.mark.slow
@pytest.mark.parametrize("objective", [*OBJECTIVES, "mean-images"])
def test_a_strange_generator_runs_with_every_objective(site, improves, objective):
    site.add("strangers", {"strangers": STRANGERS})
    improves("rows", objective)


@pytest.mark.slow
@pytest.mark.parametrize("generator", GENERATORS)
def test_a_strange_objective_runs_with_every_generator(site, improves, generator):
    site.add("strangers", {"strangers": STRANGERS})
    improves(generator, "mean-images")
