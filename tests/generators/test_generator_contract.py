"""Every registered generator passes the contract suite, and the suite fails generators that break the contract."""

import pytest
import torch

from ld3m_plugin.backends import get_generator
from ld3m_plugin.contracts import Generator, Latents, RatedOptions
from ld3m_plugin.errors import DataError
from ld3m_plugin.registry import default_registry
from ld3m_plugin.testing import check_generator, tiny_task

# Names that the shipped priors were trained on.
KNOWN_CLASSES = ("Trouser", "Sandal", "Bag")


def marked(name):
    """Sampling with the shipped diffusion model takes seconds; its quick tests are in `ld3m/test_ld3m_generator.py`."""
    return pytest.param(name, marks=pytest.mark.slow) if name == "ld3m" else name


@pytest.mark.slow
@pytest.mark.parametrize("name", [marked(name) for name in default_registry().names("generator")])
@pytest.mark.parametrize("channels", [1, 3])
def test_generator_keeps_the_contract(name, channels):
    # The shipped priors are gray: in colour they are refused unless asked for.
    has_prior = "mismatch" in default_registry().resolve("generator", name).Options.model_fields
    options = {"mismatch": "allow"} if has_prior else {}
    check_generator(
        lambda: get_generator(name, **options),
        tiny_task(channels=channels, image_size=32, class_names=KNOWN_CLASSES),
    )


@pytest.mark.parametrize("init", ["noise", "mean"])
def test_a_start_from_noise_or_from_class_means_keeps_the_contract(init):
    """Class means are the same for every stream."""
    check_generator(lambda: get_generator("pixel", init=init))


class Sound(Generator):
    """A correct generator; each class below breaks one clause."""

    def initial_latents(self, task, labels, rng):
        shape = (len(labels), task.channels, task.image_size, task.image_size)
        return Latents({"x": torch.randn(shape, generator=rng)}, learned=("x",))

    def render(self, latents):
        return latents["x"].tanh()

    def learning_rates(self):
        return {"x": 0.1}


class MixesRows(Sound):
    def render(self, latents):
        return latents["x"] - latents["x"].mean(0, keepdim=True)


class NotDeterministic(Sound):
    def initial_latents(self, task, labels, rng):
        self.noise = torch.Generator().manual_seed(0)
        return super().initial_latents(task, labels, rng)

    def render(self, latents):
        return latents["x"] + torch.randn(latents["x"].shape, generator=self.noise)


class UsesGlobalStream(Sound):
    def initial_latents(self, task, labels, rng):
        torch.rand(1)
        return super().initial_latents(task, labels, rng)


class Saturates(Sound):
    def render(self, latents):
        return latents["x"].clamp(100, 101)


class IgnoresRng(Sound):
    def initial_latents(self, task, labels, rng):
        return super().initial_latents(task, labels, torch.Generator().manual_seed(0))


class ReadsTheTestSet(Sound):
    def prepare(self, task):
        task.test.counts()


class WrongSize(Sound):
    def render(self, latents):
        return latents["x"][:, :, 1:]


class NotFinite(Sound):
    def render(self, latents):
        return latents["x"].log()


class RendersFloat64(Sound):
    def render(self, latents):
        return super().render(latents).double()


class NoRate(Sound):
    def learning_rates(self):
        return {"xx": 0.1}


class RateOfZero(Sound):
    def learning_rates(self):
        return {"x": 0.0}


class SaysOtherRates(Sound):
    class Options(RatedOptions):
        def learning_rates(self):
            return {"x": 0.2}


class LosesItsLatents(Sound):
    def on_step(self, latents, step, rng):
        return latents.rows(slice(0, 2))


class GrayAlone(Sound):
    """Correct on gray images, wrong in colour."""

    def render(self, latents):
        return super().render(latents)[:, :1]


class LatentsAsDict(Sound):
    def initial_latents(self, task, labels, rng):
        return super().initial_latents(task, labels, rng).tensors()


@pytest.mark.parametrize(
    ("broken", "clause"),
    [
        (RendersFloat64, "float32"),
        (NoRate, "no rate for the learned latent 'x'"),
        (RateOfZero, "above 0"),
        (SaysOtherRates, "leave out the latter"),
        (LosesItsLatents, "on_step"),
        (GrayAlone, r"not \(9, 3, 16, 16\)"),
        (LatentsAsDict, "dict"),
        (MixesRows, "row alone"),
        (NotDeterministic, "same bits"),
        (UsesGlobalStream, "global random stream"),
        (Saturates, "no gradient"),
        (IgnoresRng, "another stream"),
        (WrongSize, "render gave"),
        (NotFinite, "finite"),
    ],
)
def test_suite_catches(broken, clause):
    check_generator(Sound)
    with pytest.raises(AssertionError, match=clause):
        check_generator(broken)


def test_a_generator_may_refuse_colour():
    class Refuses(GrayAlone):
        def prepare(self, task):
            if task.channels == 3:
                raise DataError("gray images alone")

    check_generator(Refuses)
    with pytest.raises(DataError):
        check_generator(Refuses, tiny_task(channels=3))


def test_generator_cannot_reach_the_test_set():
    with pytest.raises(DataError, match="tiny"):
        check_generator(ReadsTheTestSet)
