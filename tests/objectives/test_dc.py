"""DC against the published values, against a second form class by class, by hand, and its properties."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ld3m_plugin.backends import get_objective
from ld3m_plugin.errors import InvalidOptionError
from ld3m_plugin.networks.convnet import ConvNet
from ld3m_plugin.objectives.matching import random_network
from ld3m_plugin.randomness import spawn, stream
from ld3m_plugin.testing import check_objective, tiny_task

SMALL = {"batch_real": 6, "network_settings": {"depth": 2, "width": 8}}


def prepared(task, labels, **options):
    objective = get_objective("dc", **{**SMALL, **options})
    objective.prepare(task.for_training(), labels, stream(0, "objective"))
    return objective


def some_images(count, name="images", size=16):
    return torch.randn(count, 1, size, size, generator=stream(0, name))


def reference(network, real, images, label):
    """The layer-wise distance as the paper writes it: parameter by parameter, output by output."""
    labels = torch.full((len(real),), label), torch.full((len(images),), label)
    weights = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    one = torch.autograd.grad(F.cross_entropy(network(real), labels[0]), weights)
    other = torch.autograd.grad(F.cross_entropy(network(images), labels[1]), weights, create_graph=True)
    rows = [(a.flatten(), b.flatten()) for r, s in zip(one, other, strict=True) for a, b in zip(r, s, strict=True)]
    return sum(1 - (a * b).sum() / (a.norm() * b.norm() + 1e-6) for a, b in rows)


@pytest.mark.parametrize("at_once", [1, 2, None])
def test_equals_a_loop_over_classes(at_once):
    task, labels = tiny_task(), torch.tensor([0, 0, 1, 2, 2])
    images = some_images(5).requires_grad_()
    objective = prepared(task, labels, dsa="none", classes_at_once=at_once)
    match = objective.match(images, labels, 0)
    network = random_network(objective.options, task, objective.draws(0, "network"))
    real = [task.real_images(k, 6, objective.draws(0, "real", k)) for k in range(3)]
    expected = sum(reference(network, real[k], images[labels == k], k) for k in range(3))
    assert match.loss == pytest.approx(float(expected.detach()), rel=1e-5)
    torch.testing.assert_close(match.image_grad, torch.autograd.grad(expected, images)[0], rtol=1e-4, atol=1e-6)


class Foreign(ConvNet):
    """A third party's network, with a layer whose second derivative torch.func gets wrong."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.features.append(torch.nn.LayerNorm([8, 4, 4]))


class Casting(ConvNet):
    """A third party's network that runs in single precision alone."""

    def forward(self, images):
        return super().forward(images.float())


class Uncopied(ConvNet):
    """A third party's network that keeps its last features, which cannot be copied."""

    def embed(self, images):
        self.last = super().embed(images)
        return self.last


@pytest.mark.parametrize("network", [Casting, Uncopied])
def test_a_network_that_cannot_be_checked_goes_class_by_class(monkeypatch, network):
    task, labels = tiny_task(), torch.arange(3)
    monkeypatch.setattr("ld3m_plugin.networks.convnet.ConvNet", network)
    results = []
    for options in ({}, {"classes_at_once": 1}):
        objective = prepared(task, labels, dsa="none", **options)
        results += [objective.match(some_images(3).requires_grad_(), labels, step).image_grad for step in range(2)]
    assert torch.equal(torch.stack(results[:2]), torch.stack(results[2:]))


def test_classes_of_a_network_that_does_not_vectorise_go_one_by_one(monkeypatch):
    task, labels = tiny_task(), torch.arange(3)
    monkeypatch.setattr("ld3m_plugin.networks.convnet.ConvNet", Foreign)
    results = [
        prepared(task, labels, dsa="none", **options).match(some_images(3).requires_grad_(), labels, 0).image_grad
        for options in ({}, {"classes_at_once": 1})
    ]
    assert torch.equal(*results)
    with pytest.raises(InvalidOptionError, match="classes_at_once = 2"):
        prepared(task, labels, classes_at_once=2)


