"""The other way round: an own loss, objective and module in a run, and objectives of the library on an own tensor."""

import pytest
import torch
from torch import nn

from ld3m_plugin import DifferentiableObjective, ModuleGenerator, distill, get_objective
from ld3m_plugin.distillation.loop import Distillation
from ld3m_plugin.errors import HostError, PluginFailedError, UsageError
from ld3m_plugin.randomness import stream
from ld3m_plugin.runs.provenance import metadata
from ld3m_plugin.testing import check_generator, check_objective, tiny_task

PIXEL = {"generator": {"name": "pixel"}}
DM = {"batch_real": 6, "network_settings": {"depth": 2, "width": 8}}


def half_square(images, labels, step):
    return (images - 1).square().sum() / 2


class HalfSquare(DifferentiableObjective):
    def loss(self, images, labels, step):
        return half_square(images, labels, step)


def last(config=PIXEL, steps=3, **own):
    *_, step = distill({**config, "steps": steps}, task=tiny_task(), **own)
    return step


def test_a_function_is_an_objective():
    config = {**PIXEL, "optimizer": {"name": "sgd", "learning_rates": {"pixels": 0.5}}}
    start = Distillation(config, task=tiny_task(), objective=half_square).images()
    step = last({**config, "optimizer": {**config["optimizer"], "momentum": 0}}, objective=half_square)
    torch.testing.assert_close(step.state.images() - 1, (start - 1) / 8)  # each step halves the distance to 1
    assert metadata(step.state)["objective"]["name"] == "half_square"
    assert step.state.config.objective.name == "half_square"


def test_an_own_objective_is_an_objective():
    step = last(objective=HalfSquare())
    assert torch.equal(step.state.images(), last(objective=half_square).state.images())


def test_a_run_with_own_parts_goes_on_from_its_state():
    state = last(steps=2, objective=half_square).state.state_dict()
    *_, step = distill({**PIXEL, "steps": 3}, task=tiny_task(), objective=half_square, resume=state)
    assert torch.equal(step.state.images(), last(objective=half_square).state.images())


def test_a_name_that_is_taken_gets_a_number():
    def dm(images, labels, step):
        return images.sum()

    assert last(steps=1, objective=dm).state.config.objective.name == "dm-2"
    assert last(steps=1, objective=lambda images, labels, step: images.sum()).state.config.objective.name == "lambda"


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda images, labels, step: images.sum((1, 2, 3)), "scalar"),
        (lambda images, labels, step: images.detach().sum(), "gradient"),
        (lambda images, labels, step: torch.zeros((), requires_grad=True) + 1, "images"),
        (lambda images, labels, step: 1.0, "float"),
    ],
)
def test_a_function_that_is_no_loss_is_one_line(function, named):
    with pytest.raises(HostError, match=named):
        last(objective=function)


def test_what_an_own_function_raises_names_it():
    def broken(images, labels, step):
        raise KeyError("my key")

    with pytest.raises(PluginFailedError, match=r"objective 'broken' of .* failed in match at step 1: KeyError"):
        last(objective=broken)


@pytest.mark.parametrize("own", [{"objective": HalfSquare}, {"objective": 3}, {"generator": nn.Identity()}])
def test_what_is_neither_is_refused(own):
    with pytest.raises(UsageError, match=next(iter(own))):
        last(**own)


class Decoder(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(8, 256), nn.BatchNorm1d(256), nn.Tanh(), nn.Unflatten(1, (1, 16, 16)))


def drawn(labels, rng):
    return {"z": torch.randn(len(labels), 8, generator=rng)}


def test_a_module_is_a_generator():
    decoder = Decoder()
    generator = ModuleGenerator(decoder, drawn, learning_rates={"z": 0.1}, output="-1 to 1")
    step = last({}, generator=generator, objective=half_square)
    images, task = step.state.images(), tiny_task()
    assert not decoder.training
    torch.testing.assert_close(task.denormalise(images), decoder(step.state.latents["z"]) / 2 + 0.5)
    facts = metadata(step.state)["generator"]
    assert facts["module"].endswith("Decoder")
    again = ModuleGenerator(decoder, drawn, learning_rates={"z": 0.1}, output="-1 to 1")
    assert step.loss < last({}, steps=1, generator=again, objective=half_square).loss


def test_a_module_passes_the_contract_suite():
    decoder = Decoder()
    check_generator(lambda: ModuleGenerator(decoder, drawn, learning_rates={"z": 0.1}), tiny_task())


def test_a_function_passes_the_contract_suite():
    check_objective(HalfSquare)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"module": half_square}, "function"),
        ({"output": "-1 to 2"}, "-1 to 2"),
        ({"start": {"z": torch.zeros(2, 8)}}, "3 rows"),
        ({"start": {}}, "no latent"),
        ({"learned": ("w",)}, "w"),
    ],
)
def test_a_module_that_does_not_fit_is_one_line(given, named):
    with pytest.raises(UsageError, match=named):
        last({}, generator=ModuleGenerator(**{"module": Decoder(), "start": drawn, **given}), objective=half_square)


def prepared(name="dm", **options):
    task = tiny_task()
    objective = get_objective(name, **{**DM, **options})
    objective.prepare(task, torch.arange(3), stream(0, "objective"))
    return objective


@pytest.mark.parametrize("name", ["dm", "dc"])
def test_an_objective_takes_any_tensor(name):
    pixels = torch.randn(3, 1, 16, 16, generator=stream(0, "pixels"))
    expected = prepared(name).match(pixels.clone().requires_grad_(), torch.arange(3), 0)
    scale = torch.ones(1, requires_grad=True)
    for images in (pixels, pixels * scale):  # without a gradient, and in a graph
        match = prepared(name).match(images, torch.arange(3), 0)
        assert match.loss == expected.loss
        assert torch.equal(match.image_grad, expected.image_grad)
    images.backward(match.image_grad)
    torch.testing.assert_close(scale.grad, (expected.image_grad * pixels).sum().view(1))
    assert not pixels.requires_grad


IMAGES, LABELS = torch.zeros(3, 1, 16, 16), torch.arange(3)


@pytest.mark.parametrize("name", ["dm", "dc"])
@pytest.mark.parametrize(
    ("images", "labels", "named"),
    [
        (torch.zeros(3, 3, 16, 16), LABELS, "1, 16, 16"),
        (IMAGES[0], LABELS, "1, 16, 16"),
        ("images", LABELS, "str"),
        (IMAGES.byte(), LABELS, "uint8"),
        (IMAGES, LABELS[:2], r"\(2,\)"),
        (IMAGES, [0, 1, 2], "list"),
        (IMAGES, LABELS + 1, "0 to 2"),
        (IMAGES, LABELS.float(), "indices"),
        (IMAGES.to("meta"), LABELS, "meta"),
    ],
)
def test_what_does_not_fit_is_one_line(name, images, labels, named):
    with pytest.raises(HostError, match=named) as refused:
        prepared(name).match(images, labels, 0)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["dm", "dc", "mtt"])
def test_an_objective_that_is_not_prepared_says_so(name):
    with pytest.raises(HostError, match="prepare"):
        get_objective(name).match(IMAGES, LABELS, 0)
