"""One finished training of a tiny prior, and what every test of trainings needs."""

import shutil
import signal

import pytest

from ld3m_plugin.contracts import TrainingReporter
from ld3m_plugin.generators.ld3m.training.ldm_training_options import LdmTrainingOptions
from ld3m_plugin.generators.ld3m.training.train_ldm import train_prior
from ld3m_plugin.testing import tiny_task

OPTIONS = {
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


class Notes(TrainingReporter):
    """Writes down what it is told, and presses Ctrl-C after a step if it is asked to."""

    def __init__(self, stop=None):
        self.phases, self.losses, self.said, self._stop = [], {}, [], stop

    def phase(self, name, total, done=0, unit="step"):
        self.phases.append((name, total, done))
        self.losses[name] = []

    def step(self, done, values):
        name = self.phases[-1][0]
        self.losses[name].append(values.get("loss"))
        if (name, done) == self._stop:
            signal.raise_signal(signal.SIGINT)

    def say(self, text):
        self.said.append(text)


class Tiny:
    """Options of a training of a second, the training, and its folders."""

    OPTIONS = OPTIONS
    TASK = tiny_task(image_size=8)
    WEIGHTS = (
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "class_embedding.safetensors",
    )
    Notes = Notes

    def train(self, out, task=TASK, *, seed=0, notes=None, **options):
        notes = notes or Notes()
        train_prior(task, LdmTrainingOptions(**{**self.OPTIONS, **options}), seed, out, notes)
        return notes

    def same_weights(self, one, other):
        return all((one / name).read_bytes() == (other / name).read_bytes() for name in self.WEIGHTS)

    def states(self, out):
        return out.with_name(out.name + ".training")


@pytest.fixture(scope="session")
def tiny():
    """The class above; test modules cannot import each other's names."""
    return Tiny()


@pytest.fixture(autouse=True)
def interruptible():
    """Ctrl-C raises, also where a shell has started the tests in the background and so made it ignored."""
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, old)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, tiny):
    """A finished training and what was said of it; do not write into its folders."""
    out = tmp_path_factory.mktemp("trained") / "prior"
    return out, tiny.train(out)


@pytest.fixture
def copy(trained, tmp_path, tiny):
    """The states of the finished training, in a folder of the test's own, for a prior that is not there yet."""
    out = tmp_path / "prior"
    shutil.copytree(tiny.states(trained[0]), tiny.states(out))
    return out
