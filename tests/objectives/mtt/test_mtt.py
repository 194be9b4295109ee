"""MTT as an objective: what it draws, what it learns, what it keeps, and what it refuses."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call
from torch.nn import functional as F

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.augmentation import DSA
from ld3m_plugin.backends import get_objective
from ld3m_plugin.budgets import saved_bytes
from ld3m_plugin.config import RunConfig, completed, dump
from ld3m_plugin.errors import ArtefactError, ExpertError, HostError, InvalidOptionError, NonFiniteError, UsageError
from ld3m_plugin.networks.build import get_network
from ld3m_plugin.objectives.mtt.experts import MemoryExperts, flat
from ld3m_plugin.objectives.mtt.fitting_form import graph_bytes
from ld3m_plugin.objectives.mtt.mtt_objective import MTT
from ld3m_plugin.objectives.mtt.rate import LearnedRate
from ld3m_plugin.options import build
from ld3m_plugin.randomness import stream
from ld3m_plugin.runs.run import resume, start
from ld3m_plugin.testing import check_objective, tiny_task

SMALL = {"network_settings": {"depth": 2, "width": 8}, "expert_epochs": 2, "max_start_epoch": 2, "syn_steps": 3}
LABELS = torch.arange(3).repeat_interleave(2)


@pytest.fixture(scope="module")
def experts(trained_experts):
    return trained_experts(tiny_task())


def made(experts, **options):
    objective = get_objective("mtt", **{**SMALL, **options})
    objective.experts = experts
    return objective


def prepared(experts, labels=LABELS, task=None, **options):
    objective = made(experts, **options)
    objective.prepare((task or tiny_task()).for_training(), labels, stream(0, "objective"))
    return objective


def some_images(count=6, name="images", size=16):
    return torch.randn(count, 1, size, size, generator=stream(0, name))


@pytest.mark.parametrize("options", [{"gradient": "adjoint"}, {"batch_syn": 2}, {"dsa": "none", "lr_lr": 0.01}])
def test_keeps_the_contract(experts, options):
    check_objective(lambda: made(experts, **options), tiny_task())


def test_approximate_gradient_goes_on_bit_for_bit(experts):
    # `first-order` is not the gradient of its loss, so that the suite's descent may fail; all else holds.
    task = tiny_task()
    straight, resumed = (prepared(experts, gradient="first-order") for _ in range(2))
    straight.match(some_images().requires_grad_(), LABELS, 0)
    resumed.load_state_dict(straight.state_dict())
    one, other = (o.match(some_images().requires_grad_(), LABELS, 1) for o in (straight, resumed))
    assert (one.loss, task.num_classes) == (other.loss, 3)
    assert torch.equal(one.image_grad, other.image_grad)


def test_equals_a_plain_training_of_the_student(experts):
    # A second form: torch's own optimiser and the network's own parameters.
    options = {"syn_steps": 5, "batch_syn": 4, "lr_teacher": 0.03}
    objective = prepared(experts, **options)
    match = objective.match(some_images().requires_grad_(), LABELS, 0)
    rng = objective.draws(0, "trajectory")
    expert, epoch = int(torch.randint(2, (), generator=rng)), int(torch.randint(2, (), generator=rng))
    rng = objective.draws(0, "student")
    # All six images in a random order, four and two at a time.
    rows = [part for _ in range(3) for part in torch.randperm(6, generator=rng).split(4)][:5]
    dsa = DSA()
    draws = [dsa.draw((len(batch), 1, 16, 16), rng, siamese=False) for batch in rows]
    network = get_network("ConvNet", channels=1, image_size=16, num_classes=3, depth=2, width=8)
    start, target = experts.parameters(expert, epoch), experts.parameters(expert, epoch + 2)
    torch.nn.utils.vector_to_parameters(start.clone(), network.parameters())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.03)
    for batch, draw in zip(rows, draws, strict=True):
        optimizer.zero_grad()
        F.cross_entropy(network(dsa.apply(some_images()[batch], draw)), LABELS[batch]).backward()
        optimizer.step()
    expected = (flat(network) - target).square().sum() / (start - target).square().sum()
    assert match.loss == pytest.approx(float(expected), rel=1e-5)
    assert match.metrics["start_epoch"] == epoch


def test_an_expert_that_trained_on_these_images_is_matched_to_zero():
    # The expert is the student: the same images, order and rate; the loss is rounding alone.
    task, images = tiny_task(), some_images()
    network = get_network("ConvNet", rng=stream(0, "n"), channels=1, image_size=16, num_classes=3, depth=2, width=8)
    start = flat(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(network(images), LABELS).backward()
        optimizer.step()
    experts = MemoryExperts([{0: start, 1: flat(network)}])
    options = {"dsa": "none", "expert_epochs": 1, "max_start_epoch": 1, "lr_teacher": 0.05}
    match = prepared(experts, task=task, **options).match(images.clone().requires_grad_(), LABELS, 0)
    assert 0 <= match.loss < 1e-9


@pytest.mark.slow
@settings(max_examples=8)
@given(st.permutations(range(6)))
def test_order_of_images_changes_nothing(experts, relative_error, order):
    # With all images in each batch and no augmentation, only sums come out in another order.
    images, options = some_images(), {"dsa": "none"}
    plain = prepared(experts, **options).match(images.clone().requires_grad_(), LABELS, 0)
    moved = prepared(experts, LABELS[order], **options).match(images[order].clone().requires_grad_(), LABELS[order], 0)
    # Measured over 65 orders: 1e-7 each; twenty times that for other processors.
    assert moved.loss == pytest.approx(plain.loss, rel=2e-6)
    assert relative_error(moved.image_grad, plain.image_grad[order]) < 2e-6


def test_one_hot_labels_equal_class_indices(experts, relative_error):
    soft = F.one_hot(LABELS).float()
    hard = prepared(experts).match(some_images().requires_grad_(), LABELS, 0)
    other = prepared(experts, soft).match(some_images().requires_grad_(), soft, 0)
    # Measured: no difference at all; a float32's rounding for other processors.
    assert other.loss == pytest.approx(hard.loss, rel=1e-6)
    assert relative_error(other.image_grad, hard.image_grad) < 1e-6


def test_dropout_leaves_out_the_same_units_on_the_way_back(relative_error):
    task = tiny_task(image_size=32)
    vit = {"network": "ViT", "network_settings": {"dim": 16, "depth": 1, "heads": 2, "mlp_dim": 16, "dropout": 0.5}}
    network = get_network(
        "ViT", rng=stream(0, "n"), channels=1, image_size=32, num_classes=3, **vit["network_settings"]
    )
    start = flat(network)
    experts = MemoryExperts([{0: start, 1: start + 0.01 * torch.randn(start.shape, generator=stream(0, "t"))}])
    options = {**vit, "expert_epochs": 1, "max_start_epoch": 1}
    before = torch.get_rng_state()
    one, other = (
        prepared(experts, task=task, gradient=gradient, **options).match(
            some_images(size=32).requires_grad_(), LABELS, 0
        )
        for gradient in ("adjoint", "unrolled")
    )
    assert torch.equal(torch.get_rng_state(), before)
    # Measured: 0 and 2e-7 of a gradient of 8e-5; ten times that for other processors.
    assert one.loss == pytest.approx(other.loss, rel=1e-6)
    assert relative_error(one.image_grad, other.image_grad) < 2e-6


@pytest.mark.parametrize(("budget", "form"), [(4.0, "unrolled"), (1e-4, "adjoint")])
def test_auto_is_the_graph_of_all_steps_where_it_fits(experts, budget, form):
    # The graph takes 0.8 MiB; 1e-4 GiB are 0.1.
    images = some_images()
    chosen = prepared(experts, memory_budget=budget).match(images.clone().requires_grad_(), LABELS, 0)
    named = prepared(experts, gradient=form).match(images.clone().requires_grad_(), LABELS, 0)
    assert (chosen.loss, chosen.metrics["unrolled"]) == (named.loss, form == "unrolled")
    assert torch.equal(chosen.image_grad, named.image_grad)
    assert "unrolled" not in named.metrics


def test_a_run_keeps_the_form_that_auto_chose(experts):
    # As if another version of torch counted other bytes.
    first, resumed = prepared(experts, memory_budget=1e-4), prepared(experts)
    resumed.load_state_dict(first.state_dict())
    one, other = (o.match(some_images().requires_grad_(), LABELS, 1) for o in (first, resumed))
    assert (other.metrics["unrolled"], one.loss) == (0, other.loss)
    assert torch.equal(one.image_grad, other.image_grad)


def test_bytes_of_the_graph_are_those_that_autograd_keeps():
    # A second form: the student's training itself, whose graph is held until all bytes are counted.
    network = get_network("ConvNet", rng=stream(0, "n"), channels=1, image_size=16, num_classes=3, depth=2, width=8)
    names, images = [name for name, _ in network.named_parameters()], some_images().requires_grad_()

    def training():
        weights, held = list(network.parameters()), []
        for _ in range(4):
            loss = F.cross_entropy(functional_call(network, dict(zip(names, weights, strict=True)), (images,)), LABELS)
            gradients = torch.autograd.grad(loss, weights, create_graph=True)
            held.append((weights, gradients))
            weights = [weight - 0.01 * gradient for weight, gradient in zip(weights, gradients, strict=True)]
        return held

    counted, kept = graph_bytes(network, images.shape, 4), saved_bytes(training)
    assert 0.9 * kept < counted < 1.1 * kept
    assert graph_bytes(network, (12, 1, 16, 16), 4) > 1.5 * counted
    assert graph_bytes(network, images.shape, 8) == 2 * counted


def test_learning_rate_follows_its_gradient(experts):
    objective = prepared(experts, lr_lr=1e-3, lr_teacher=0.01)
    assert objective.learned() == {"synthetic_learning_rate": 0.01}
    match = objective.match(some_images().requires_grad_(), LABELS, 0)
    assert match.metrics["synthetic_learning_rate"] == 0.01  # the one the step was made with
    again = prepared(experts, lr_lr=0).match(some_images().requires_grad_(), LABELS, 0)
    assert again.loss == match.loss
    moved = objective.learned()["synthetic_learning_rate"]
    # A step along the gradient: the same draw at the moved rate is closer to the expert.
    assert prepared(experts, lr_teacher=moved).match(some_images().requires_grad_(), LABELS, 0).loss < match.loss


@given(st.lists(st.floats(-1e6, 1e6), max_size=30), st.floats(1e-4, 1), st.floats(1e-7, 1), st.floats(0, 0.9))
def test_learning_rate_stays_positive_and_is_the_published_one_unless_shortened(gradients, value, rate, momentum):
    learned, velocity = LearnedRate(value, rate, momentum), 0.0
    for gradient in gradients:
        velocity = momentum * velocity + gradient
        published, half = learned.value - rate * velocity, learned.value / 2
        shortened = learned.update(gradient)
        assert 0 < learned.value < float("inf")
        assert shortened == (published < half)
        assert learned.value == (half if shortened else published)


def test_a_run_says_when_the_rate_was_shortened(experts):
    # Above the best rate the gradient is positive; so large a step would train backwards from here on.
    objective = prepared(experts, lr_teacher=20.0, lr_lr=1e9, momentum_lr=0)
    match = objective.match(some_images().requires_grad_(), LABELS, 0)
    assert (match.metrics["shortened_rate_step"], objective.learned()) == (1, {"synthetic_learning_rate": 10.0})


def test_momentum_of_the_rate_by_hand():
    learned = LearnedRate(1.0, rate=0.1, momentum=0.5)
    for gradient in (-1.0, -2.0):
        learned.update(gradient)
    # Velocities -1 and -2.5: 1 + 0.1 + 0.25.
    assert learned.value == pytest.approx(1.35)


def test_batches_run_through_all_images_in_turn(experts):
    objective = prepared(experts, batch_syn=4, syn_steps=5)
    batches = objective._batches(6, objective.draws(0, "student"))
    assert [len(batch) for batch in batches] == [4, 2, 4, 2, 4]
    for first, second in (batches[:2], batches[2:4]):
        assert sorted(torch.cat([first, second]).tolist()) == list(range(6))


def test_starts_and_experts_are_drawn_from_all(experts):
    objective = prepared(experts, syn_steps=1)
    epochs = {objective.match(some_images().requires_grad_(), LABELS, i).metrics["start_epoch"] for i in range(20)}
    assert epochs == {0, 1}  # below max_start_epoch


def test_too_few_epochs_say_what_to_change(experts):
    with pytest.raises(InvalidOptionError, match=r"max_start_epoch = 4 .* epoch 4 .* 0, 1, 2, 3: .* 5 epochs"):
        prepared(experts, max_start_epoch=4)


def test_experts_of_another_network_are_refused(experts):
    with pytest.raises(HostError, match=r"\(1083,\).* 'ConvNet' .*network_settings"):
        prepared(experts, network_settings={"depth": 2, "width": 16})


def test_an_expert_that_stood_still_is_named():
    start = flat(get_network("ConvNet", channels=1, image_size=16, num_classes=3, depth=2, width=8))
    still = MemoryExperts([{0: start, 1: start.clone()}])
    with pytest.raises(ExpertError, match=r"expert 0 .* epochs 0 and 1"):
        prepared(still, expert_epochs=1, max_start_epoch=1).match(some_images().requires_grad_(), LABELS, 0)


def test_a_student_that_diverges_says_which_rate_to_lower(experts):
    with pytest.raises(NonFiniteError, match=r"step 1.* 1e\+30.*-O lr_teacher"):
        prepared(experts, lr_teacher=1e30).match(some_images().requires_grad_(), LABELS, 0)


def test_the_network_of_the_experts_is_not_set_twice():
    with pytest.raises(InvalidOptionError, match=r"expert_settings.*network_settings"):
        get_objective("mtt", expert_settings={"network_settings": {"width": 8}})


def test_batch_norm_is_refused(experts):
    with pytest.raises(InvalidOptionError, match=r"'ConvNet' .*{norm: instancenorm}"):
        prepared(experts, network_settings={"depth": 2, "width": 8, "norm": "batchnorm"})


@pytest.mark.parametrize("option", [{"syn_steps": 0}, {"gradient": "exact"}, {"lr_teacher": -1}, {"momentum_lr": 1}])
def test_options_outside_their_range_are_refused(option):
    with pytest.raises(InvalidOptionError, match=next(iter(option))):
        get_objective("mtt", **option)


def test_experts_of_memory_must_have_the_same_epochs():
    with pytest.raises(ValueError, match="same epochs"):
        MemoryExperts([{0: torch.zeros(1)}, {0: torch.zeros(1), 1: torch.zeros(1)}])


def test_the_registered_objective_is_this_one():
    assert isinstance(get_objective("mtt"), MTT)


RUN = {
    "generator": {"name": "pixel"},
    "objective": {"name": "mtt", "options": {**SMALL, "lr_lr": 1e-4}},
    "steps": 2,
    "checkpoint_every": 1,
    "evaluation": {"protocol": "mtt", "final": False},
}


@pytest.fixture
def opens_tiny_experts(experts, monkeypatch):
    """What the store would open, already in memory."""
    monkeypatch.setattr("ld3m_plugin.objectives.mtt.mtt_objective.open_experts", lambda *_, **__: experts)


def test_a_run_does_not_go_on_with_other_experts(experts, tmp_path, monkeypatch):
    def opening(experts):
        monkeypatch.setattr("ld3m_plugin.objectives.mtt.mtt_objective.open_experts", lambda *_, **__: experts)

    def copy(change):
        first, second = ({epoch: experts.parameters(n, epoch).clone() for epoch in experts.epochs} for n in range(2))
        change(first)
        return MemoryExperts([first, second])

    opening(experts)
    config = completed(build(RunConfig, RUN, "the configuration"))
    start(config, tmp_path / "run", task=tiny_task())
    opening(copy(lambda rows: rows[2].add_(1e-6)))
    with pytest.raises(ArtefactError, match="experts_sha256"):
        resume(tmp_path / "run", task=tiny_task())
    opening(copy(lambda rows: None))  # the same weights, in other memory
    resume(tmp_path / "run", task=tiny_task())


@pytest.mark.usefixtures("opens_tiny_experts")
def test_a_run_writes_the_learned_rate_and_goes_on_with_it(tmp_path):
    config = completed(build(RunConfig, RUN, "the configuration"))
    learned = start(config, tmp_path / "run", task=tiny_task()).distilled.learned
    assert learned["synthetic_learning_rate"] != 0.01
    assert DistilledSet.load(tmp_path / "run").learned == learned
    one = config.model_copy(update={"steps": 1})
    start(one, tmp_path / "stopped", task=tiny_task())
    (tmp_path / "stopped" / "config.yaml").write_text(dump(config))
    assert resume(tmp_path / "stopped", task=tiny_task()).distilled.learned == learned


def test_a_run_that_learns_no_rate_is_refused_before_its_first_step(tmp_path):
    objective = {"name": "dm", "options": {"batch_real": 4, "network_settings": SMALL["network_settings"]}}
    config = build(RunConfig, {**RUN, "objective": objective, "evaluation": {"protocol": "mtt"}}, "the configuration")
    with pytest.raises(UsageError, match="--protocol dsa-2021"):
        start(config, tmp_path / "run", task=tiny_task())
    assert not (tmp_path / "run").exists()
