"""`ld3m prior train ldm` as a whole, on tiny models: what it writes, reports and refuses, and that a stop changes nothing."""

import json
import math
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ld3m_plugin.backends import get_generator
from ld3m_plugin.contracts import TrainingReporter
from ld3m_plugin.data.load import load_task
from ld3m_plugin.distillation.rendering import render
from ld3m_plugin.errors import DataError, InvalidOptionError, PriorError, UsageError
from ld3m_plugin.generators.ld3m.ldm_folder import digest
from ld3m_plugin.generators.ld3m.ldm_prior import load_prior
from ld3m_plugin.generators.ld3m.training.ldm_report import draw_samples
from ld3m_plugin.generators.ld3m.training.ldm_training_options import LdmTrainingOptions
from ld3m_plugin.generators.ld3m.training.train_ldm import train_prior
from ld3m_plugin.options import build
from ld3m_plugin.priors.service import describe_prior
from ld3m_plugin.priors.service import train_prior as train_any_prior
from ld3m_plugin.randomness import stream
from ld3m_plugin.testing import RandomImages, check_generator, tiny_task

TINY = {
    "autoencoder_channels": (8, 8),
    "autoencoder_steps": 4,
    "autoencoder_batch_size": 8,
    "channels": (8,),
    "heads": 2,
    "norm_groups": 4,
    "embedding_size": 8,
    "steps": 4,
    "batch_size": 8,
    "warmup": 2,
    "save_every": 2,
    "samples_every": 4,
    "sample_steps": 2,
    "judge_epochs": 1,
    "judge_least_steps": 4,
}
TASK = tiny_task(image_size=8)
WEIGHTS = (
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "class_embedding.safetensors",
)


class Notes(TrainingReporter):
    """Writes down what it is told, and presses Ctrl-C after a step if it is asked to."""

    def __init__(self, stop=None):
        self.phases, self.losses, self.said, self._stop = [], {}, [], stop

    def phase(self, name, total, done=0):
        self.phases.append((name, total, done))
        self.losses[name] = []

    def step(self, done, values):
        name = self.phases[-1][0]
        self.losses[name].append(values.get("loss"))
        if (name, done) == self._stop:
            signal.raise_signal(signal.SIGINT)

    def say(self, text):
        self.said.append(text)


@pytest.fixture(autouse=True)
def interruptible():
    """Ctrl-C raises, also where a shell has started the tests in the background and so made it ignored."""
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, old)


def train(out, task=TASK, *, seed=0, **options):
    notes = Notes()
    train_prior(task, LdmTrainingOptions(**{**TINY, **options}), seed, out, notes)
    return notes


def same_weights(one, other):
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in WEIGHTS)


def states(out):
    return out.with_name(out.name + ".training")


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A finished training and what was said of it; do not write into its folders."""
    out = tmp_path_factory.mktemp("trained") / "prior"
    return out, train(out)


@pytest.fixture
def copy(trained, tmp_path):
    """The states of the finished training, in a folder of the test's own, for a prior that is not there yet."""
    out = tmp_path / "prior"
    shutil.copytree(states(trained[0]), states(out))
    return out


# what it writes --------------------------------------------------------------------------------------------------------


def test_the_prior_is_read_and_rendered_from(trained, started):
    out, notes = trained
    prior = load_prior(out)
    assert [known.name for known in prior.facts.classes] == ["class 0", "class 1", "class 2"]
    assert (prior.facts.null_class, prior.class_embedding.shape) == (3, (4, 8))
    assert prior.codec.factor == 2
    assert json.loads((out / "scheduler" / "scheduler_config.json").read_text())["prediction_type"] == "v_prediction"
    check_generator(lambda: get_generator("ld3m", prior=str(out), steps=2), TASK)
    assert "3 and a null class: class 0, class 1, class 2" in describe_prior(out, kind="ldm")["classes"]
    assert notes.phases == [("autoencoder", 4, 0), ("denoiser", 4, 0), ("judge", 4, 0), ("samples", 3, 0)]


