"""Parts of the training of a prior, each against its definition: batches, targets, rates, averages, and one phase's state."""

import socket
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.optim.optimizer import register_optimizer_step_post_hook

from ld3m_plugin.contracts import TrainingReporter
from ld3m_plugin.data.memory import InMemoryImages
from ld3m_plugin.errors import InvalidOptionError, PriorError
from ld3m_plugin.generators.ld3m.training.ldm_training_options import LdmTrainingOptions
from ld3m_plugin.generators.ld3m.training.train_autoencoder import RealBatches, build_autoencoder, encode_everything
from ld3m_plugin.generators.ld3m.training.train_denoiser import DenoisingLoss, build_scheduler
from ld3m_plugin.generators.ld3m.training.train_ldm import start
from ld3m_plugin.networks.learning_rate import warmup_cosine
from ld3m_plugin.priors.training.phase import Phase, run
from ld3m_plugin.randomness import stream
from ld3m_plugin.storage import read_sealed, write_sealed
from ld3m_plugin.testing import tiny_task

# batches ---------------------------------------------------------------------------------------------------------------


def numbered_task(counts):
    """A task whose images carry their number in every pixel, counted over all classes."""
    numbers = torch.arange(sum(counts), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    task = tiny_task(classes=len(counts), image_size=4)
    return replace(task, train=InMemoryImages(numbers.split(counts), "numbered images"))


def numbers_of(pictures):
    return ((pictures[:, 0, 0, 0] + 1) * 127.5).round().long()


@pytest.mark.parametrize("counts", [(1, 0, 5, 2), (0, 3), (3, 0), (4,)], ids=str)
def test_every_image_is_equally_likely_and_keeps_its_class(counts):
    batches, draws = RealBatches(numbered_task(counts), 4000), 4000
    pictures, labels = batches.draw(stream(0, "batches"))
    assert pictures.shape == (draws, 1, 4, 4)
    numbers, class_of = numbers_of(pictures), torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    assert torch.equal(labels, class_of[numbers])
    share = 1 / sum(counts)
    deviation = (numbers.bincount(minlength=sum(counts)) - draws * share).abs()
    assert (deviation <= 5 * (draws * share * (1 - share)) ** 0.5).all()


@pytest.mark.parametrize("counts", [(1, 0, 5, 2), (0, 255)], ids=str)
def test_everything_is_every_image_once(counts):
    parts = list(RealBatches(numbered_task(counts), 2).everything())
    assert all(len(pictures) == len(labels) > 0 for pictures, labels in parts)
    assert torch.cat([numbers_of(pictures) for pictures, _ in parts]).tolist() == list(range(sum(counts)))
    assert torch.cat([labels for _, labels in parts]).bincount(minlength=len(counts)).tolist() == list(counts)


def task_with_sides(counts):
    """As `numbered_task`; the left column is 0 and the right one 255."""
    task = numbered_task(counts)
    images = [task.train.read(k, torch.arange(count)) for k, count in enumerate(counts)]
    for some in images:
        some[..., 0], some[..., -1] = 0, 255
    return replace(task, train=InMemoryImages(images, "numbered images with sides"))


def test_half_of_the_images_of_a_batch_are_mirrored():
    pictures, labels = RealBatches(task_with_sides((1, 3)), 4000, mirror=True).draw(stream(0, "batches"))
    mirrored = pictures[:, 0, 0, 0] == 1
    assert torch.equal(pictures[:, 0, 0, -1] == -1, mirrored)
    assert torch.equal(
        labels, (((pictures[:, 0, 0, 1] + 1) * 127.5).round() > 0).long()
    )  # classes stay with their images
    for k in (0, 1):
        assert abs(float(mirrored[labels == k].float().mean()) - 0.5) < 0.06


def test_everything_has_each_image_and_its_mirror_image():
    parts = list(RealBatches(task_with_sides((2, 3)), 2, mirror=True).everything())
    seen = [
        (int(label), int((p[0, 0, 1] + 1) * 127.5 + 0.5), float(p[0, 0, 0]))
        for some, of in parts
        for p, label in zip(some, of, strict=True)
    ]
    assert sorted(seen) == [(int(n > 1), n, side) for n in range(5) for side in (-1.0, 1.0)]


def test_latents_without_any_variation_are_refused():
    task, options = tiny_task(image_size=8), LdmTrainingOptions(autoencoder_channels=(8,))
    autoencoder = build_autoencoder(task, options).requires_grad_(False)
    autoencoder.encoder.conv_out.weight[2].zero_()
    with pytest.raises(PriorError, match="kl_weight"):
        encode_everything(autoencoder, RealBatches(task, 4))


# the loss of the denoiser ----------------------------------------------------------------------------------------------


class Zero(torch.nn.Module):
    """Predicts zero and keeps what it was asked."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, noisy, timesteps, classes):
        self.noisy, self.timesteps, self.classes = noisy, timesteps, classes
        return self.weight * noisy


def zero_loss(count, latents, **options):
    """The loss of `Zero` on latents that are each of a class of their own."""
    chosen = LdmTrainingOptions(batch_size=count, **options)
    model, labels = Zero(), torch.arange(len(latents))
    loss, values = DenoisingLoss(latents, labels, len(latents), build_scheduler(chosen), chosen)(
        model, stream(0, "loss")
    )
    assert values == {}
    return float(loss.detach()), model


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_the_target_is_what_the_prediction_means(prediction):
    latents = torch.randn(5, 3, 2, 2, generator=stream(0, "latents"))
    loss, model = zero_loss(64, latents, prediction=prediction, drop_class=0.0)
    betas = torch.linspace(0.0015**0.5, 0.0195**0.5, 1000, dtype=torch.float64) ** 2
    kept = (1 - betas).cumprod(0)[model.timesteps].view(-1, 1, 1, 1)
    clean = latents[model.classes].double()
    noise = (model.noisy.double() - kept.sqrt() * clean) / (1 - kept).sqrt()
    target = {"epsilon": noise, "v_prediction": kept.sqrt() * noise - (1 - kept).sqrt() * clean, "sample": clean}
    assert loss == pytest.approx(float(target[prediction].square().mean()), rel=1e-4)
    assert noise.mean().abs() < 5 / noise.numel() ** 0.5
    assert abs(float(noise.var()) - 1) < 5 * (2 / noise.numel()) ** 0.5


def test_classes_are_dropped_by_their_share_and_times_are_uniform():
    count, classes, dropped = 20_000, 4, 0.3
    _, model = zero_loss(count, torch.zeros(classes, 1, 1, 1), drop_class=dropped)
    found = model.classes.bincount(minlength=classes + 1) / count
    for share, expected in zip(found.tolist(), [(1 - dropped) / classes] * classes + [dropped], strict=True):
        assert abs(share - expected) < 5 * (expected * (1 - expected) / count) ** 0.5
    tenths = (model.timesteps // 100).bincount(minlength=10) / count
    assert len(tenths) == 10
    assert ((tenths - 0.1).abs() < 5 * (0.09 / count) ** 0.5).all()


# one phase -------------------------------------------------------------------------------------------------------------


class Records(TrainingReporter):
    """Keeps the weight after every update; Ctrl-C comes after the update `stop`."""

    def __init__(self, weight, stop=None):
        self._weight, self._stop, self.weights, self.begun = weight, stop, {}, None

    def phase(self, name, total, done=0, unit="step"):
        self.begun = done

    def step(self, done, values):
        self.weights[done] = self._weight.detach().clone()
        if done == self._stop:
            raise KeyboardInterrupt


def noisy_square(model, rng):
    return (model.weight - torch.randn(2, 3, generator=rng)).square().mean(), {}


def train(folder, *, loss=noisy_square, steps=10, rate=0.1, stop=None, pictures=None, **options):
    """Trains a 1×3 weight; gives it and what the reporter saw."""
    model = torch.nn.Linear(3, 1, bias=False)
    model.weight.data.copy_(torch.tensor([[1.0, -1.0, 2.0]]))
    phase = Phase("tiny", model, loss, steps, rate, stream(0, "draws"), {"data": "some"}, pictures)
    records = Records(model.weight, stop)
    chosen = LdmTrainingOptions(**{"warmup": 3, "save_every": 4, "samples_every": 0, **options})
    folder.mkdir(exist_ok=True)
    run(phase, chosen, folder, Accelerator(cpu=True, device_placement=False), records)
    return model.weight, records


def saved(folder):
    return int(read_sealed(folder / "tiny.safetensors", PriorError)[1]["done"])


@given(warmup=st.integers(0, 50), steps=st.integers(1, 200))
@settings(max_examples=50)
def test_the_rate_rises_to_one_and_falls_to_nearly_zero(warmup, steps):
    factors = [warmup_cosine(step, steps, warmup) for step in range(steps)]
    rising, falling = factors[:warmup], factors[warmup:]
    assert all(0 <= factor <= 1 for factor in factors)
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    if falling:
        assert falling[0] == 1
        assert falling[-1] <= 2.5 / len(falling) ** 2 or len(falling) == 1  # 1 + cos(π − x) is below x²/2


def test_the_rate_is_what_the_optimizer_uses(tmp_path):
    # A gradient that never changes moves AdamW by its rate, whatever the size of the gradient.
    _, records = train(tmp_path, loss=lambda model, rng: (model.weight.sum(), {}), rate=0.5, weight_decay=0.0)
    weights = [torch.tensor([[1.0, -1.0, 2.0]]), *records.weights.values()]
    for step, (before, after) in enumerate(pairwise(weights)):
        moved = torch.full((1, 3), 0.5 * warmup_cosine(step, 10, 3))
        torch.testing.assert_close(before - after, moved, rtol=1e-4, atol=1e-6)


def test_the_average_by_hand(tmp_path):
    weight, records = train(tmp_path, ema=0.7)
    average = torch.zeros(1, 3, dtype=torch.float64)
    for update, trained in records.weights.items():
        decay = min(0.7, 1 - update**-0.75)
        average = decay * average + (1 - decay) * trained.double()
    torch.testing.assert_close(weight.double(), average, rtol=1e-6, atol=1e-6)
    assert not weight.requires_grad
    assert (weight - records.weights[10]).abs().max() > 1e-3


def stop_in_loss(count):
    calls = iter(range(count + 1))

    def loss(model, rng):
        value = noisy_square(model, rng)
        if next(calls) == count:
            raise KeyboardInterrupt
        return value

    return {"loss": loss}


def stop_in_pictures(model, done):
    raise KeyboardInterrupt


STOPS = {
    "after the first update": ({"stop": 1}, 1),
    "between two saved states": ({"stop": 6}, 6),
    "after the last update": ({"stop": 10}, 10),
    "in the first loss": (stop_in_loss(0), None),
    "in a later loss, which has drawn": (stop_in_loss(7), 7),
    "while pictures are made": ({"pictures": stop_in_pictures, "samples_every": 3}, 3),
}


@pytest.mark.parametrize(("how", "kept"), STOPS.values(), ids=STOPS)
def test_ctrl_c_loses_no_update_and_changes_no_bit(tmp_path, how, kept):
    straight, _ = train(tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", **how)
    if kept is not None:
        assert saved(tmp_path / "stopped") == kept
    again, records = train(tmp_path / "stopped")
    assert records.begun == (kept or 0)
    assert torch.equal(again, straight)


def test_half_an_update_is_not_saved(tmp_path):
    straight, _ = train(tmp_path / "straight")
    updates = []

    def hook(optimizer, arguments, keywords):
        updates.append(1)
        if len(updates) == 7:  # the weights are new, the average is old
            raise KeyboardInterrupt

    handle = register_optimizer_step_post_hook(hook)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped")
    handle.remove()
    assert saved(tmp_path / "stopped") == 4
    assert torch.equal(train(tmp_path / "stopped")[0], straight)


@pytest.mark.parametrize("what", ["loss", "gradient's norm"])
def test_what_is_not_finite_is_one_line_and_keeps_the_last_good_state(tmp_path, what):
    updates = []

    def loss(model, rng):
        updates.append(1)
        value, _ = noisy_square(model, rng)
        if len(updates) == 7:  # 0 · ∞ in the gradient of a root at zero
            value = value * float("nan") if what == "loss" else value + (0 * model.weight).sqrt().sum()
        return value, {}

    with pytest.raises(PriorError) as error:
        train(tmp_path, loss=loss, save_every=1)
    assert all(word in str(error.value) for word in (what, "tiny", "nan", "update 6"))
    assert saved(tmp_path) == 6
    tensors = load_file(tmp_path / "tiny.safetensors")
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert torch.equal(train(tmp_path)[0], train(tmp_path / "straight")[0])


def test_pictures_see_the_average_and_leave_the_weights(tmp_path):
    seen = {}
    weight, records = train(
        tmp_path / "seen", pictures=lambda m, done: seen.update({done: m.weight.clone()}), samples_every=5
    )
    assert list(seen) == [5, 10]
    assert torch.equal(seen[10], weight)
    assert not torch.equal(seen[5], records.weights[5])
    assert torch.equal(train(tmp_path / "unseen")[0], weight)


def test_a_state_of_more_processes_is_refused(tmp_path):
    train(tmp_path)
    path = tmp_path / "tiny.safetensors"
    tensors, header = read_sealed(path, PriorError)
    write_sealed(path, {**tensors, "rng.1": tensors["rng"].clone()}, header)
    with pytest.raises(PriorError, match=r"tiny\.safetensors .*\b2 processes\b.*\b1\b"):
        train(tmp_path)


# processes and precision -----------------------------------------------------------------------------------------------

TWO_PROCESSES = """
import multiprocessing, os, sys
from pathlib import Path

import torch
from accelerate import Accelerator
from ld3m_plugin.contracts import TrainingReporter
from ld3m_plugin.generators.ld3m.training.ldm_training_options import LdmTrainingOptions
from ld3m_plugin.priors.training.phase import Phase, run
from ld3m_plugin.randomness import stream

def train(folder, accelerator, stop=None):
    Path(folder).mkdir(exist_ok=True)
    draws = []
    def loss(model, rng):
        if len(draws) == stop:
            raise KeyboardInterrupt
        draws.append(torch.randn(4, 3, generator=rng))
        return model(draws[-1]).square().mean(), {}
    model = torch.nn.Linear(3, 1, bias=False)
    torch.nn.init.constant_(model.weight, 1 + accelerator.process_index)  # that of the main process counts
    rng = stream(0, "draws", accelerator.process_index)
    phase = Phase("tiny", model, loss, 5, 0.1, rng, {"data": "some"}, lambda *_: print("pictures", flush=True))
    options = LdmTrainingOptions(warmup=0, save_every=2, samples_every=5)
    try:
        run(phase, options, Path(folder), accelerator, TrainingReporter())
    except KeyboardInterrupt:
        pass
    return torch.stack(draws), model.weight

def work(rank, port):
    facts = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in facts.items()}, MASTER_ADDR="127.0.0.1")
    accelerator = Accelerator(cpu=True, device_placement=False)
    straight, weight = train("straight", accelerator)
    train("stopped", accelerator, stop=3)
    again, same = train("stopped", accelerator)
    assert len(again) == 3, "the state after two updates is the last that all processes wrote"
    assert torch.equal(again, straight[2:]), "each process goes on with its own draws"
    assert torch.equal(weight, same)
    others = accelerator.gather(straight)
    assert not torch.equal(others[:5], others[5:])
    Path(f"agreed-{rank}").write_text(str(weight.tolist()))  # lines of two processes may run into each other

