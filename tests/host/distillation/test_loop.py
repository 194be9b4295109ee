"""The loop: seeds, optimisers against arithmetic, space changes, chunks, precision, and what is not finite."""

import pytest
import torch

from ld3m_plugin.contracts import DifferentiableObjective, Generator, Latents, Match, Objective
from ld3m_plugin.distillation.loop import Distillation, choose_device, distill
from ld3m_plugin.errors import HostError, NonFiniteError, UsageError
from ld3m_plugin.registry import Backend, Owner, build_registry
from ld3m_plugin.testing import tiny_task

PIXEL = {"name": "pixel"}
DM = {"name": "dm", "options": {"batch_real": 6, "network_settings": {"depth": 2, "width": 8}}}
HERE = Owner("tests", "tests", "0")


class Quadratic(DifferentiableObjective):
    """Half the squared distance to 1: the gradient is images - 1."""

    def loss(self, images, labels, step):
        return (images - 1).square().sum() / 2, {"largest": float(images.detach().max())}


class Breaks(Quadratic):
    """Not finite at its third step."""

    def loss(self, images, labels, step):
        value, metrics = super().loss(images, labels, step)
        return value * (float("nan") if step == 2 else 1), metrics


class ChangesSpace(Generator):
    """From one latent to another at step 2, with a fixed tensor redrawn each step."""

    def initial_latents(self, task, labels, rng):
        size = (len(labels), task.channels, task.image_size, task.image_size)
        return Latents({"first": torch.zeros(size), "fixed": torch.zeros(size)}, learned=("first",))

    def render(self, latents):
        name = "second" if "second" in latents else "first"
        return latents[name] + latents["fixed"]

    def on_step(self, latents, step, rng):
        if step == 2:
            return Latents({"second": latents["first"] * 2, "fixed": latents["fixed"]}, learned=("second",))
        return latents.replace(fixed=torch.randn(latents["fixed"].shape, generator=rng))

    def learning_rates(self):
        return {"first": 0.1, "second": 0.1}


class TwoImages(Generator):
    """A row renders an image and its mirror."""

    images_per_latent = 2

    def initial_latents(self, task, labels, rng):
        return Latents(
            {"x": torch.randn(len(labels), task.channels, task.image_size, task.image_size, generator=rng)}, ("x",)
        )

    def render(self, latents):
        return torch.stack([latents["x"], latents["x"].flip(3)], 1).flatten(0, 1)

    def learning_rates(self):
        return {"x": 0.1}


@pytest.fixture
def registry():
    registry = build_registry()
    for kind, name, factory in [
        ("objective", "quadratic", Quadratic),
        ("objective", "breaks", Breaks),
        ("generator", "changes-space", ChangesSpace),
        ("generator", "two-images", TwoImages),
    ]:
        registry.add(Backend(kind, name, factory, "", HERE))
    return registry


def run(registry=None, generator=PIXEL, **config):
    state = None
    for step in distill({"generator": generator, **config}, task=tiny_task(), registry=registry):
        state = step.state
    return state


def test_same_seed_gives_the_same_bits_and_another_seed_does_not():
    first = run(steps=3, objective=DM).images()
    assert torch.equal(first, run(steps=3, objective=DM).images())
    assert not torch.equal(first, run(steps=3, objective=DM, seed=1).images())


def test_global_random_stream_is_left_alone():
    before = torch.get_rng_state()
    run(steps=2, objective=DM)
    assert torch.equal(before, torch.get_rng_state())


def test_distil_yields_a_step_for_each_update(registry):
    config = {"steps": 3, "generator": PIXEL, "objective": {"name": "quadratic"}}
    steps = list(distill(config, task=tiny_task(), registry=registry))
    assert [step.iteration for step in steps] == [1, 2, 3]
    assert steps[0].loss > steps[1].loss > steps[2].loss
    assert "largest" in steps[0].metrics


@pytest.mark.slow
def test_distil_lowers_the_distance_of_feature_means():
    losses = [
        step.loss
        for step in distill(
            {"steps": 45, "generator": {**PIXEL, "options": {"init": "noise"}}, "objective": DM}, task=tiny_task()
        )
    ]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_sgd_with_momentum_by_hand(registry):
    # x <- x - lr v, v <- 0.5 v + (x - 1), from the start x0.
    settings = {"name": "sgd", "learning_rates": {"pixels": 0.1}}
    config = {"generator": PIXEL, "objective": {"name": "quadratic"}, "optimizer": settings}
    x = Distillation(config, task=tiny_task(), registry=registry).images()
    v = torch.zeros_like(x)
    for _ in range(3):
        v = 0.5 * v + (x - 1)
        x = x - 0.1 * v
    torch.testing.assert_close(run(registry, steps=3, **config).images(), x)