def test_latents_of_the_training_images_are_normalised(trained):
    codec = load_prior(trained[0]).codec
    images = torch.cat([TASK.train.read(k, torch.arange(12)) for k in range(3)])
    with torch.no_grad():
        latents = codec.encode(images / 127.5 - 1)
    std, mean = torch.std_mean(latents, dim=(0, 2, 3))
    torch.testing.assert_close(mean, torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(std, torch.ones(4), atol=1e-5, rtol=0)


def test_the_averaged_weights_are_stored(tmp_path):
    # Second form: every state of the way is kept, and the average is worked out from them.
    out, way = tmp_path / "prior", {"autoencoder": [], "denoiser": []}

    class Keeps(Notes):
        def step(self, done, values):
            super().step(done, values)
            if done > 1 and (name := self.phases[-1][0]) in way:
                way[name].append(load_file(states(out) / f"{name}.safetensors"))

    options = LdmTrainingOptions(**{**TINY, "save_every": 1, "ema": 0.5})
    train_prior(TASK, options, 0, out, Keeps())
    for name, kept in way.items():
        kept.append(load_file(states(out) / f"{name}.safetensors"))
        assert len(kept) == 4
        for key, tensor in stored_as_in_states(out, name).items():
            average = kept[0][key].double()  # the first decay is zero
            for update, state in enumerate(kept[1:], 2):
                decay = min(0.5, 1 - update**-0.75)  # 0.41, then 0.5
                average = decay * average + (1 - decay) * state[key].double()
            torch.testing.assert_close(tensor.double(), average, atol=1e-6, rtol=1e-5)


def stored_as_in_states(out, phase):
    """The weights of a finished prior by their names in the states of that phase."""
    if phase == "autoencoder":
        return {f"model.autoencoder.{key}": tensor for key, tensor in load_file(out / WEIGHTS[1]).items()}
    unet = {f"model.unet.{key}": tensor for key, tensor in load_file(out / WEIGHTS[0]).items()}
    return {**unet, "model.embedding.weight": load_file(out / WEIGHTS[2])["weight"]}


def test_the_report_holds_what_it_should(trained):
    out, notes = trained
    quality = json.loads((out / "quality.json").read_text())
    # 200 samples a class are the default, and there are 12 images a class.
    assert (quality["samples"], quality["test_images"], quality["reconstruction"]["images"]) == (36, 12, 12)
    assert [row["name"] for row in quality["classes"]] == ["class 0", "class 1", "class 2"]
    for row in [quality["overall"], *quality["classes"]]:
        assert 0 <= row["accuracy"] <= 100
        assert 0 <= row["real_accuracy"] <= 100
        assert row["spread"] > 0
    accuracies = [row["accuracy"] for row in quality["classes"]]
    assert quality["overall"]["accuracy"] == pytest.approx(sum(accuracies) / 3)
    assert quality["frechet"] > quality["real_frechet"] > 0  # four updates make no good prior
    assert 0 < quality["reconstruction"]["mse"] < 1
    assert quality["sampling"] == {"guidance_scale": 2.0, "sample_steps": 2}
    assert (quality["data"], quality["train_images"]) == ("tiny", 36)
    assert quality["prior_sha256"] == digest(out)
    assert (quality["judge"]["epochs"], quality["judge"]["least_steps"]) == (1, 4)
    table = (out / "quality.md").read_text()
    assert table == notes.said[-1]
    assert "| class 2 " in table
    assert "Fréchet distance" in table


def test_nothing_that_is_shared_names_a_folder_of_the_users(tmp_path):
    task = replace(TASK, name=f"imagefolder:{tmp_path}/birds/", source=f"imagefolder {tmp_path}/birds")
    train(tmp_path / "prior", task, autoencoder_steps=1, steps=1)
    for path in (tmp_path / "prior").rglob("*.*"):
        assert str(tmp_path).encode() not in path.read_bytes(), path.name
    for name in ("quality.json", "training.json"):
        assert json.loads((tmp_path / "prior" / name).read_text())["data"] == "imagefolder:birds"


def test_the_record_gives_the_options_back(trained):
    record = json.loads((trained[0] / "training.json").read_text())
    assert LdmTrainingOptions.model_validate(record["options"]) == LdmTrainingOptions(**TINY)
    assert (record["seed"], record["data"], record["images"]) == (0, "tiny", 36)
    assert record["seconds"].keys() == {"autoencoder", "denoiser"}
    assert record["versions"]["diffusers"]


def test_pictures_have_a_row_for_each_class(trained):
    pictures = [trained[0] / "samples.png", states(trained[0]) / "samples-000004.png"]
    assert [size_of(path) for path in pictures] == [
        (8 * 100 + 4, 3 * 100 + 4)
    ] * 2  # 8 pixels enlarged to 96, and a gap
    assert sorted(path.name for path in states(trained[0]).iterdir()) == [
        "autoencoder.safetensors",
        "denoiser.safetensors",
        "samples-000004.png",
    ]


def size_of(path):
    with Image.open(path) as picture:
        return picture.size


def test_half_precision_is_stored_and_measured(trained, copy):
    train(copy, half=True)
    full, mse = {}, {}
    for folder in (trained[0], copy):
        tensors = [tensor for name in WEIGHTS for tensor in load_file(folder / name).values()]
        full[folder] = {tensor.dtype for tensor in tensors}
        mse[folder] = json.loads((folder / "quality.json").read_text())["reconstruction"]["mse"]
    assert list(full.values()) == [{torch.float32}, {torch.float16}]
    assert mse[copy] != mse[trained[0]]
    codec = load_prior(copy).codec
    pixels = torch.cat([TASK.test.read(k, torch.arange(4)) for k in range(3)]) / 255
    with torch.no_grad():
        decoded = (codec.decode(codec.encode(pixels * 2 - 1)) + 1) / 2
    by_hand = (decoded.clamp(0, 1).double() - pixels.double()).square().mean()
    assert mse[copy] == pytest.approx(float(by_hand), rel=1e-5)


def test_losses_fall_and_the_prior_comes_closer(trained, tmp_path):
    notes = train(tmp_path / "prior", autoencoder_steps=30, steps=50, samples_every=0)
    for name, share in (("autoencoder", 0.75), ("denoiser", 0.93)):
        losses = notes.losses[name]
        assert sum(losses[-10:]) < share * sum(losses[:10]), name
    short, long = (json.loads((out / "quality.json").read_text()) for out in (trained[0], tmp_path / "prior"))
    assert long["reconstruction"]["mse"] < 0.7 * short["reconstruction"]["mse"]


@pytest.mark.parametrize(
    ("task", "options"),
    [
        (
            tiny_task(channels=3, classes=2),
            {"prediction": "epsilon", "autoencoder_channels": (8, 8, 8), "channels": (8, 16)},
        ),
        (tiny_task(image_size=8, train=2, test=2), {"prediction": "sample", "autoencoder_channels": (8,)}),
    ],
    ids=["colour", "two images a class"],
)
def test_other_tasks_are_trained_on(tmp_path, started, task, options):
    train(tmp_path / "prior", task, **{"autoencoder_steps": 2, "steps": 2, **options})
    generator = get_generator("ld3m", prior=str(tmp_path / "prior"), steps=2)
    images = render(generator, started(generator, task))
    assert images.shape[1:] == (task.channels, task.image_size, task.image_size)
    assert images.isfinite().all()


def test_without_dropped_classes_there_is_no_null_class(tmp_path):
    train(tmp_path / "prior", autoencoder_steps=1, steps=1, drop_class=0.0, samples_every=1)
    prior = load_prior(tmp_path / "prior")
    assert (prior.facts.null_class, len(prior.class_embedding)) == (None, 3)


def test_many_classes_are_not_all_shown(tmp_path):
    train(tmp_path / "prior", tiny_task(classes=23, image_size=8, train=2), autoencoder_steps=1, steps=1)
    assert size_of(tmp_path / "prior" / "samples.png") == (8 * 100 + 4, 20 * 100 + 4)


# a stop, and going on --------------------------------------------------------------------------------------------------

STOPS = [("autoencoder", 3), ("autoencoder", 4), ("denoiser", 1), ("denoiser", 4), ("judge", 2), ("samples", 1)]


def test_a_training_that_is_stopped_everywhere_gives_the_same_bits(trained, tmp_path):
    out, made = tmp_path / "prior", {"autoencoder": 0, "denoiser": 0}
    for name, step in STOPS:
        torch.manual_seed(step)  # of no account
        before = torch.get_rng_state()
        notes = Notes((name, step))
        with pytest.raises(KeyboardInterrupt):
            train_prior(TASK, LdmTrainingOptions(**TINY), 0, out, notes)
        assert torch.equal(torch.get_rng_state(), before)
        begun = {phase: done for phase, _, done in notes.phases if phase in made}
        assert begun == {phase: made[phase] for phase in begun}, "an update was made twice"
        made.update({name: step} if name in made else {})
    train(out)
    assert same_weights(out, trained[0])
    for name in ("samples.png", "quality.json"):
        assert (out / name).read_bytes() == (trained[0] / name).read_bytes()


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        ({"seed": 1}, "seed"),
        ({"rate": 0.1}, "options"),
        ({"autoencoder_rate": 0.1}, "options"),
        ({"ema": 0.5, "seed": 1}, "options, seed"),
        ({"task": tiny_task(image_size=8, channels=3)}, "data"),
        ({"task": tiny_task(image_size=8, train=13)}, "data"),
        ({"task": tiny_task(image_size=8, class_names=("a", "b", "c"))}, "data"),
        ({"task": replace(TASK, train=RandomImages(3, 12, 1, 8, seed=5))}, "data"),  # another split, perhaps
    ],
    ids=str,
)
def test_a_state_of_other_settings_is_refused_and_kept(copy, other, differs):
    before = {path.name: path.read_bytes() for path in states(copy).iterdir()}
    advice = rf"written with other settings \({differs}\)"
    with pytest.raises(PriorError, match=advice) as e:
        train(copy, **other)
    assert ("denoiser" if "rate" in other else "autoencoder") in one_line(e)
    assert {path.name: path.read_bytes() for path in states(copy).iterdir()} == before
    assert not copy.exists()


