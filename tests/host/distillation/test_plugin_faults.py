"""Mistakes in a plugin: one line that names the plugin, its distribution, the method and the step."""

import pytest
import torch
from pydantic import Field

from ld3m_plugin.contracts import DifferentiableObjective, Generator, Latents, Match, Objective, Options
from ld3m_plugin.data.load import load_task
from ld3m_plugin.distillation.loop import Distillation
from ld3m_plugin.errors import (
    DataError,
    HostError,
    InvalidOptionError,
    NonFiniteError,
    PluginFailedError,
    PluginLoadError,
    frames_of_plugin,
)
from ld3m_plugin.registry import Backend, Owner, build_registry, use_registry


class Good(Generator):
    """Pixels from noise."""

    names = ("pixels",)

    def initial_latents(self, task, labels, rng):
        shape = (len(labels), task.channels, task.image_size, task.image_size)
        return Latents({name: torch.randn(shape, generator=rng) for name in self.names}, self.names)

    def render(self, latents):
        return latents[self.names[0]]

    def learning_rates(self):
        return dict.fromkeys(self.names, 0.1)


class Fair(Objective):
    """A loss without data."""

    def match(self, images, labels, step):
        return Match(float(images.detach().square().sum()), 2 * images.detach())


def raises(kind, method):
    """A backend one of whose methods raises."""

    def fail(self, *_):
        raise ValueError("broken\nin two lines")

    def fail_alone(self):  # an argument of `learning_rates` is one of version 0.1
        fail(self)

    return type(
        "Raises", (Good if kind == "generator" else Fair,), {method: fail_alone if method == "learning_rates" else fail}
    )


@pytest.fixture(scope="module")
def task():
    return load_task("fashion-mnist:embedded")


@pytest.fixture
def steps(task):
    """Takes a step with a generator and an objective of the distribution ld3m-wrong."""

    def run(generator=Good, objective=Fair, count=1):
        registry = build_registry()
        owner = Owner("wrong", "ld3m-wrong", "0.0.1")
        registry.add(Backend("generator", "w-generator", generator, "", owner))
        registry.add(Backend("objective", "w-objective", objective, "", owner))
        config = {"generator": {"name": "w-generator"}, "objective": {"name": "w-objective"}, "steps": count}
        with use_registry(registry):
            state = Distillation(config, task=task)
            for _ in range(count):
                state.step()

    return run


def test_plugins_without_faults_run(steps):
    steps(count=2)


METHODS = [
    ("generator", "prepare", ""),
    ("generator", "initial_latents", ""),
    ("generator", "render", "step 1"),
    ("generator", "on_step", "step 1"),
    ("generator", "provenance", ""),
    ("generator", "state_dict", ""),
    ("generator", "learning_rates", ""),
    ("generator", "start", ""),
    ("generator", "prior_bytes", ""),
    ("objective", "prepare", ""),
    ("objective", "match", "step 1"),
    ("objective", "learned", ""),
    ("objective", "networks", ""),
    ("objective", "state_dict", ""),
    ("objective", "provenance", ""),
]


@pytest.mark.parametrize(("kind", "method", "when"), METHODS)
def test_what_a_method_raises_names_the_plugin(steps, kind, method, when):
    with pytest.raises(PluginFailedError) as caught:
        steps(**{kind: raises(kind, method)})
    line = str(caught.value)
    assert "\n" not in line
    words = (
        f"'w-{kind}'",
        "ld3m-wrong 0.0.1",
        method,
        when,
        "ValueError: broken in two lines",
        "(test_plugin_faults.py:",
    )
    assert [word for word in words if word not in line] == []
    frames = frames_of_plugin(caught.value)
    assert "in fail" in frames
    assert "loop.py" not in frames


def test_the_step_is_counted(steps):
    class Later(Fair):
        def match(self, images, labels, step):
            return super().match(images, labels, step) if step < 1 else None.shape

    with pytest.raises(PluginFailedError, match="step 2"):
        steps(objective=Later, count=3)


@pytest.mark.parametrize("error", [DataError("mine"), MemoryError(), KeyboardInterrupt(), OSError(28, "full")])
def test_errors_that_are_no_mistake_stay_as_they_are(steps, error):
    class Raises(Fair):
        def match(self, images, labels, step):
            raise error

    with pytest.raises(type(error)) as caught:
        steps(objective=Raises)
    assert caught.value is error


def gives(method, result, base=Fair):
    """A backend one of whose methods gives `result`, or what it makes of its arguments."""

    def method_of(self, *arguments):
        return result(*arguments) if callable(result) else result

    return type("Gives", (base,), {method: method_of})


def rating(rates):
    return type("Rating", (Good,), {"learning_rates": lambda self: rates})


def grad_of(dtype):
    return lambda images, labels, step: Match(1.0, images.detach().to(dtype))