def test_adam_by_hand(registry):
    settings = {"learning_rates": {"pixels": 0.1}}
    config = {"generator": PIXEL, "objective": {"name": "quadratic"}, "optimizer": settings}
    x = Distillation(config, task=tiny_task(), registry=registry).images()
    m = s = torch.zeros_like(x)
    for t in range(1, 4):
        g = x - 1
        m, s = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g * g
        x = x - 0.1 * (m / (1 - 0.9**t)) / ((s / (1 - 0.999**t)).sqrt() + 1e-8)
    torch.testing.assert_close(run(registry, steps=3, **config).images(), x)


def test_chunks_do_not_change_the_run():
    plain = run(steps=2, objective=DM, images_per_class=2).images()
    for chunk in (1, 3, 6):
        assert torch.equal(run(steps=2, objective=DM, images_per_class=2, render_batch=chunk).images(), plain)


def test_generator_may_move_to_another_space(registry):
    state = run(registry, steps=4, generator={"name": "changes-space"}, objective={"name": "quadratic"})
    assert state.latents.learned == {"second"}
    # Adam starts afresh there: two steps since.
    assert state.state_dict()["optimizer/second.step"] == 2


def test_state_goes_on_bit_for_bit(registry):
    config = {"steps": 5, "generator": {"name": "changes-space"}, "objective": {"name": "quadratic"}}
    straight = run(registry, **config).images()
    early = run(registry, **{**config, "steps": 3})
    *_, last = distill(config, task=tiny_task(), registry=registry, resume=early.state_dict())
    assert torch.equal(last.state.images(), straight)


def test_several_images_a_latent(registry):
    state = run(registry, steps=1, generator={"name": "two-images"}, objective=DM, images_per_class=4)
    assert len(state.latents) == 6
    assert state.images().shape[0] == len(state.labels) == 12
    assert state.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_images_per_class_must_fit_the_generator(registry):
    with pytest.raises(UsageError, match=r"images_per_class = 3.*two-images"):
        run(registry, steps=1, generator={"name": "two-images"}, images_per_class=3)


def test_bf16_autocast_runs_and_stays_close():
    config = {"steps": 1, "generator": PIXEL, "objective": DM}
    exact = next(iter(distill(config, task=tiny_task()))).loss
    mixed = next(iter(distill({**config, "autocast": "bf16"}, task=tiny_task()))).loss
    # bf16 has 8 bits of mantissa; a difference must be there (it was on) and be small.
    assert mixed != exact
    assert mixed == pytest.approx(exact, rel=0.1)


def test_a_network_that_is_trained_between_matches_is_matched_with_its_new_weights_in_bf16():
    """DC's second step trains its network first; torch's cache of half-precision weights kept those from before."""
    options = {**DM["options"], "outer_loop": 2, "inner_loop": 8, "lr_net": 0.3}
    config = {"steps": 2, "generator": PIXEL, "objective": {"name": "dc", "options": options}}

    def second(**given):
        return [step.loss for step in distill({**config, **given}, task=tiny_task())][1]

    untrained = second(objective={"name": "dc", "options": {**options, "lr_net": 1e-9}})
    exact, mixed = second(), second(autocast="bf16")
    assert abs(exact - untrained) > 0.1 * untrained  # training matters
    assert mixed == pytest.approx(exact, rel=0.2)  # eight updates in half precision; it was five times as much


def test_not_finite_stops_and_keeps_the_last_good_state(registry):
    config = {"generator": PIXEL, "objective": {"name": "breaks"}}
    state = Distillation(config, task=tiny_task(), registry=registry)
    state.step()
    state.step()
    good = state.images()
    with pytest.raises(NonFiniteError, match=r"loss.*step 3"):
        state.step()
    assert torch.equal(state.images(), good)
    assert state.iteration == 2