def test_the_same_data_at_another_place_goes_on(trained, copy):
    train(copy, replace(TASK, name="imagefolder:../x", source="imagefolder ../x"))
    assert same_weights(copy, trained[0])


def test_a_folder_of_the_users_is_not_written_into(tmp_path):
    out = tmp_path / "prior"
    states(out).mkdir()
    (states(out) / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"prior\.training is not empty and no training left it") as error:
        train(out)
    one_line(error)
    assert [path.name for path in states(out).iterdir()] == ["notes.txt"]
    shutil.rmtree(states(out))
    states(out).write_text("mine")
    with pytest.raises(UsageError, match=r"prior\.training is a file"):
        train(out)


@pytest.mark.parametrize("left", [None, "autoencoder.partial"])
def test_what_a_training_left_before_its_first_state_is_no_hindrance(trained, tmp_path, left):
    out = tmp_path / "prior"
    states(out).mkdir()
    if left:
        (states(out) / left).write_text("half a state")
    train(out)
    assert same_weights(out, trained[0])


def test_what_decides_no_weight_may_change(trained, copy):
    train(copy, save_every=5, samples_every=0, guidance_scale=1.0, report_per_class=3, licence="CC0-1.0")
    assert same_weights(copy, trained[0])
    assert load_prior(copy).facts.licence == "CC0-1.0"


