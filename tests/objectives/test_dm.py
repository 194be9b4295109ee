"""DM against the published values, against a second form, by hand, and its properties."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ld3m_plugin.backends import get_objective
from ld3m_plugin.data.memory import InMemoryImages
from ld3m_plugin.errors import InvalidOptionError
from ld3m_plugin.networks.build import get_network
from ld3m_plugin.objectives.dm import dm_loss
from ld3m_plugin.objectives.matching import class_weights, random_network, real_images_at_once
from ld3m_plugin.randomness import stream
from ld3m_plugin.testing import tiny_task

SMALL = {"batch_real": 6, "network_settings": {"depth": 2, "width": 8}}


def prepared(task, labels, **options):
    objective = get_objective("dm", **{**SMALL, **options})
    objective.prepare(task.for_training(), labels, stream(0, "objective"))
    return objective


def real_pool(task):
    """All training images of each class, normalised: (K, B, C, H, W)."""
    counts = task.train.counts()
    return torch.stack([task.normalise(task.train.read(k, torch.arange(n))) for k, n in enumerate(counts)])


def test_loss_and_image_gradient_equal_the_published_values(golden, set_golden_weights, relative_error):
    values = golden("core_objectives")
    network = get_network("ConvNet", channels=3, image_size=32, num_classes=10, depth=3, width=32)
    set_golden_weights(network)
    images = values["synthetic_images"].requires_grad_()
    means = torch.zeros(10, 512)
    means[3] = network.embed(values["real_images"]).mean(0).detach()
    weights = class_weights(torch.tensor([3, 3]), 10)
    loss = dm_loss(means, network.embed(images), weights)
    (gradient,) = torch.autograd.grad(loss, images)
    assert relative_error(loss.detach(), values["dm.loss"][0]) < 1e-5
    assert relative_error(gradient, values["dm.image_grad"]) < 1e-4


def test_equals_a_loop_over_classes():
    # The published form: class by class, a forward each. The objective does all classes in one forward.
    task, labels = tiny_task(), torch.tensor([0, 0, 1, 2, 2])
    images = torch.randn(5, 1, 16, 16, generator=stream(0, "images")).requires_grad_()
    objective = prepared(task, labels, dsa="none")
    match = objective.match(images, labels, 0)
    network = random_network(objective.options, task, objective.draws(0, "network"))
    expected = torch.zeros(())
    for k in range(3):
        real = task.real_images(k, 6, objective.draws(0, "real", k))
        difference = network.embed(real).mean(0).detach() - network.embed(images[labels == k]).mean(0)
        expected = expected + difference.square().sum()
    assert match.loss == pytest.approx(float(expected.detach()), rel=1e-5)
    torch.testing.assert_close(match.image_grad, torch.autograd.grad(expected, images)[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dsa", ["none", "color_crop_cutout_flip_scale_rotate"])
def test_real_images_as_synthetic_give_zero(dsa):
    # With augmentation this holds only if the draw is siamese: the same for real and synthetic images.
    task = tiny_task(train=6)
    images = real_pool(task).flatten(0, 1)
    labels = torch.arange(3).repeat_interleave(6)
    objective = prepared(task, labels, dsa=dsa)
    for step in range(8):
        match = objective.match(images.clone().requires_grad_(), labels, step)
        assert match.loss < 1e-8


def test_draws_differ_between_classes():
    # Identical images in two classes, so that only the augmentation can tell their gradients apart.
    task = tiny_task(classes=2)
    images = torch.randn(1, 1, 16, 16, generator=stream(0, "images")).repeat(2, 1, 1, 1)
    labels = torch.tensor([0, 1])
    objective = prepared(task, labels, dsa="crop")
    shapes = []
    for step in range(6):
        gradient = objective.match(images.clone().requires_grad_(), labels, step).image_grad
        shapes.append([(g.abs().sum(dim=0) > 0).sum().item() for g in gradient[:, 0]])
    assert any(first != second for first, second in shapes)


@pytest.mark.slow
@settings(max_examples=20)
@given(st.permutations(range(6)))
def test_order_of_images_changes_nothing(order):
    task, labels = tiny_task(), torch.tensor([0, 0, 1, 1, 2, 2])
    images = torch.randn(6, 1, 16, 16, generator=stream(0, "images"))
    plain = prepared(task, labels).match(images.clone().requires_grad_(), labels, 0)
    moved = prepared(task, labels).match(images[order].clone().requires_grad_(), labels[order], 0)
    assert moved.loss == pytest.approx(plain.loss, rel=1e-5)
    torch.testing.assert_close(moved.image_grad, plain.image_grad[order], rtol=1e-4, atol=1e-6)


def test_one_hot_labels_equal_class_indices():
    task, labels = tiny_task(), torch.tensor([0, 1, 1, 2])
    images = torch.randn(4, 1, 16, 16, generator=stream(0, "images"))
    hard = prepared(task, labels).match(images.clone().requires_grad_(), labels, 0)
    soft = torch.nn.functional.one_hot(labels).float()
    other = prepared(task, soft).match(images.clone().requires_grad_(), soft, 0)
    assert other.loss == pytest.approx(hard.loss, rel=1e-6)
    torch.testing.assert_close(other.image_grad, hard.image_grad)


@pytest.mark.parametrize("at_once", [1, 4, 7])
def test_split_real_forward_gives_the_same(at_once):
    task, labels = tiny_task(), torch.arange(3)
    images = torch.randn(3, 1, 16, 16, generator=stream(0, "images"))
    whole = prepared(task, labels).match(images.clone().requires_grad_(), labels, 0)
    in_parts = prepared(task, labels)
    in_parts._at_once = {"ConvNet": at_once}
    parts = in_parts.match(images.clone().requires_grad_(), labels, 0)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)
    torch.testing.assert_close(parts.image_grad, whole.image_grad, rtol=1e-4, atol=1e-6)


@settings(max_examples=25)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6), st.floats(0.1, 10))
def test_loss_is_not_negative_and_scales_with_the_square(classes, images, features, scale):
    rng = stream(0, classes, images, features)
    means = torch.randn(classes, features, generator=rng, dtype=torch.float64)
    embedded = torch.randn(images, features, generator=rng, dtype=torch.float64)
    weights = class_weights(torch.randint(0, classes, (images,), generator=rng), classes).double()
    loss = dm_loss(means, embedded, weights)
    assert loss >= 0
    torch.testing.assert_close(dm_loss(scale * means, scale * embedded, weights), scale**2 * loss)


def test_gradient_of_the_loss_is_right():
    rng = stream(0, "gradcheck")
    means = torch.randn(2, 3, generator=rng, dtype=torch.float64)
    embedded = torch.randn(4, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    weights = class_weights(torch.tensor([0, 0, 1, 1]), 2).double()
    assert torch.autograd.gradcheck(lambda e: dm_loss(means, e, weights), embedded)


def test_class_without_images_does_not_count():
    means = torch.tensor([[1.0], [5.0]])
    # Only class 0 has an image: (1 - 3)^2 = 4, and nothing of class 1's mean.
    assert dm_loss(means, torch.tensor([[3.0]]), class_weights(torch.tensor([0]), 2)) == 4


def test_a_small_class_gives_all_its_images_and_is_said():
    """Against a second form: the mean over all images of the small class, in the order in which they are drawn."""
    task, labels = unequal_task(), torch.arange(3)
    dm = prepared(task, labels, dsa="none")
    assert dm.notes() == ("fewer images than batch_real = 6: each step takes all images of 'class 0' (4)",)
    images = task.real_images_of(labels, stream(1, "x")).requires_grad_()
    loss = dm.match(images, labels, 0).loss
    network = random_network(dm.options, task, dm.draws(0, "network"))
    with torch.no_grad():
        real = [task.real_images(k, count, dm.draws(0, "real", k)) for k, count in enumerate((4, 6, 6))]
        means = torch.stack([network.embed(some).mean(0) for some in real])
        assert float(loss) == pytest.approx(float((means - network.embed(images)).square().sum()), rel=1e-4)


def unequal_task():
    task = tiny_task(train=8)
    pixels = [task.train.read(k, torch.arange(4 if k == 0 else 8)) for k in range(3)]
    return replace(task, train=InMemoryImages(pixels, "unequal images"))


def test_enough_images_are_no_note():
    assert prepared(tiny_task(train=6), torch.arange(3)).notes() == ()


def test_dropout_in_the_network_draws_from_the_given_stream():
    task, labels = tiny_task(image_size=32), torch.arange(3)
    images = torch.randn(3, 1, 32, 32, generator=stream(0, "images"))
    vit = {"network": "ViT", "network_settings": {"dim": 32, "depth": 1, "heads": 2}}
    before = torch.get_rng_state()
    losses = [prepared(task, labels, **vit).match(images.clone().requires_grad_(), labels, 0).loss for _ in range(2)]
    assert losses[0] == losses[1]
    assert torch.equal(torch.get_rng_state(), before)


def test_batch_norm_is_never_split():
    # Its statistics are of the whole batch, so that a split forward would be another loss.
    task, labels = tiny_task(train=200), torch.arange(3)
    norm = {"network_settings": {"depth": 2, "width": 8, "norm": "batchnorm"}}
    assert prepared(task, labels, batch_real=200, **norm)._at_once == {"ConvNet": 600}
    assert prepared(task, labels, batch_real=200)._at_once == {"ConvNet": 128}  # 32,768 pixels


@pytest.mark.parametrize(("size", "images"), [(32, 32), (28, 41), (64, 8), (256, 1), (512, 1)])
def test_real_images_at_once_are_a_constant_of_their_size(size, images):
    assert real_images_at_once(tiny_task(image_size=size, train=1, test=1)) == images


@pytest.mark.parametrize("name", ["dm", "dc"])
def test_settings_of_older_runs_say_a_budget_that_has_no_effect(name):
    with pytest.warns(FutureWarning, match="memory_budget"):
        objective = get_objective(name, memory_budget=4.0, batch_real=6)
    assert objective.options == get_objective(name, batch_real=6).options


def test_loss_is_never_in_half_precision():
    task, labels = tiny_task(), torch.arange(3)
    images = torch.randn(3, 1, 16, 16, generator=stream(0, "images")).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = prepared(task, labels).loss(images, labels, 0)
    assert loss.dtype == torch.float32


@pytest.mark.parametrize("name", ["channels", "rng", "device"])
def test_settings_that_the_task_decides_are_refused(name):
    with pytest.raises(InvalidOptionError, match=f"network_settings.*{name}"):
        get_objective("dm", network_settings={name: 3})


def test_a_wrong_network_setting_is_said_before_the_first_step():
    with pytest.raises(InvalidOptionError, match="depth"):
        prepared(tiny_task(), torch.arange(3), network_settings={"depth": 99})
