"""Synthetic: bits of a run, gradients against a plain graph, one pull-back, optimisers that stay alive, state, artefact."""

import pytest
import torch
from torch import nn

from ld3m_plugin import DistilledSet, ModuleGenerator, Synthetic, distill, evaluate, get_objective, load_task
from ld3m_plugin.contracts import Generator, Latents
from ld3m_plugin.distillation import rendering
from ld3m_plugin.errors import ArtefactError, DataError, HostError, NonFiniteError, UsageError
from ld3m_plugin.randomness import stream
from ld3m_plugin.testing import tiny_task

DM = {"batch_real": 6, "network_settings": {"depth": 2, "width": 8}}
GENERATORS = {"ld3m": {"steps": 2, "noise": "redrawn"}, "autoencoder": {}, "pixel": {}, "glad": {}}


def prepared(task, syn):
    objective = get_objective("dm", **DM)
    objective.prepare(task, syn.labels, stream(0, "objective"))
    return objective


def own_loop(syn, objective, steps):
    for step in range(steps):
        images = syn()
        match = objective.match(images, syn.labels, step)
        images.backward(match.image_grad)
        syn.step()


@pytest.mark.slow
@pytest.mark.parametrize("generator", GENERATORS)
def test_an_own_loop_gives_the_bits_of_a_run(generator):
    task = load_task("fashion-mnist")
    chosen = {"name": generator, "options": GENERATORS[generator]}
    for step in distill({"steps": 2, "generator": chosen, "objective": {"name": "dm", "options": DM}}, task=task):
        images = step.state.images()
    syn = Synthetic(generator, task, **GENERATORS[generator])
    own_loop(syn, prepared(task, syn), 2)
    with torch.no_grad():
        assert torch.equal(syn(), images)


@pytest.mark.parametrize("render_batch", [None, 1, 4])
def test_an_own_loop_with_a_loss_of_the_library_gives_the_bits_of_a_run(render_batch):
    task, wanted = tiny_task(), {"name": "dm", "options": DM}
    config = {"steps": 3, "generator": {"name": "pixel"}, "objective": wanted, "images_per_class": 2}
    for step in distill(config, task=task):
        images = step.state.images()
    syn = Synthetic("pixel", task, ipc=2, render_batch=render_batch)
    objective = prepared(task, syn)
    for number in range(3):
        objective.loss(syn(), syn.labels, number).backward()
        syn.step()
    assert torch.equal(syn().detach(), images)