def test_outer_loop_trains_the_network_on_the_images_it_is_given():
    # Three matches with one network, two epochs between them; the fourth has a network of its own.
    task, labels = tiny_task(), torch.arange(3).repeat_interleave(2)
    images = [some_images(6, f"images {step}") for step in range(4)]
    objective = prepared(task, labels, dsa="none", outer_loop=3, inner_loop=2, batch_train=4)
    losses = [objective.match(x.clone().requires_grad_(), labels, i).loss for i, x in enumerate(images)]

    for step, x in enumerate(images):
        if step % 3 == 0:
            network = random_network(objective.options, task, objective.draws(step, "network"))
            optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.5)
        else:
            rng = objective.draws(step, "training")
            spawn(rng)  # the stream that dropout would draw from
            for _ in range(2):
                for rows in torch.randperm(6, generator=rng).split(4):
                    optimizer.zero_grad()
                    F.cross_entropy(network(x[rows]), labels[rows]).backward()
                    optimizer.step()
        real = [task.real_images(k, 6, objective.draws(step, "real", k)) for k in range(3)]
        expected = sum(reference(network, real[k], x[labels == k], k) for k in range(3))
        assert losses[step] == pytest.approx(float(expected.detach()), rel=1e-4), f"step {step}"


def test_one_match_a_network_never_trains_it():
    # As published: inner_loop means nothing when outer_loop is 1.
    task, labels = tiny_task(), torch.arange(3)
    losses = [
        [
            objective.match(some_images(3).requires_grad_(), labels, step).loss
            for objective in [prepared(task, labels, inner_loop=n)]
            for step in range(2)
        ]
        for n in (0, 5)
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("stop", [1, 2, 3])
@pytest.mark.parametrize("norm", ["instancenorm", "batchnorm"])
def test_resumes_bit_for_bit_anywhere_in_the_outer_loop(stop, norm):
    task, labels = tiny_task(), torch.arange(3)
    options = {"outer_loop": 3, "inner_loop": 2, "network_settings": {"depth": 2, "width": 8, "norm": norm}}
    images = [some_images(3, f"images {step}") for step in range(5)]
    straight = prepared(task, labels, **options)
    for step in range(stop):
        straight.match(images[step].clone().requires_grad_(), labels, step)
    state = {name: value.clone() for name, value in straight.state_dict().items()}
    resumed = get_objective("dc", **{**SMALL, **options})
    resumed.prepare(task.for_training(), labels, stream(9, "elsewhere"))
    resumed.load_state_dict(state)
    for step in range(stop, 5):
        one, other = (o.match(images[step].clone().requires_grad_(), labels, step) for o in (straight, resumed))
        assert one.loss == other.loss
        assert torch.equal(one.image_grad, other.image_grad)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["batchnorm", "groupnorm", "layernorm", "none"])
@pytest.mark.parametrize("outer_loop", [1, 2])
def test_keeps_the_contract_with_other_norms(norm, outer_loop):
    settings_ = {"depth": 2, "width": 8, "norm": norm}
    check_objective(
        lambda: get_objective("dc", batch_real=8, outer_loop=outer_loop, network_settings=settings_), tiny_task()
    )


def test_batch_norm_uses_statistics_of_real_images():
    # With statistics of the batch, the gradient of one image would depend on the others of its class.
    task, labels = tiny_task(), torch.zeros(2, dtype=torch.long)
    objective = prepared(task, labels, network_settings={"depth": 2, "width": 8, "norm": "batchnorm"})
    objective.match(some_images(2).requires_grad_(), labels, 0)
    network = objective._students[0].network
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(norms) == 2
    for module in norms:
        assert not module.training
        assert int(module.num_batches_tracked) == 1
        assert module.running_mean.abs().sum() > 0


@pytest.mark.slow
@pytest.mark.parametrize("distance", ["ours", "mse", "cos"])
@pytest.mark.parametrize("dsa", ["none", "color_crop_cutout_flip_scale_rotate"])
def test_real_images_as_synthetic_give_zero(distance, dsa):
    # With augmentation this holds only if the draw is siamese: the same for real and synthetic images.
    task = tiny_task(train=6)
    images = torch.cat([task.normalise(task.train.read(k, torch.arange(6))) for k in range(3)])
    labels = torch.arange(3).repeat_interleave(6)
    same, other = (prepared(task, labels, dsa=dsa, distance=distance) for _ in range(2))
    for step in range(8):
        loss = same.match(images.clone().requires_grad_(), labels, step).loss
        # Not zero to the last bit: the published epsilon leaves 1e-6 / |row|^2 of each row of a gradient.
        assert abs(loss) < 1e-3 * other.match(some_images(18).requires_grad_(), labels, step).loss


