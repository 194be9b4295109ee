"""Experts: what a training does, that it repeats, goes on, and gives the same alone and together."""

import pytest
import torch
from torch.nn import functional as F

from ld3m_plugin.augmentation import DSA
from ld3m_plugin.contracts import TrainingReporter
from ld3m_plugin.errors import ExpertError, InvalidOptionError, UsageError
from ld3m_plugin.networks.build import get_network
from ld3m_plugin.objectives.mtt.store import ExpertSettings, open_experts
from ld3m_plugin.objectives.mtt.store import train_experts as training
from ld3m_plugin.objectives.mtt.store.expert_files import expert_files, read_header
from ld3m_plugin.objectives.mtt.store.expert_plan import plan_experts
from ld3m_plugin.objectives.mtt.store.learners import learner_of
from ld3m_plugin.objectives.mtt.store.published import import_experts
from ld3m_plugin.objectives.mtt.store.train_experts import train_experts
from ld3m_plugin.objectives.mtt.store.training_images import TrainingImages
from ld3m_plugin.randomness import spawn, stream
from ld3m_plugin.testing import tiny_task


def import_nothing(root, task, options):
    import_experts(root, task, options, [])


# Of weights around 0.1 after a few updates: float32 sums in another order.
ROUNDING = 1e-6


def written_out(task, settings, number, epochs, dsa=None):
    """The training of one expert in plain steps: its weights before it and after each epoch."""
    rng = stream(settings.seed, "expert", number)
    facts = {"channels": task.channels, "image_size": task.image_size, "num_classes": task.num_classes}
    network = get_network("ConvNet", rng=rng, **facts, **settings.network_settings)
    images = torch.cat([task.train.read(k, torch.arange(n)) for k, n in enumerate(task.train.counts())])
    labels = torch.arange(task.num_classes).repeat_interleave(torch.tensor(task.train.counts()))
    spawn(rng)
    speed = [torch.zeros_like(p) for p in network.parameters()]
    rows = [torch.cat([p.detach().flatten() for p in network.parameters()])]
    for _ in range(epochs):
        for which in torch.randperm(len(images), generator=rng).split(settings.batch_size):
            batch = task.normalise(images[which])
            batch = batch if dsa is None else dsa(batch, rng=rng)
            loss = F.cross_entropy(network(batch), labels[which])
            for p, v, g in zip(
                network.parameters(), speed, torch.autograd.grad(loss, list(network.parameters())), strict=True
            ):
                v.mul_(settings.momentum).add_(g + settings.weight_decay * p.detach())
                p.data -= settings.rate * v
        rows.append(torch.cat([p.detach().flatten() for p in network.parameters()]))
    return torch.stack(rows)


@pytest.mark.parametrize(
    "other", [{}, {"dsa": "none"}, {"rate": 0.1, "momentum": 0.5, "weight_decay": 0.01, "seed": 3}], ids=str
)
def test_an_expert_is_sgd_on_all_images_with_a_row_an_epoch(train, task, tiny, every_row, other):
    experts = train(**other)
    assert experts.epochs == (0, 1, 2)
    settings = tiny(**other).settings()
    dsa = None if settings.dsa == "none" else DSA(settings.dsa)
    expected = torch.stack([written_out(task, settings, number, 2, dsa) for number in range(2)])
    rows = every_row(experts)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows, expected, rtol=0, atol=ROUNDING)
    assert (rows[:, 1:] - rows[:, :-1]).abs().amax(2).min() > 100 * ROUNDING, "every epoch must have moved the weights"


def test_the_loss_of_each_epoch_is_recorded_and_falls(train):
    experts = train(epochs=4, rate=0.05, dsa="none")
    for path in expert_files(experts.store.folder).values():
        losses = read_header(path).losses
        assert len(losses) == 4
        assert losses[-1] < losses[0] < 2


