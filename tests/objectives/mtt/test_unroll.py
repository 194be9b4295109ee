"""The gradient through a student's training: published values, two forms against each other, finite differences, by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call
from torch.nn import functional as F

from ld3m_plugin.networks.build import get_network
from ld3m_plugin.objectives.mtt.unroll import Unroll, adjoint, first_order, unrolled
from ld3m_plugin.randomness import stream


def student(network, labels, rows):
    """The loss of a step on the images `rows[step]`, of flat parameters."""
    shapes = {name: parameter.shape for name, parameter in network.named_parameters()}

    def loss(step, theta, images):
        parts = theta.split([shape.numel() for shape in shapes.values()])
        weights = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
        return F.cross_entropy(functional_call(network, weights, (images[rows[step]],)), labels[rows[step]])

    return loss


@pytest.mark.parametrize("form", [adjoint, unrolled])
def test_loss_and_gradients_equal_the_published_values(golden, relative_error, form):
    values = golden("core_objectives")
    network = get_network("ConvNet", channels=3, image_size=32, num_classes=10, depth=3, width=16).double()
    start, target = (
        torch.cat([values[f"mtt.{end}.{name}"].flatten() for name, _ in network.named_parameters()])
        for end in ("start", "target")
    )
    order = values["mtt.batch_order"]
    problem = Unroll(student(network, values["mtt.labels"], order), len(order), start, target)
    found = form(problem, values["mtt.images"], float(values["mtt.synthetic_lr"]))
    assert found.loss == pytest.approx(float(values["mtt.loss"]), rel=1e-6)
    assert found.rate_grad == pytest.approx(float(values["mtt.lr_grad"]), rel=1e-6)
    assert relative_error(found.image_grad, values["mtt.image_grad"]) < 1e-6


def tiny_problem(steps, images, width, norm="instancenorm", seed=0, soft=False):
    """A problem in float64, its images (N, 1, 4, 4), and a rate; activations without kinks."""
    rng = stream(seed, steps, images, width)
    network = get_network(
        "ConvNet", rng=rng, channels=1, image_size=4, num_classes=3, depth=1, width=width, norm=norm, act="swish"
    ).double()
    start = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    target = start + 0.3 * torch.randn(len(start), generator=rng, dtype=torch.float64)
    labels = torch.randint(0, 3, (images,), generator=rng)
    if soft:
        labels = torch.rand(images, 3, generator=rng, dtype=torch.float64).softmax(1)
    rows = [torch.randperm(images, generator=rng)[: max(1, images // 2)] for _ in range(steps)]
    pictures = torch.randn(images, 1, 4, 4, generator=rng, dtype=torch.float64)
    return Unroll(student(network, labels, rows), steps, start, target), pictures


@pytest.mark.slow
@settings(max_examples=25)
@given(
    steps=st.integers(1, 6),
    images=st.integers(1, 5),
    width=st.integers(1, 4),
    norm=st.sampled_from(["instancenorm", "none"]),
    rate=st.floats(1e-3, 0.5),
    soft=st.booleans(),
)
def test_adjoint_equals_the_unrolled_graph(steps, images, width, norm, rate, soft):
    problem, pictures = tiny_problem(steps, images, width, norm, soft=soft)
    one, other = adjoint(problem, pictures, rate), unrolled(problem, pictures, rate)
    assert one.loss == pytest.approx(other.loss, rel=1e-12)
    assert one.rate_grad == pytest.approx(other.rate_grad, rel=1e-9, abs=1e-12)
    torch.testing.assert_close(one.image_grad, other.image_grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("steps", [32, 33, 36, 41])
def test_long_trainings_are_computed_again_in_stretches(steps):
    # Above 32 steps only every √T-th student is kept; the last stretch may be shorter than the others.
    problem, pictures = tiny_problem(steps, images=2, width=2)
    calls = []
    counted = Unroll(
        lambda *arguments: calls.append(arguments[0]) or problem.loss_of_step(*arguments),
        steps,
        problem.start,
        problem.target,
    )
    one, other = adjoint(counted, pictures, 0.05), unrolled(problem, pictures, 0.05)
    torch.testing.assert_close(one.image_grad, other.image_grad, rtol=1e-9, atol=1e-12)
    assert one.rate_grad == pytest.approx(other.rate_grad, rel=1e-9)
    # There and back; and once more for those between, which are all but one of each stretch.
    again = {32: 0, 33: 33 - 7, 36: 36 - 6, 41: 41 - 7}[steps]
    assert len(calls) == 2 * steps + again


@pytest.mark.slow
def test_adjoint_equals_finite_differences():
    problem, pictures = tiny_problem(steps=3, images=2, width=2)
    found, h = adjoint(problem, pictures, 0.2), 1e-6
    rates = [adjoint(problem, pictures, 0.2 + sign * h).loss for sign in (1, -1)]
    assert found.rate_grad == pytest.approx((rates[0] - rates[1]) / (2 * h), rel=1e-6)
    expected = torch.zeros_like(pictures)
    for index in range(pictures.numel()):
        step = torch.zeros(pictures.numel(), dtype=torch.float64)
        step[index] = h
        losses = [adjoint(problem, pictures + sign * step.view_as(pictures), 0.2).loss for sign in (1, -1)]
        expected.view(-1)[index] = (losses[0] - losses[1]) / (2 * h)
    torch.testing.assert_close(found.image_grad, expected, rtol=1e-5, atol=1e-8)


def linear(step, theta, images):
    """A student whose gradient is its image, whatever θ is: loss = θ·x. The last term is zero and keeps θ in the graph."""
    return images[step].flatten() @ theta + 0 * theta.square().sum()


@pytest.mark.parametrize("form", [adjoint, unrolled, first_order])
def test_by_hand(form):
    # θ_2 = θ_0 - a (x_0 + x_1) = 1 - 0.5 (1 + 3) = -1; target 2: loss 9 / 1; dloss/dθ_2 = 2 (-3) / 1 = -6.
    # dloss/dx = -0.5 * -6 = 3 for both images, dloss/da = -(1 + 3) * -6 = 24.
    problem = Unroll(linear, 2, torch.tensor([1.0]), torch.tensor([2.0]))
    found = form(problem, torch.tensor([[1.0], [3.0]]), 0.5)
    assert (found.loss, found.rate_grad) == (9, 24)
    assert found.image_grad.tolist() == [[3], [3]]


def test_first_order_is_exact_for_one_step_and_not_for_more():
    problem, pictures = tiny_problem(steps=1, images=3, width=2)
    torch.testing.assert_close(
        first_order(problem, pictures, 0.2).image_grad, adjoint(problem, pictures, 0.2).image_grad
    )
    problem, pictures = tiny_problem(steps=4, images=3, width=2)
    approximation, exact = (form(problem, pictures, 0.5).image_grad for form in (first_order, adjoint))
    assert (approximation - exact).norm() > 1e-3 * exact.norm()
    assert torch.nn.functional.cosine_similarity(approximation.flatten(), exact.flatten(), dim=0) > 0.5


@settings(max_examples=15)
@given(st.permutations(range(4)))
def test_order_within_a_batch_changes_nothing(order):
    problem, pictures = tiny_problem(steps=3, images=4, width=2)
    rows = torch.tensor(order)
    moved = Unroll(
        lambda i, theta, x: problem.loss_of_step(i, theta, x[rows.argsort()]), 3, problem.start, problem.target
    )
    one, other = adjoint(problem, pictures, 0.1), adjoint(moved, pictures[rows], 0.1)
    assert other.loss == pytest.approx(one.loss, rel=1e-12)
    torch.testing.assert_close(other.image_grad, one.image_grad[rows])


@pytest.mark.parametrize("form", [adjoint, unrolled, first_order])
def test_leaves_its_arguments_alone(form):
    problem, pictures = tiny_problem(steps=3, images=2, width=2)
    before = [tensor.clone() for tensor in (problem.start, problem.target, pictures)]
    found = form(problem, pictures.requires_grad_(), 0.1)
    assert pictures.grad is None
    assert not found.image_grad.requires_grad
    assert all(torch.equal(a, b) for a, b in zip(before, (problem.start, problem.target, pictures), strict=True))


@pytest.mark.parametrize("form", [adjoint, first_order])
def test_mixed_precision_leaves_the_way_back_alone(form):
    # The student's loss has no operation that autocast rounds: nothing of the gradient may be rounded either.
    start, target = torch.linspace(0.1, 1, 12), torch.linspace(-1, 0.7, 12)
    problem = Unroll(lambda step, theta, images: (theta * images.flatten()).sin().sum(), 3, start, target)
    images = torch.linspace(0.3, 0.9, 12).view(1, 1, 3, 4)
    plain = form(problem, images, 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = form(problem, images, 0.1)
    assert (mixed.loss, mixed.rate_grad) == (plain.loss, plain.rate_grad)
    assert torch.equal(mixed.image_grad, plain.image_grad)
