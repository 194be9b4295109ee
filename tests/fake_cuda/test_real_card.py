"""On a real card, where there is one: the CPU's numbers, no hidden waiting, runs that go on, and commands from end to end."""

from itertools import product

import pytest
import torch

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.augmentation import DSA, FULL
from ld3m_plugin.data.load import load_task
from ld3m_plugin.distillation.loop import READ_EVERY, Distillation
from ld3m_plugin.distillation.step_record import read_steps
from ld3m_plugin.evaluation.protocols import get_protocol
from ld3m_plugin.evaluation.train_network import train
from ld3m_plugin.networks.build import network_for
from ld3m_plugin.randomness import stream
from ld3m_plugin.synthetic.module import Synthetic
from ld3m_plugin.testing import tiny_task

CUDA = torch.device("cuda")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
GENERATORS = ["pixel", "autoencoder", "ld3m", "ld3m in parts", "glad"]
#: Relative tolerances of losses. DC's distances are between directions of gradients, small ones too, which rounding turns.
LOSS = {"dm": 1e-4, "dc": 1e-2, "dc one by one": 1e-2, "mtt": 1e-3}
PAIRS = [*product(GENERATORS, ["dm", "dc", "dc one by one"]), ("pixel", "mtt")]


@pytest.fixture
def state(registry, config):
    """Makes a distillation of a pair on a device."""

    def make(generator, objective, device=CUDA):
        # The trajectories of these tests are of the tiny task; the priors in the package are of Fashion-MNIST.
        task = tiny_task() if objective == "mtt" else load_task("fashion-mnist:embedded")
        settings = config(generator, objective, device=str(device), tf32="none", images_per_class=2, steps=50)
        return Distillation(settings, task=task, registry=registry)

    return make


@pytest.mark.parametrize(("generator", "objective"), PAIRS)
def test_a_step_has_the_numbers_of_the_cpu(state, generator, objective, relative_error):
    there, here = (state(generator, objective, device) for device in (CUDA, "cpu"))
    for _ in range(2):
        (found,), expected = read_steps([there.step()]), here.step()
        assert found.loss == pytest.approx(expected.loss, rel=LOSS[objective])
        assert dict(found.gradient_norms) == pytest.approx(dict(expected.gradient_norms), rel=10 * LOSS[objective])
    assert relative_error(there.images().cpu(), here.images()) < 10 * LOSS[objective]


@pytest.mark.parametrize(("generator", "objective"), [pair for pair in PAIRS if pair[1] != "mtt"])
def test_a_step_waits_for_nothing(state, generator, objective):
    """But for the step in which the host reads its checks."""
    there = state(generator, objective)
    for _ in range(2):
        there.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(READ_EVERY - 3):
            there.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("render_batch", [None, 3])
def test_a_loop_of_ones_own(render_batch, relative_error):
    """In parts, backward passes are recorded in the thread of the backward pass; the last part is smaller."""
    found = []
    for device in (CUDA, torch.device("cpu")):
        task = load_task("fashion-mnist:embedded").to(device)
        syn = Synthetic("ld3m", task, render_batch=render_batch, tf32="none", steps=2)
        for _ in range(2):
            syn().square().mean().backward()
        found.append([latent.grad.cpu() for _, latent in sorted(syn.named_parameters())])
    assert all(relative_error(one, other) < 1e-3 for one, other in zip(*found, strict=True))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one CUDA device")
def test_a_card_that_is_not_the_current_one_has_the_same_numbers(state, relative_error):
    other, current = (state("ld3m", "dm", device) for device in ("cuda:1", "cuda:0"))
    for _ in range(3):
        other.step()
        current.step()
    assert relative_error(other.images().cpu(), current.images().cpu()) < 10 * LOSS["dm"]


@pytest.mark.parametrize("siamese", [True, False])
@pytest.mark.parametrize("name", [*FULL.split("_"), FULL])
def test_augmentation(name, siamese, relative_error):
    dsa, images = DSA(name), torch.rand(6, 3, 32, 32)
    draw = dsa.draw(images.shape, stream(0, "draw"), siamese=siamese)
    assert relative_error(dsa.apply(images.cuda(), draw).cpu(), dsa.apply(images, draw)) < 1e-5


NETWORKS = ["ConvNet", "AlexNet", "ResNet18", "VGG11", "ViT", "MLP", "SmallViT", "MaxConvNet", "ResNet8"]


@pytest.mark.parametrize("name", NETWORKS)
def test_training(name, relative_error):
    """In double precision, and without dropout, whose masks a card draws by itself."""
    recipe, settings = get_protocol("quick").model_copy(update={"epochs": 3}), {"dropout": 0.0} if "ViT" in name else {}
    logits = []
    for device in (CUDA, torch.device("cpu")):
        task = tiny_task(image_size=32).to(device)
        network = network_for(task, name, settings, stream(0, "network")).double()
        images = task.real_images(0, 6, stream(0, "real")).double()
        labels = torch.arange(6, device=device) % task.num_classes
        trained = train(network, images, labels, recipe, 0.001, stream(0, "training"))
        logits.append(trained(images).detach().cpu())
    assert relative_error(*logits) < 1e-5


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("objective", ["dm", "dc"])
def test_a_state_goes_on(state, generator, objective, relative_error):
    """Kernels that add in any order leave the last digits open."""
    whole, stopped, resumed = (state(generator, objective) for _ in range(3))
    for _ in range(5):
        stopped.step()
    kept = {name: value.cpu() for name, value in stopped.state_dict().items()}
    resumed.load_state_dict(kept)
    for _ in range(4):
        resumed.step()
    for _ in range(9):
        whole.step()
    assert relative_error(resumed.images(), whole.images()) < 10 * LOSS[objective]


@pytest.mark.parametrize("options", [("--autocast", "bf16"), ("--set", "tf32=all"), ()])
def test_a_run_from_end_to_end(ld3m, tmp_path, options):
    common = ["--preset", "demo", "--device", str(CUDA), "--steps", "12", "--networks", "ConvNet,MLP", "--repeats", "2"]
    outcome = ld3m("distill", *common, *options, "--set", "evaluation.test_per_class=20", "--out", "run")
    assert outcome.code == 0, outcome.err
    assert DistilledSet.load(tmp_path / "run" / "distilled").images.isfinite().all()


@pytest.mark.parametrize("kind", ["ldm", "gan"])
def test_a_prior_is_trained(ld3m, tmp_path, kind):
    few = {"ldm": ("-S", "autoencoder_steps=6"), "gan": ("-S", "guide_steps=6")}[kind]
    more = ("-S", "size=tiny", "-S", "steps=6", "-S", "report_per_class=2", "--device", str(CUDA))
    outcome = ld3m("prior", "train", kind, "--data", "fashion-mnist:embedded", *few, *more, "--out", "prior")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "prior" / "quality.md").exists()