@pytest.mark.slow
@settings(max_examples=10)
@given(st.permutations(range(6)))
def test_order_of_images_changes_nothing(relative_error, order):
    task, labels = tiny_task(), torch.tensor([0, 0, 1, 1, 2, 2])
    images = some_images(6)
    plain = prepared(task, labels).match(images.clone().requires_grad_(), labels, 0)
    moved = prepared(task, labels).match(images[order].clone().requires_grad_(), labels[order], 0)
    # Measured over 25 orders: 1e-7 each; twenty times that for other processors.
    assert moved.loss == pytest.approx(plain.loss, rel=2e-6)
    assert relative_error(moved.image_grad, plain.image_grad[order]) < 2e-6


def test_one_hot_labels_equal_class_indices():
    task, labels = tiny_task(), torch.tensor([0, 1, 1, 2])
    images = some_images(4)
    hard = prepared(task, labels).match(images.clone().requires_grad_(), labels, 0)
    soft = F.one_hot(labels).float()
    other = prepared(task, soft).match(images.clone().requires_grad_(), soft, 0)
    assert other.loss == pytest.approx(hard.loss, rel=1e-5)
    torch.testing.assert_close(other.image_grad, hard.image_grad, rtol=1e-4, atol=1e-6)


def test_small_parts_give_the_same(relative_error):
    task, labels = tiny_task(), torch.arange(3)
    whole, parts = prepared(task, labels), prepared(task, labels, classes_at_once=1)
    parts._real_at_once = 1
    assert whole._real_at_once > 6
    assert whole._classes_at_once == {"ConvNet": 3}
    one, other = (o.match(some_images(3).requires_grad_(), labels, 0) for o in (whole, parts))
    # Measured: 1e-7 and 6e-7; ten times that for other processors.
    assert other.loss == pytest.approx(one.loss, rel=2e-6)
    assert relative_error(other.image_grad, one.image_grad) < 6e-6


def test_classes_without_images_do_not_count():
    task, labels = tiny_task(), torch.tensor([0, 2])
    match = prepared(task, labels).match(some_images(2).requires_grad_(), labels, 0)
    assert match.loss > 0
    assert (match.image_grad.flatten(1).abs().sum(1) > 0).all()


@pytest.mark.parametrize("at_once", [1, None])
def test_dropout_in_the_network_draws_from_the_given_stream(at_once):
    task, labels = tiny_task(image_size=32), torch.arange(3)
    vit = {"network": "ViT", "network_settings": {"dim": 32, "depth": 1, "heads": 2}, "classes_at_once": at_once}
    before = torch.get_rng_state()
    images = some_images(3, size=32)
    losses = [prepared(task, labels, **vit).match(images.clone().requires_grad_(), labels, 0).loss for _ in range(2)]
    assert losses[0] == losses[1]
    assert torch.equal(torch.get_rng_state(), before)


def test_mixed_precision_leaves_gradients_close():
    task, labels = tiny_task(), torch.arange(3)
    full = prepared(task, labels).match(some_images(3).requires_grad_(), labels, 0)
    with torch.autocast("cpu", torch.bfloat16):
        half = prepared(task, labels).match(some_images(3).requires_grad_(), labels, 0)
    assert half.loss == pytest.approx(full.loss, rel=0.1)
    assert half.image_grad.dtype == torch.float32


def test_a_small_class_gives_all_its_images_and_is_said():
    task, labels = tiny_task(train=4), torch.arange(3)
    losses = []
    for batch in (4, 6):
        dc = prepared(task, labels, batch_real=batch)
        assert len(dc.notes()) == (batch > 4)
        losses.append(dc.match(task.real_images_of(labels, stream(1, "x")).requires_grad_(), labels, 0).loss)
    assert losses[0] == losses[1]


def test_an_unknown_distance_is_refused():
    with pytest.raises(InvalidOptionError, match=r"distance = 'euclid'.*'ours', 'mse' or 'cos'"):
        get_objective("dc", distance="euclid")


def test_a_wrong_network_setting_is_said_before_the_first_step():
    with pytest.raises(InvalidOptionError, match="depth"):
        prepared(tiny_task(), torch.arange(3), network_settings={"depth": 99})