def test_rows_load_into_the_network_in_the_order_of_its_parameters(train, task):
    row = train(rate=0.05).parameters(1, 2)
    network = get_network("ConvNet", channels=1, image_size=16, num_classes=3, depth=1, width=8)
    parts = row.split([p.numel() for p in network.parameters()])
    with torch.no_grad():
        for parameter, part in zip(network.parameters(), parts, strict=True):
            parameter.copy_(part.view_as(parameter))
    images = torch.cat([task.normalise(task.train.read(k, torch.arange(12))) for k in range(3)])
    labels = torch.arange(3).repeat_interleave(12)
    trained = float(F.cross_entropy(network(images), labels).detach())
    assert trained < 0.5, "weights in any other order would be at chance, 1.1"


def test_training_repeats_bit_for_bit_and_leaves_the_global_stream(train, every_row):
    before = torch.get_rng_state()
    first = every_row(train("one"))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, every_row(train("two")))
    assert not torch.equal(first, every_row(train("three", seed=1)))
    assert not torch.equal(first[0], first[1])


def test_an_expert_is_a_function_of_seed_and_number_alone(train, every_row, tmp_path):
    all_at_once = every_row(train("whole", count=3))
    train("parts", count=1)
    (one,) = expert_files(next((tmp_path / "parts").iterdir())).values()
    written = one.stat().st_mtime_ns
    assert torch.equal(every_row(train("parts", count=3)), all_at_once)
    assert one.stat().st_mtime_ns == written, "an expert that is finished is not trained again"


def test_two_processes_may_share_the_numbers(train, task, tiny, tmp_path, every_row):
    train_experts(tmp_path / "shared", task, tiny(count=3), first=2)
    (folder,) = (tmp_path / "shared").iterdir()
    assert list(expert_files(folder)) == [2]
    assert torch.equal(every_row(train("shared", count=3)), every_row(train("alone", count=3)))


class Stops(TrainingReporter):
    """Ctrl-C at an update."""

    def __init__(self, at):
        self.at, self.phases = at, []

    def phase(self, name, total, done=0, unit="step"):
        self.phases.append((name, total, done))

    def step(self, done, values):
        if done >= self.at:
            raise KeyboardInterrupt


def test_a_stopped_training_goes_on_with_what_is_missing(train, task, tiny, tmp_path, every_row, monkeypatch):
    monkeypatch.setattr(training, "_REPORTED", 1)
    with pytest.raises(KeyboardInterrupt):
        train_experts(tmp_path / "root", task, tiny(count=3), reporter=Stops(13))  # 8 updates an expert
    (folder,) = (tmp_path / "root").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["expert-00000.safetensors", "settings.json"]
    again = Stops(99)
    train_experts(tmp_path / "root", task, tiny(count=3), reporter=again)
    assert again.phases == [("experts", 24, 8)]
    assert torch.equal(every_row(train(count=3)), every_row(train("straight", count=3)))


@pytest.mark.parametrize("together", [2, 3])
@pytest.mark.parametrize("other", [{}, {"momentum": 0.5, "weight_decay": 0.01}], ids=["published", "momentum"])
def test_together_equals_one_by_one_up_to_rounding(train, every_row, together, other):
    alone = every_row(train("alone", count=3, **other))
    grouped = every_row(train("grouped", count=3, together=together, **other))
    torch.testing.assert_close(grouped, alone, rtol=0, atol=ROUNDING)
    assert torch.equal(grouped[:, 0], alone[:, 0])


@pytest.mark.slow
def test_networks_that_cannot_be_stacked_are_refused_together(train, task, tiny, tmp_path):
    vit = {"network": "ViT", "network_settings": {}, "together": 2}
    for use in (lambda: train(**vit), lambda: plan_experts(tmp_path / "root", task, tiny(**vit), timed=0)):
        with pytest.raises(InvalidOptionError, match=r"'ViT' .*dropout.*-S together"):
            use()
    assert not (tmp_path / "root").exists(), "nothing is left of what was refused"
    facts = {"channels": 1, "image_size": 16, "num_classes": 3, "depth": 1, "width": 8}
    keeping = [get_network("ConvNet", norm="batchnorm", **facts) for _ in range(2)]
    with pytest.raises(InvalidOptionError, match=r"'ConvNet' .*statistics.*-S together"):
        learner_of(keeping, ExpertSettings())


