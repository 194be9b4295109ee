"""`ld3m prior train gan`: its losses, and the whole on tiny networks."""

import json
import math

import pytest
import torch
from accelerate.state import AcceleratorState
from torch.nn import functional as F

from ld3m_plugin.augmentation import DSA
from ld3m_plugin.backends import get_generator
from ld3m_plugin.contracts import TrainingReporter
from ld3m_plugin.errors import InvalidOptionError, PriorError, UsageError
from ld3m_plugin.generators.glad.gan_folder import digest, load_network
from ld3m_plugin.generators.glad.stylegan_network import GeneratorNetwork
from ld3m_plugin.generators.glad.training.adversarial import AdversarialLoss, Adversaries
from ld3m_plugin.generators.glad.training.discriminator import Discriminator, _deviation
from ld3m_plugin.generators.glad.training.gan_training_options import GanTrainingOptions
from ld3m_plugin.generators.glad.training.train_gan import train_prior
from ld3m_plugin.generators.imaging import PictureSpace
from ld3m_plugin.options import build
from ld3m_plugin.priors.service import describe_prior
from ld3m_plugin.priors.training.batches import RealBatches
from ld3m_plugin.randomness import stream
from ld3m_plugin.testing import check_generator, tiny_task

TASK = tiny_task(image_size=16)
TINY = {
    "layers": 4,
    "channel_base": 64,
    "channel_max": 6,
    "z_dim": 4,
    "w_dim": 6,
    "embedding_size": 4,
    "discriminator_channels": (4, 6),
    "steps": 6,
    "batch_size": 8,
    "r1_every": 2,
    "guide_steps": 4,
    "warmup": 2,
    "save_every": 2,
    "samples_every": 4,
    "judge_epochs": 1,
    "judge_least_steps": 4,
}


def options(**more):
    return GanTrainingOptions(**{**TINY, **more})


def adversaries(chosen):
    generator = GeneratorNetwork(chosen.shape(TASK))
    return Adversaries(generator, Discriminator(1, 16, 3, chosen.discriminator_channels)).double()


class DoubleBatches(RealBatches):
    def draw(self, rng):
        pictures, classes = super().draw(rng)
        return pictures.double(), classes


def loss_of(chosen, guide=None):
    space = PictureSpace(TASK, 1, "none")
    return AdversarialLoss(DoubleBatches(TASK, chosen.batch_size), guide, space, chosen)


class Constant(torch.nn.Module):
    """A classifier whose logits are the mean brightness times a factor of the class."""

    def forward(self, images):
        return images.mean((1, 2, 3))[:, None] * torch.arange(3.0, dtype=images.dtype)


@pytest.mark.slow
@pytest.mark.parametrize(("r1", "guided", "augment"), [(0.0, False, "none"), (0.5, False, "crop"), (0.0, True, "flip")])
def test_each_player_is_moved_by_its_own_loss(r1, guided, augment):
    """Against the two losses computed apart, each differentiated for its own network, with the same random numbers."""
    chosen = options(r1=r1, r1_every=1, augment=augment, guide=0.3)
    model = adversaries(chosen).eval()
    guide = Constant() if guided else None
    loss, values = loss_of(chosen, guide)(model, stream(0, "loss"))
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    rng = stream(0, "loss")
    real, classes = DoubleBatches(TASK, 8).draw(rng)
    z = torch.randn(8, 4, generator=rng)
    torch.randint(1, (), generator=rng)
    dsa = DSA(augment)
    draw = dsa.draw(real.shape, rng, siamese=False)
    fake = model.generator(z, classes)
    discriminator = model.discriminator
    seen = dsa.apply(real, draw).detach().requires_grad_()
    on_real, on_fake = discriminator(seen, classes), discriminator(dsa.apply(fake, draw).detach(), classes)
    d_loss = -torch.log(torch.sigmoid(on_real)).mean() - torch.log(1 - torch.sigmoid(on_fake)).mean()
    if r1:
        (slope,) = torch.autograd.grad(on_real.sum(), seen, create_graph=True)
        d_loss = d_loss + r1 / 2 * slope.square().sum() / 8
    g_loss = -torch.log(torch.sigmoid(discriminator(dsa.apply(fake, draw), classes))).mean()
    if guided:
        unit = (fake + 1) / 2
        g_loss = g_loss + 0.3 * F.cross_entropy(Constant()((unit - 0.5) / 0.25), classes)
    assert float(loss.detach()) == pytest.approx(float((d_loss + g_loss).detach()), rel=1e-6)
    assert ("guide" in values) == guided
    for player, one in ((model.generator, g_loss), (discriminator, d_loss)):
        names = dict(model.named_parameters())
        for parameter in player.parameters():
            index = next(i for i, p in enumerate(names.values()) if p is parameter)
            (expected,) = torch.autograd.grad(one, parameter, retain_graph=True, allow_unused=True)
            if expected is None:
                assert found[index] is None or not found[index].any()
            else:
                assert torch.allclose(found[index], expected, rtol=1e-5, atol=1e-9)