def damaged(path, how):
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
        return
    if how == "no safetensors":
        path.write_bytes(b"PK\x03\x04 or so")
        return
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    tensors = load_file(path)
    if how == "no header":
        header = {"format": "pt"}
    elif how == "count":
        header["done"] = "many"
    elif how == "stream":
        tensors["rng"] = torch.zeros(3)
    else:
        del tensors[next(name for name in tensors if name.startswith(how))]
    save_file(tensors, path, header)


@pytest.mark.parametrize(
    "how", ["truncated", "no safetensors", "no header", "count", "stream", "model.", "average.", "seconds"]
)
def test_a_damaged_state_is_one_line(copy, how):
    damaged(states(copy) / "autoencoder.safetensors", how)
    with pytest.raises(
        PriorError, match=r"autoencoder\.safetensors is damaged .*: delete it to train that phase"
    ) as error:
        train(copy)
    one_line(error)


def test_a_deleted_state_is_made_again(trained, copy):
    for path in states(copy).glob("*oder.safetensors"):
        path.unlink()
    train(copy)
    assert same_weights(copy, trained[0])


def test_a_rate_too_high_is_one_line(tmp_path):
    with pytest.raises(PriorError, match=r"of the autoencoder is (nan|inf) at update \d: lower its learning rate") as e:
        train(tmp_path / "prior", autoencoder_rate=1e30)
    one_line(e)
    assert not (tmp_path / "prior").exists()