@pytest.mark.parametrize("use", [train_experts, plan_experts, import_nothing], ids=["train", "plan", "import"])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"norm": "batchnorm"}, "'ConvNet' has batch norm.*norm: instancenorm"),
        (
            {"width": 10**13},
            "'ConvNet' with network_settings .*10000000000000.* memory",
        ),
        ({"width": 10**30}, "'ConvNet' with network_settings .* memory"),
    ],
    ids=["batch norm", "too large", "too large to count"],
)
def test_networks_that_cannot_be_experts_are_refused_everywhere(task, tiny, tmp_path, use, settings, message):
    options = tiny(network_settings={"depth": 1, "width": 8, **settings})
    with pytest.raises(InvalidOptionError, match=message) as caught:
        use(tmp_path / "root", task, options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "root").exists()


def test_dropout_draws_from_the_experts_stream(train, every_row):
    other = {"network": "ViT", "network_settings": {"dim": 8, "depth": 1, "heads": 1, "mlp_dim": 8}, "epochs": 1}
    assert torch.equal(every_row(train("one", **other)), every_row(train("two", **other)))


def test_more_epochs_keep_the_rows_of_fewer(train, every_row):
    short = every_row(train(epochs=1))
    longer = every_row(train(epochs=3))
    assert torch.equal(longer[:, :2], short)
    # and a store with more epochs serves a shorter need
    assert train(epochs=1).epochs == (0, 1, 2, 3)


def test_only_the_epochs_that_are_kept_are_trained(train, task, tiny, every_row, tmp_path):
    kept = train("kept", epochs=50, keep_epochs=1)
    assert kept.epochs == (0, 1)
    assert torch.equal(every_row(kept), every_row(train("all", epochs=2))[:, :2])
    with pytest.raises(ExpertError, match="0 to 1, not 50 "):
        open_experts(tmp_path / "kept", task, tiny(epochs=50).settings())


def test_bf16_takes_half_and_is_rounded(train, every_row, tmp_path):
    exact, half = train("exact"), train("half", dtype="bf16")
    assert torch.equal(every_row(half), every_row(exact).bfloat16().float())
    sizes = [sum(p.stat().st_size for p in expert_files(e.store.folder).values()) for e in (exact, half)]
    assert sizes[0] - sizes[1] == pytest.approx(2 * 3 * exact.store.length * 2, abs=64)


def test_two_dtypes_do_not_mix(train):
    folder = train().store.folder
    with pytest.raises(UsageError, match=f"{folder} .*-S dtype=float32"):
        train(dtype="bf16", count=3)


def test_a_rate_that_is_too_high_is_one_line_and_leaves_no_store(train, tmp_path):
    for _ in range(2):
        with pytest.raises(ExpertError, match=r"expert 0 .* epoch 1 .*not finite: .*-S rate"):
            train(rate=1e30)
        assert not (tmp_path / "root").exists()


def test_images_are_the_same_in_memory_and_read_on_use(task, monkeypatch):
    held = list(TrainingImages(task).batches(10, stream(0, "order")))
    monkeypatch.setattr("ld3m_plugin.objectives.mtt.store.training_images.KEEP_BYTES", 0)
    read = list(TrainingImages(task).batches(10, stream(0, "order")))
    assert [len(labels) for _, labels in held] == [10, 10, 10, 6]
    for (images, labels), (same_images, same_labels) in zip(held, read, strict=True):
        assert torch.equal(images, same_images)
        assert torch.equal(labels, same_labels)
    counts = torch.cat([labels for _, labels in held]).bincount()
    assert counts.tolist() == [12, 12, 12]


def test_images_go_with_their_labels():
    task = tiny_task(classes=2, train=5)
    numbers = {
        task.normalise(task.train.read(k, torch.tensor([i]))).sum().item(): k for k in range(2) for i in range(5)
    }
    for images, labels in TrainingImages(task).batches(3, stream(0, "order")):
        assert [numbers[image.sum().item()] for image in images] == labels.tolist()


def test_defaults_are_the_published_ones():
    settings = ExpertSettings()
    assert (settings.network, settings.rate, settings.momentum, settings.weight_decay) == ("ConvNet", 0.01, 0, 0)
    assert (settings.epochs, settings.batch_size, settings.count) == (15, 256, 100)
    assert settings.dsa == "color_crop_cutout_flip_scale_rotate"