@pytest.mark.slow
def test_r1_comes_every_few_updates_and_as_many_times_as_heavy():
    chosen = options(r1=1.0, r1_every=4)
    without = options(r1=0.0, r1_every=4)
    model = adversaries(chosen).eval()
    extra = [
        float(
            loss_of(chosen)(model, stream(n, "r1"))[0].detach() - loss_of(without)(model, stream(n, "r1"))[0].detach()
        )
        for n in range(40)
    ]
    heavy = [value for value in extra if abs(value) > 1e-9]
    assert 3 < len(heavy) < 20
    each = float(loss_of(options(r1=1.0, r1_every=1))(model, stream(0, "r1"))[0].detach())
    none = float(loss_of(options(r1=0.0, r1_every=1))(model, stream(0, "r1"))[0].detach())
    assert min(heavy) > 0
    assert sum(heavy) / len(heavy) == pytest.approx(4 * (each - none), rel=0.5)


def test_the_discriminator_sees_class_and_repetition():
    discriminator = Discriminator(1, 16, 3, (4, 6))
    images = torch.randn(4, 1, 16, 16)
    zero, two = (discriminator(images, torch.full((4,), k)) for k in (0, 2))
    assert not torch.allclose(zero, two)
    hidden = torch.randn(4, 2, 3, 3)
    by_hand = hidden.var(0, unbiased=False).add(1e-8).sqrt().mean()
    assert torch.allclose(_deviation(hidden), by_hand.expand(4, 1, 3, 3))
    assert float(_deviation(hidden[:1].expand(4, -1, -1, -1)).max()) < 1e-3
    assert torch.isfinite(_deviation(hidden[:1])).all()


def test_mean_styles_are_means_over_random_vectors():
    network = GeneratorNetwork(options().shape(TASK))
    network.mapping.set_mean_styles(stream(0, "a"))
    z = torch.randn(20_000, 4, generator=stream(1, "b"))
    for k in range(3):
        other = network.mapping(z, torch.full((len(z),), k)).detach()
        # Standard errors of two means over 10,000 and 20,000.
        error = other.std(0) * math.sqrt(1 / 10_000 + 1 / 20_000)
        assert ((network.mapping.w_avg[k] - other.mean(0)).abs() < 5 * error).all()


class Notes(TrainingReporter):
    """Notes all reports; raises KeyboardInterrupt after update `stop_at`."""

    def __init__(self, stop_at=None):
        self.phases, self.steps, self.said, self.stop_at = [], [], [], stop_at

    def phase(self, name, total, done=0, unit="step"):
        self.phases.append((name, total, done))

    def step(self, done, values):
        self.steps.append((self.phases[-1][0], done, dict(values)))
        if self.phases[-1][0] == "gan" and done == self.stop_at:
            raise KeyboardInterrupt

    def say(self, text):
        self.said.append(text)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gan") / "prior"
    notes = Notes()
    train_prior(TASK, options(half=True, licence="CC0"), 0, folder, notes)
    return folder, notes