if __name__ == "__main__":
    fork = multiprocessing.get_context("fork")  # what is imported need not be imported twice more
    ranks = [fork.Process(target=work, args=(rank, sys.argv[1])) for rank in range(2)]
    [rank.start() for rank in ranks]
    [rank.join() for rank in ranks]
    sys.exit(any(rank.exitcode for rank in ranks))
"""


@pytest.mark.slow
def test_each_of_two_processes_goes_on_with_its_own_draws(tmp_path):
    (tmp_path / "two.py").write_text(TWO_PROCESSES)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-P", "two.py", str(port)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    agreed = [(tmp_path / f"agreed-{rank}").read_text() for rank in range(2)]
    assert agreed[0] == agreed[1]
    assert ended.stdout.split() == ["pictures"] * 2  # one of each finished training, from the main process alone


def test_each_training_of_a_process_has_its_precision(tmp_path):
    task, ask = tiny_task(), {"autoencoder_channels": (24, 48, 64)}

    def accelerator(name, precision):
        options = LdmTrainingOptions(mixed_precision=precision, **ask)
        return start(task, options, 0, tmp_path / name, TrainingReporter()).accelerator

    precisions = ["no", "bf16", "no"]
    made = [accelerator(str(number), precision) for number, precision in enumerate(precisions)]
    assert [one.mixed_precision for one in made] == precisions  # a later one leaves an earlier one its own
    layer, values = torch.nn.Linear(2, 2), torch.ones(1, 2)
    types = []
    for one in made:
        with one.autocast():
            types.append(layer(values).dtype)
    assert types == [torch.float32, torch.bfloat16, torch.float32]


def test_a_precision_that_the_device_lacks_is_refused(tmp_path):
    with pytest.raises(InvalidOptionError, match="mixed_precision = 'fp16'"):
        start(tiny_task(), LdmTrainingOptions(mixed_precision="fp16"), 0, tmp_path, TrainingReporter())