def test_gradient_that_is_not_finite_stops_before_the_update(registry):
    class InfiniteSlope(TwoImages):
        images_per_latent = 1

        def initial_latents(self, task, labels, rng):
            return Latents({"x": torch.zeros(len(labels), 1, 16, 16)}, ("x",))

        def render(self, latents):
            return latents["x"].sqrt()

    registry.add(Backend("generator", "infinite-slope", InfiniteSlope, "", HERE))
    config = {"generator": {"name": "infinite-slope"}, "objective": {"name": "quadratic"}}
    state = Distillation(config, task=tiny_task(), registry=registry)
    with pytest.raises(NonFiniteError, match=r"dloss/dx.*step 1"):
        state.step()
    assert state.latents["x"].abs().sum() == 0


def test_sgd_needs_rates():
    with pytest.raises(UsageError, match=r"pixels.*sgd"):
        run(steps=1, objective=DM, optimizer={"name": "sgd"})


def test_rate_for_an_unknown_latent():
    with pytest.raises(UsageError, match=r"'pixel'.*'pixels'"):
        run(steps=1, objective=DM, optimizer={"learning_rates": {"pixel": 1}})


@pytest.mark.parametrize("name", ["cuda:99", "nonsense", "meta"])
def test_device_that_is_not_there(name):
    with pytest.raises(UsageError, match=repr(name)):
        choose_device(name)


@pytest.mark.slow
def test_the_default_generator_has_a_prior_for_the_default_data():
    # No generator, option or folder is given: what is shipped must be enough.
    state = Distillation({"data": {"name": "fashion-mnist:embedded"}})
    assert state.latents.learned == {"latent", "class_embedding"}
    images = state.images()
    assert tuple(images.shape) == (10, 1, 32, 32)
    assert torch.isfinite(images).all()


class OneRowMore(TwoImages):
    images_per_latent = 1

    def initial_latents(self, task, labels, rng):
        return super().initial_latents(task, torch.cat([labels, labels[:1]]), rng)


class NothingLearned(TwoImages):
    images_per_latent = 1

    def initial_latents(self, task, labels, rng):
        return Latents(super().initial_latents(task, labels, rng).tensors(), ())


class NotSquare(TwoImages):
    images_per_latent = 1

    def render(self, latents):
        return latents["x"][..., :8]


class GivesALoss(Objective):
    def match(self, images, labels, step):
        return 1.0


class WrongGradient(Objective):
    def match(self, images, labels, step):
        return Match(1.0, torch.ones(1))


@pytest.mark.parametrize(
    ("kind", "factory", "message"),
    [
        ("generator", OneRowMore, r"generator 'broken'.* 4 .* 3 "),
        ("generator", NothingLearned, "generator 'broken'"),
        ("generator", NotSquare, r"generator 'broken'.*\(1, 16, 8\).*\(1, 16, 16\)"),
        ("objective", GivesALoss, r"objective 'broken'.*float"),
        ("objective", WrongGradient, r"objective 'broken'.*\(1,\).*\(3, 1, 16, 16\)"),
    ],
)
def test_a_backend_that_breaks_its_contract_is_named(kind, factory, message, registry):
    registry.add(Backend(kind, "broken", factory, "", HERE))
    parts = {"generator": PIXEL, "objective": {"name": "quadratic"}, kind: {"name": "broken"}}
    with pytest.raises(HostError, match=message):
        run(registry, steps=1, **parts)


def test_an_update_that_is_not_finite_stops(registry):
    config = {"objective": {"name": "quadratic"}, "optimizer": {"name": "sgd", "learning_rates": {"pixels": 3e38}}}
    with pytest.raises(NonFiniteError, match=r"latent pixels.*step 1"):
        run(registry, steps=2, **config)


def test_mistakes_show_before_the_first_step_is_asked_for():
    with pytest.raises(UsageError, match="stepz"):
        distill({"stepz": 1}, task=tiny_task())


def test_an_objective_cannot_change_the_latents(registry):
    class WritesInPlace(Quadratic):
        def match(self, images, labels, step):
            match = super().match(images, labels, step)
            images.data.zero_()
            return Match(match.loss, torch.zeros_like(images))

    registry.add(Backend("objective", "writes", WritesInPlace, "", HERE))
    config = {"generator": PIXEL, "objective": {"name": "writes"}}
    state = Distillation(config, task=tiny_task(), registry=registry)
    before = state.images()
    state.step()
    assert torch.equal(state.images(), before)