@pytest.mark.slow
def test_what_a_training_leaves(trained):
    folder, notes = trained
    assert {path.name for path in folder.iterdir()} == {
        *("network.json", "network.safetensors", "prior.json", "training.json"),
        *("quality.json", "quality.md", "samples.png"),
    }
    assert [name for name, *_ in notes.phases] == [
        "guide, a classifier",
        "gan",
        "quality report: classifier",
        "quality report: samples",
    ]
    assert all(math.isfinite(value) for *_, values in notes.steps for value in values.values())
    facts = describe_prior(folder)
    assert facts["kind"] == "gan"
    assert facts["source"] == "trained with `ld3m prior train gan` on 36 images of tiny, seed 0"
    assert facts["licence"] == "CC0"
    quality = json.loads((folder / "quality.json").read_text())
    assert quality["prior_sha256"] == digest(folder)
    assert len(quality["classes"]) == 3
    assert quality["reconstruction"] is None
    record = json.loads((folder / "training.json").read_text())
    assert record["options"]["steps"] == 6
    assert set(record["seconds"]) == {"gan"}
    assert (folder.with_name("prior.training") / "samples-000004.png").is_file()


def test_a_trained_prior_serves_the_generator(trained):
    check_generator(lambda: get_generator("glad", network=str(trained[0])), TASK)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_a_stop_changes_nothing(trained, tmp_path):
    chosen = options(half=True, licence="CC0")
    with pytest.raises(KeyboardInterrupt):
        train_prior(TASK, chosen, 0, tmp_path / "prior", Notes(stop_at=3))
    assert not (tmp_path / "prior").exists()
    notes = Notes()
    train_prior(TASK, chosen, 0, tmp_path / "prior", notes)
    assert ("gan", 6, 3) in notes.phases
    assert digest(tmp_path / "prior") == digest(trained[0])
    train_prior(TASK, chosen, 1, tmp_path / "other", Notes())
    assert digest(tmp_path / "other") != digest(trained[0])


@pytest.mark.slow
def test_a_state_of_other_settings_is_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train_prior(TASK, options(), 0, tmp_path / "prior", Notes(stop_at=2))
    for change in ({"channel_max": 5}, {"r1": 0.3}, {"steps": 7}, {"discriminator_channels": (4, 8)}):
        with pytest.raises(PriorError, match=r"prior\.training"):
            train_prior(TASK, options(**change), 0, tmp_path / "prior", Notes())


@pytest.mark.slow
def test_the_average_and_not_the_last_weights_are_kept(trained, tmp_path):
    train_prior(TASK, options(half=True, licence="CC0", ema=0.0), 0, tmp_path / "last", Notes())
    average, last = (load_network(folder)[0].state_dict() for folder in (trained[0], tmp_path / "last"))
    name = "synthesis.L1_20_6.weight"
    assert name in average
    assert not torch.equal(average[name], last[name])


@pytest.fixture
def other_precision():
    """accelerate keeps one precision for each process."""
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


@pytest.mark.slow
@pytest.mark.usefixtures("other_precision")
def test_training_in_half_precision(tmp_path):
    train_prior(TASK, options(mixed_precision="bf16", steps=2, r1_every=1), 0, tmp_path / "prior", Notes())
    network, _ = load_network(tmp_path / "prior")
    assert all(tensor.isfinite().all() for tensor in network.state_dict().values())


def test_widths_never_fall_to_zero():
    assert min(layer.out_channels for layer in options(channel_base=2).shape(TASK).layers) == 1


def test_what_is_refused_before_the_work(tmp_path):
    with pytest.raises(InvalidOptionError, match=r"discriminator_channels.*image_size=32"):
        train_prior(TASK, options(discriminator_channels=(2,) * 6), 0, tmp_path / "prior", Notes())
    for size, wanted in ((8, 16), (20, 32), (48, 64)):
        with pytest.raises(InvalidOptionError, match=rf"\b{size}\b.*image_size={wanted}"):
            train_prior(tiny_task(image_size=size), options(), 0, tmp_path / "prior", Notes())
    (tmp_path / "prior.training").mkdir()
    (tmp_path / "prior.training" / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match=r"prior\.training"):
        train_prior(TASK, options(), 0, tmp_path / "prior", Notes())
    for wrong, name in (
        ({"augment": "crop_twirl"}, "twirl"),
        ({"discriminator_channels": (0,)}, "discriminator_channels"),
        ({"layers": 3}, "layers"),
        ({"truncation": 2}, "truncation"),
    ):
        with pytest.raises(UsageError, match=name):
            build(GanTrainingOptions, wrong, "training of prior 'gan'")


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path):
    with pytest.raises(PriorError, match=r"\bgan\b"):
        train_prior(TASK, options(rate=1e12, steps=40), 0, tmp_path / "prior", Notes())
