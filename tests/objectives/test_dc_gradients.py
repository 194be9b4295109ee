"""Gradients of networks and distances between them: published values, classes together, by hand, and their properties."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ld3m_plugin.networks.build import get_network
from ld3m_plugin.objectives.dc.distances import DISTANCES
from ld3m_plugin.objectives.dc.gradients import real_gradient, synthetic_gradients
from ld3m_plugin.randomness import stream


@pytest.mark.parametrize("distance", ["ours", "mse", "cos"])
@pytest.mark.parametrize("real_at_once", [12, 5])
@pytest.mark.parametrize("classes", [1, 2])
def test_loss_and_image_gradient_equal_the_published_values(
    golden, set_golden_weights, relative_error, distance, real_at_once, classes
):
    # Two classes at once are the same class twice: the vectorised form.
    values = golden("core_objectives")
    network = get_network("ConvNet", channels=3, image_size=32, num_classes=10, depth=3, width=32)
    set_golden_weights(network)
    images = values["synthetic_images"].repeat(classes, 1, 1, 1, 1).requires_grad_()
    real = real_gradient(network, values["real_images"], 3, real_at_once)
    synthetic = synthetic_gradients(network, images, torch.full((classes, 2), 3))
    loss = DISTANCES[distance]([torch.stack([r] * classes) for r in real], synthetic)
    (gradient,) = torch.autograd.grad(loss.sum(), images)
    for k in range(classes):
        # Measured: 3e-7 and 1e-6, rounding of float32; ten times that for other processors.
        assert relative_error(loss[k].detach(), values[f"dc.{distance}.loss"][0]) < 3e-6
        assert relative_error(gradient[k], values[f"dc.{distance}.image_grad"]) < 1e-5


@pytest.mark.parametrize("norm", ["instancenorm", "batchnorm", "groupnorm", "layernorm", "none"])
@pytest.mark.parametrize("distance", ["ours", "mse", "cos"])
def test_classes_together_equal_one_by_one_under_every_norm(norm, distance):
    # In float64, where one step of rounding cannot hide a wrong second derivative.
    network = get_network("ConvNet", channels=1, image_size=16, num_classes=3, depth=2, width=8, norm=norm)
    network = network.double().eval()
    real = [torch.randn(3, *weight.shape, dtype=torch.float64) for weight in network.parameters()]
    labels = torch.arange(3)[:, None].expand(3, 2)
    images = torch.randn(3, 2, 1, 16, 16, generator=stream(0, "images")).double()

    def gradient(at_once):
        leaf = images.clone().requires_grad_()
        for rows in torch.arange(3).split(at_once):
            synthetic = synthetic_gradients(network, leaf[rows], labels[rows])
            DISTANCES[distance]([tensor[rows] for tensor in real], synthetic).sum().backward()
        return leaf.grad

    torch.testing.assert_close(gradient(3), gradient(1), rtol=1e-9, atol=1e-12)


@settings(max_examples=25)
@given(
    st.sampled_from(sorted(DISTANCES)),
    st.integers(1, 3),
    st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_distances_are_not_negative_and_zero_between_equals(distance, classes, shapes):
    rng = stream(0, classes, str(shapes))
    one, other = (
        [torch.randn(classes, *shape, generator=rng, dtype=torch.float64) for shape in shapes] for _ in range(2)
    )
    measure = DISTANCES[distance]
    assert (measure(one, other) >= 0).all()
    assert measure(one, other).shape == (classes,)
    # The published epsilon leaves 1e-6 / |row|^2 of each row.
    rows = sum(shape[0] for shape in shapes if len(shape) > 1)
    smallest = min(float(g.flatten(2).norm(dim=-1).min()) if g.ndim > 2 else 1.0 for g in one)
    slack = {
        "ours": 1e-6 * rows / smallest**2,
        "mse": 0,
        "cos": 1e-6 / min(sum(g[k].square().sum() for g in one) for k in range(classes)),
    }
    assert (measure(one, one) <= float(slack[distance]) + 1e-12).all()


def test_biases_and_norms_count_in_mse_and_cos_alone():
    one, other = [torch.tensor([[1.0, 2.0]])], [torch.tensor([[2.0, -1.0]])]
    # By hand: (1 - 2)^2 + (2 + 1)^2 = 10; the vectors are orthogonal.
    assert {name: float(measure(one, other)) for name, measure in DISTANCES.items()} == {"ours": 0, "mse": 10, "cos": 1}


@pytest.mark.slow
@pytest.mark.parametrize("distance", sorted(DISTANCES))
@pytest.mark.parametrize("classes", [1, 2])
def test_gradient_of_the_loss_is_right(distance, classes):
    network = get_network(
        "ConvNet", rng=stream(0, "n"), channels=1, image_size=4, num_classes=2, depth=1, width=2, act="swish"
    ).double()
    rng = stream(0, "gradcheck")
    real = [torch.randn(classes, *p.shape, generator=rng, dtype=torch.float64) for p in network.parameters()]
    images = torch.randn(classes, 2, 1, 4, 4, generator=rng, dtype=torch.float64, requires_grad=True)
    labels = torch.arange(classes)[:, None].expand(classes, 2)

    def loss(images):
        return DISTANCES[distance](real, synthetic_gradients(network, images, labels)).sum()

    assert torch.autograd.gradcheck(loss, images)