WRONG_RESULTS = {
    "latents as a dict": (gives("initial_latents", lambda task, labels, rng: {"a": labels}, Good), None, "dict"),
    "name with a comma": (type("Comma", (Good,), {"names": ("a,b",)}), None, "'a,b'"),
    "name of safetensors": (type("Own", (Good,), {"names": ("__metadata__",)}), None, "__metadata__"),
    "name that does not encode": (type("Half", (Good,), {"names": ("\ud800",)}), None, "ud800"),
    "empty name": (type("Empty", (Good,), {"names": ("",)}), None, "''"),
    "next latents as a dict": (gives("on_step", lambda latents, step, rng: latents.tensors(), Good), None, "dict"),
    "images of float64": (gives("render", lambda latents: latents["pixels"].double(), Good), None, "float64"),
    "images as a list": (gives("render", lambda latents: [latents["pixels"]], Good), None, "list"),
    "facts that are no JSON": (gives("provenance", {"a": torch.ones(1)}, Good), None, "provenance"),
    "facts as a list": (gives("provenance", ["a"], Good), None, "provenance"),
    "state of numbers": (gives("state_dict", {"a": 1}, Good), None, "state_dict"),
    "rates as text": (rating({"pixels": "fast"}), None, "'w-generator' of ld3m-wrong 0.0.1"),
    "rates as a list": (rating(["pixels"]), None, "w-generator"),
    "rate of zero": (rating({"pixels": 0.0}), None, "w-generator"),
    "start that is no text": (gives("start", 3, Good), None, "w-generator"),
    "bytes below zero": (gives("prior_bytes", -1, Good), None, "w-generator"),
    "no image of a latent": (type("None_", (Good,), {"images_per_latent": 0}), None, "w-generator"),
    "images of another shape": (
        gives("render", lambda latents: latents["pixels"][..., ::2], Good),
        None,
        "w-generator",
    ),
    "no images": (gives("render", None, Good), None, "'w-generator' of ld3m-wrong 0.0.1"),
    "networks as text": (Good, gives("networks", "ConvNet"), "w-objective"),
    "metrics as a list": (Good, gives("match", lambda i, *_: Match(1.0, i.detach(), ["a"])), "w-objective"),
    "metric as text": (Good, gives("match", lambda i, *_: Match(1.0, i.detach(), {"a": "b"})), "w-objective"),
    "match as a tuple": (Good, gives("match", lambda i, *_: (1.0, i.detach())), "w-objective"),
    "gradient of another shape": (Good, gives("match", lambda i, *_: Match(1.0, i.detach()[:1])), "w-objective"),
    "learned text": (Good, gives("learned", {"rate": "fast"}), "learned"),
    "learned tensor": (Good, gives("learned", {"rate": torch.ones(1)}), "learned"),
    "learned NaN": (Good, gives("learned", {"rate": float("nan")}), "learned"),
    "learned list": (Good, gives("learned", [1.0]), "learned"),
    "gradient of float64": (Good, gives("match", grad_of(torch.float64)), "float64"),
    "gradient of whole numbers": (Good, gives("match", grad_of(torch.int64)), "int64"),
    "loss as a vector": (Good, gives("match", lambda i, *_: Match(i.detach().sum((1, 2, 3)), i.detach())), "(10,)"),
    "loss as text": (Good, gives("match", lambda i, *_: Match("low", i.detach())), "str"),
    "vector to differentiate": (
        Good,
        gives("loss", lambda i, *_: i.sum((1, 2, 3)), DifferentiableObjective),
        "(10,)",
    ),
    "detached loss": (Good, gives("loss", lambda i, *_: i.detach().sum(), DifferentiableObjective), "gradient"),
    "loss as a number": (Good, gives("loss", 1.0, DifferentiableObjective), "float"),
}


@pytest.mark.parametrize(("generator", "objective", "named"), WRONG_RESULTS.values(), ids=WRONG_RESULTS)
def test_a_result_of_the_wrong_kind_is_one_line(steps, generator, objective, named):
    with pytest.raises(HostError) as caught:
        steps(generator, objective or Fair)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None  # no traceback


def test_images_that_are_not_finite_before_any_update_are_the_generators(steps):
    with pytest.raises(NonFiniteError, match="w-generator"):
        steps(gives("render", lambda latents: latents["pixels"] * float("nan"), Good))


class NoSuper(Good):
    def __init__(self, options):
        pass


class Abstract(Generator):
    pass


@pytest.mark.parametrize("generator", [NoSuper, Abstract, lambda **_: None])
def test_what_cannot_be_built_is_one_line(steps, generator):
    with pytest.raises((PluginLoadError, PluginFailedError), match="w-generator") as caught:
        steps(generator)
    assert "\n" not in str(caught.value)


def test_a_rendering_that_fails_after_the_last_step_names_the_generator(task):
    class Late(Good):
        def render(self, latents):
            if not torch.is_grad_enabled():
                raise ValueError("late")
            return super().render(latents)

    registry = build_registry()
    registry.add(Backend("generator", "late", Late, "", Owner("wrong", "ld3m-wrong", "0.0.1")))
    config = {"generator": {"name": "late"}, "objective": {"name": "dm", "options": {"batch_real": 4}}, "steps": 1}
    state = Distillation(config, task=task, registry=registry)
    with pytest.raises(PluginFailedError, match=r"generator 'late' of ld3m-wrong 0\.0\.1 failed in render"):
        state.images()


def test_options_of_another_base_are_one_line(steps):
    with pytest.raises(PluginLoadError, match=r"'w-objective' of ld3m-wrong 0\.0\.1 must be a class derived from"):
        steps(objective=type("Other", (Fair,), {"Options": dict}))


def test_a_required_option_says_how_it_is_given(steps):
    class Needs(Options):
        teacher: str = Field(description="path of the teacher")

    with pytest.raises(
        InvalidOptionError, match=r"'w-objective'.*teacher \(path of the teacher\): give -O teacher=VALUE"
    ):
        steps(objective=type("Other", (Fair,), {"Options": Needs}))