class Squares(nn.Module):
    """An image of four learned numbers."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 256, generator=stream(0, "weight")))

    def forward(self, z, shift):
        return (z @ self.weight).square().view(-1, 1, 16, 16) + shift.view(-1, 1, 1, 1)


def start(labels, rng):
    return {"z": torch.randn(len(labels), 4, generator=rng), "shift": labels.float()}


def own_generator():
    return ModuleGenerator(Squares(), start, learned=("z",), learning_rates={"z": 0.1})


@pytest.mark.parametrize("render_batch", [None, 1, 2])
def test_gradients_are_those_of_a_plain_graph(render_batch):
    syn = Synthetic(own_generator(), tiny_task(), ipc=2, render_batch=render_batch)
    z = syn.latents["z"].clone().requires_grad_()
    loss = torch.nn.functional.softplus
    loss(syn()).sum().backward()
    loss(syn.generator.module(z, syn.latents["shift"])).sum().backward()
    (parameter,) = syn.parameters()
    torch.testing.assert_close(parameter.grad, z.grad)


@pytest.mark.parametrize(("render_batch", "renders"), [(None, 1), (2, 3)])
def test_many_uses_are_pulled_back_once(render_batch, renders, monkeypatch):
    calls = []
    real = rendering._gradients
    monkeypatch.setattr(rendering, "_gradients", lambda *given: calls.append(1) or real(*given))
    syn = Synthetic("pixel", tiny_task(), ipc=2, render_batch=render_batch)
    theta = torch.zeros(256, 3, requires_grad=True)
    for _ in range(4):  # an unrolled student
        loss = torch.nn.functional.cross_entropy(syn().flatten(1) @ theta, syn.labels)
        (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
        theta = theta - 0.1 * gradient
    (theta - 1).square().sum().backward()
    assert len(calls) == renders
    assert next(syn.parameters()).grad.abs().sum() > 0


def test_several_backward_passes_through_the_same_images_add_up():
    syn = Synthetic(own_generator(), tiny_task())
    images = syn()
    for k in range(3):
        images[syn.labels == k].sum().backward()
    parts = next(syn.parameters()).grad.clone()
    syn.zero_grad()
    syn().sum().backward()
    torch.testing.assert_close(parts, next(syn.parameters()).grad)


def test_images_are_rendered_again_after_an_update_and_not_before():
    syn = Synthetic("pixel", tiny_task())
    first = syn()
    assert syn() is first
    first.sum().backward()
    syn.step()
    assert not torch.equal(syn(), first)
    with torch.no_grad():
        assert not syn().requires_grad


def test_a_gradient_at_former_latents_is_refused():
    syn = Synthetic("pixel", tiny_task())
    old = syn()
    syn().sum().backward()
    syn.step()
    with pytest.raises(HostError, match="before step"):
        old.sum().backward()


def test_steps_and_rates():
    syn = Synthetic("pixel", tiny_task())
    before = syn().detach().clone()
    syn().sum().backward()
    syn.step()  # Adam's first step is the rate, in the direction of the sign
    torch.testing.assert_close(syn().detach(), before - 0.05)
    assert next(syn.parameters()).grad is None
    syn().sum().backward()
    syn.step(lr=0.5)
    torch.testing.assert_close(syn().detach(), before - 0.55)
    other = Synthetic("pixel", tiny_task())
    optimizer = other.optimizer("sgd", lr={"pixels": 0.1})
    other().sum().backward()
    optimizer.step()
    torch.testing.assert_close(other().detach(), before - 0.1)
    assert [(group["latent"], group["lr"]) for group in optimizer.param_groups] == [("pixels", 0.1)]


def test_what_cannot_be_updated_is_refused():
    syn = Synthetic("pixel", tiny_task())
    with pytest.raises(HostError, match="backward"):
        syn.step()
    with pytest.raises(UsageError, match="pixels with sgd"):
        syn.optimizer("sgd")
    with pytest.raises(UsageError, match="pixel"):
        syn.optimizer(lr={"pixel": 0.1})
    optimizer = syn.optimizer()
    syn().sum().backward()
    optimizer.step()
    with pytest.raises(HostError, match="both"):
        syn.step()
    without = Synthetic(ModuleGenerator(Squares(), start, learned=("z",)), tiny_task())
    with pytest.raises(UsageError, match="lr"):
        without.optimizer()


class Moves(Generator):
    """Copies its latent at step 1, and moves to another one at step 2; a fixed tensor is redrawn at each."""

    def initial_latents(self, task, labels, rng):
        size = (len(labels), task.channels, task.image_size, task.image_size)
        return Latents({"first": torch.zeros(size), "noise": torch.zeros(size)}, learned=("first",))

    def render(self, latents):
        return latents["second" if "second" in latents else "first"] + latents["noise"]

    def on_step(self, latents, step, rng):
        if step == 1:
            noise = torch.randn(latents["noise"].shape, generator=rng)
            return latents.replace(first=latents["first"] + 1, noise=noise)
        if step == 2:
            return Latents({"second": latents["first"] * 2, "noise": latents["noise"]}, learned=("second",))
        return latents

    def learning_rates(self):
        return {"first": 0.1, "second": 0.2}


def test_an_optimiser_never_holds_dead_tensors():
    syn = Synthetic(Moves(), tiny_task())
    optimizer = syn.optimizer()
    for number, name in enumerate(["first", "second", "second"], 1):
        images = syn()
        images.sum().backward()
        before = syn.latents.clone()
        optimizer.step()
        (group,) = optimizer.param_groups
        assert group["latent"] == name
        assert group["params"] == list(syn.parameters())
        assert syn.iteration == number
        # The state of what on_step exchanged starts afresh.
        assert (group["params"][0] in optimizer.state) == (number == 3)
    torch.testing.assert_close(syn.latents["second"], before["second"] - 0.2)
    assert syn.latents["noise"].abs().sum() > 0


def test_an_own_optimiser_goes_on_after_a_copy_and_a_move_is_refused():
    syn = Synthetic(Moves(), tiny_task())
    optimizer = torch.optim.SGD(syn.parameters(), lr=1.0)
    syn().sum().backward()
    optimizer.step()
    syn.advance()
    torch.testing.assert_close(next(syn.parameters()).detach(), torch.zeros_like(syn.latents["first"]))
    syn.zero_grad()
    syn().sum().backward()
    optimizer.step()
    with pytest.raises(HostError, match=r"second.*syn\.optimizer"):
        syn.advance()
    assert syn.iteration == 1


def test_a_saved_state_goes_on_bit_for_bit(tmp_path):
    task = tiny_task()
    straight = Synthetic(Moves(), task)
    objective = prepared(task, straight)
    for step in range(4):
        if step == 1:
            torch.save(straight.state_dict(), tmp_path / "early.pt")
        if step == 3:
            torch.save(straight.state_dict(), tmp_path / "state.pt")
        objective.loss(straight(), straight.labels, step).backward()
        straight.step(lr=0.03 if step == 2 else None)
    for name, first in (("early.pt", 1), ("state.pt", 3)):
        again = Synthetic(Moves(), task)
        again.load_state_dict(torch.load(tmp_path / name, weights_only=True))
        for step in range(first, 4):
            objective.loss(again(), again.labels, step).backward()
            again.step(lr=0.03 if step == 2 else None)
        assert torch.equal(again(), straight())
        assert again.iteration == 4


def test_a_state_inside_another_module_and_a_wrong_one():
    syn, other = (Synthetic("pixel", tiny_task(), seed=seed) for seed in (0, 1))
    nn.ModuleDict({"syn": other}).load_state_dict(nn.ModuleDict({"syn": syn}).state_dict())
    assert torch.equal(syn(), other())
    with pytest.raises(HostError, match="state"):
        syn.load_state_dict(nn.Linear(1, 1).state_dict())


def one_update(syn):
    syn().square().mean().backward()
    syn.step()


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_a_state_goes_on_apart_from_the_module_it_came_from(name):
    syn, other = Synthetic("pixel", tiny_task()), Synthetic("pixel", tiny_task())
    for one in (syn, other):
        one.optimizer(name, lr=0.1)
    one_update(syn)
    other.load_state_dict(syn.state_dict())
    for one in (syn, other, syn, other):  # in turns: shared momenta would count both
        one_update(one)
    assert torch.equal(syn(), other())


@pytest.mark.parametrize("updates", [0, 1])
@pytest.mark.parametrize(("former", "now"), [("adam", "sgd"), ("sgd", "adam"), ("sgd", None)])
def test_a_state_of_another_optimiser_is_refused_and_changes_nothing(former, now, updates):
    syn, other = Synthetic("pixel", tiny_task()), Synthetic("pixel", tiny_task())
    syn.optimizer(former, lr=0.1)
    for _ in range(updates):
        one_update(syn)
    if now is not None:
        other.optimizer(now, lr=0.1)
    kept = other().detach().clone()
    with pytest.raises(HostError, match=rf"of the optimiser '{former}'.*call syn.optimizer\('{former}', lr="):
        other.load_state_dict(syn.state_dict())
    assert torch.equal(other(), kept)
    assert other.iteration == 0


def test_a_name_in_place_of_a_task_is_refused():
    with pytest.raises(UsageError, match="task = 'cifar10': give a Task"):
        Synthetic("pixel", "cifar10")


def test_it_stays_where_the_generator_is():
    syn = Synthetic("pixel", tiny_task())
    assert syn.to("cpu").float() is syn
    with pytest.raises(UsageError, match="float32 on cpu"):
        syn.double()
    with pytest.raises(UsageError, match="meta"):
        syn.to("meta")


def test_the_artefact_is_whole(tmp_path):
    syn = Synthetic(own_generator(), tiny_task(), ipc=2)
    syn().sum().backward()
    syn.step()
    saved = syn.save(tmp_path / "set", objective="brightness", learned={"rate": 0.5}, networks=("ConvNet",))
    loaded = DistilledSet.load(tmp_path / "set")
    assert torch.equal(loaded.images, saved.images)
    assert torch.equal(loaded.images, syn().detach())
    assert torch.equal(loaded.latents["z"], syn.latents["z"])
    facts = loaded.metadata
    assert (facts["objective"]["name"], facts["steps"], facts["images_per_class"]) == ("brightness", 1, 2)
    assert (facts["learned"], facts["seen_networks"]) == ({"rate": 0.5}, ["ConvNet"])
    assert len(facts["generator"]["module_sha256"]) == 64
    assert facts["config"]["generator"]["name"] == "ModuleGenerator"
    assert "brightness" in (tmp_path / "set" / "README.md").read_text(encoding="utf-8")
    assert (tmp_path / "set" / "grid.png").is_file()
    syn.save(tmp_path / "set")  # replaced
    (tmp_path / "set" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"thesis\.txt"):
        syn.save(tmp_path / "set")
    with torch.no_grad():
        next(syn.parameters()).fill_(torch.nan)
    with pytest.raises(NonFiniteError):
        syn.save(tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_it_can_be_evaluated():
    syn = Synthetic("pixel", tiny_task())
    table = evaluate(syn.distilled(), tiny_task(), protocol="quick", networks=("ConvNet",), repeats=1)
    assert table.rows


@pytest.mark.parametrize(
    ("generator", "options", "named"),
    [
        ("pixels", {}, "pixel"),
        ("pixel", {"noise": 1}, "noise"),
        ("pixel", {"ipc": 0}, "images_per_class"),
        ("pixel", {"render_batch": 0}, "render_batch"),
        (nn.Identity(), {}, "ModuleGenerator"),
        (Moves(), {"steps": 3}, "steps"),
    ],
)
def test_what_is_wrong_is_one_line(generator, options, named):
    with pytest.raises((UsageError, HostError)) as refused:
        Synthetic(generator, tiny_task(), **options)
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)


def test_too_few_images_are_refused():
    with pytest.raises((DataError, ArtefactError)):
        Synthetic("pixel", tiny_task(train=2), ipc=3)


@pytest.mark.slow
def test_a_look_in_inference_mode_leaves_no_trace():
    """The decoder keeps kernels from its first pass, and no gradient goes through tensors of inference mode."""
    syn = Synthetic("autoencoder", load_task("fashion-mnist:embedded"))
    with torch.inference_mode():
        shown = syn()
    assert not shown.is_inference()
    syn().sum().backward()
    assert all(latent.grad is not None for latent in syn.parameters())