# what it refuses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": (8, 18)}, "width 18 of channels must be a multiple of heads and of norm_groups"),
        ({"channels": (8, 16), "heads": 3}, "width 8 of channels must be a multiple"),
        ({"autoencoder_channels": (8, 6)}, "width 6 of autoencoder_channels must be a multiple of norm_groups"),
        ({"channels": ()}, "channels = "),
        ({"channels": [0]}, "channels = [0]: widths must be at least 1"),
        ({"autoencoder_channels": [-8, 8]}, "autoencoder_channels = [-8, 8]: widths must be at least 1"),
        ({"channels": "16,16"}, "channels = '16,16': write [16,16] (a list)"),
        ({"sample_steps": 1001}, "sample_steps = 1001: Input should be less than or equal to 1000"),
        ({"drop_class": 1}, "drop_class = 1: "),
        ({"ema": 1.0}, "ema = 1.0: "),
        ({"prediction": "noise"}, "prediction = 'noise': "),
        ({"report_per_class": 1}, "report_per_class = 1: "),
        ({"stepz": 3}, "training has no option 'stepz'; did you mean 'steps'"),
    ],
    ids=str,
)
def test_options_are_checked(options, message):
    with pytest.raises(UsageError) as error:
        build(LdmTrainingOptions, {**TINY, **options}, "training")
    assert message in one_line(error)


FLOATS = [name for name, field in LdmTrainingOptions.model_fields.items() if field.annotation is float]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("name", FLOATS)
def test_numbers_are_finite(name, value):
    assert len(FLOATS) == 7
    with pytest.raises(InvalidOptionError, match=rf"training: {name} = -?(inf|nan): Input should be ") as error:
        build(LdmTrainingOptions, {name: value}, "training")
    one_line(error)


@pytest.mark.parametrize(
    ("task", "options", "kind", "message"),
    [
        (
            tiny_task(image_size=9),
            {},
            InvalidOptionError,
            "9 pixels cannot be halved 1 times, as autoencoder_channels and channels ask: give -D image_size=10, or fewer",
        ),
        (TASK, {"channels": (2**62,)}, InvalidOptionError, "diffusers cannot build models of these options ("),
        (TASK, {"autoencoder_channels": (2**62,)}, InvalidOptionError, "diffusers cannot build models of these"),
        (tiny_task(image_size=8, test=0), {}, DataError, "class 'class 0' has 0 test images"),
        (
            tiny_task(image_size=8, train=1),
            {},
            DataError,
            "class 'class 0' has 1 training images (random images for tests)",
        ),
        (TASK.for_training(), {}, DataError, "the test set of 'tiny' is out of reach"),
        (TASK, {"mixed_precision": "fp16"}, InvalidOptionError, "mixed_precision = 'fp16' needs a GPU"),
    ],
    ids=["size", "U-Net", "autoencoder", "test", "train", "no test set", "precision"],
)
def test_what_cannot_be_trained_on_is_said_before_any_work(tmp_path, task, options, kind, message):
    with pytest.raises(kind) as error:
        train(tmp_path / "prior", task, **options)
    assert message in one_line(error)
    assert list(tmp_path.iterdir()) == []


# the command -----------------------------------------------------------------------------------------------------------


def test_the_command_goes_on_and_gives_the_same_bits(tmp_path):
    images = RandomImages(2, 5, 1, 8, seed=0)
    for k, name in enumerate(("left", "right")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for index, image in enumerate(images.read(k, torch.arange(5))):
            Image.fromarray(image[0].numpy()).save(tmp_path / "pictures" / name / f"{index}.png")
    data, options = f"imagefolder:{tmp_path / 'pictures'}", {**TINY, "samples_every": 0}
    task = load_task(data, test_fraction=0.4)
    with pytest.raises(KeyboardInterrupt):
        train_any_prior("ldm", task, tmp_path / "prior", options, seed=3, reporter=Notes(("denoiser", 3)))
    train_any_prior("ldm", task, tmp_path / "straight", options, seed=3)
    command = ["-m", "ld3m_plugin", "prior", "train", "ldm", "--data", data, "-D", "test_fraction=0.4"]
    settings = [f"{name}={list(value) if isinstance(value, tuple) else value}" for name, value in options.items()]
    ended = subprocess.run(
        [sys.executable, "-W", "error", *command, "--out", "prior", "--seed", "3", "--device", "cpu"]
        + [argument for setting in settings for argument in ("-S", setting)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "prior: prior (`ld3m prior info prior` describes it)\n"
    assert "denoiser: 4 steps, 3 of them made before" in ended.stderr
    assert "| left " in ended.stderr
    assert same_weights(tmp_path / "prior", tmp_path / "straight")


def test_samples_are_drawn_from_the_stream_alone(trained):
    prior, labels = load_prior(trained[0]), torch.tensor([0, 2])
    one, same, other = (draw_samples(prior, TASK, labels, stream(s, "x"), 2.0, 2) for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert TASK.denormalise(one).min() >= -1e-6
    assert TASK.denormalise(one).max() <= 1 + 1e-6
