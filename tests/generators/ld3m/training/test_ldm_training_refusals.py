"""Options and data that a training refuses before any work."""

import math

import pytest

from ld3m_plugin.errors import DataError, InvalidOptionError, UsageError
from ld3m_plugin.generators.ld3m.training.ldm_training_options import LdmTrainingOptions
from ld3m_plugin.options import build
from ld3m_plugin.testing import tiny_task

TASK = tiny_task(image_size=8)


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": (8, 18)}, "width 18 of channels"),
        ({"channels": (8, 16), "heads": 3}, "width 8 of channels"),
        ({"autoencoder_channels": (8, 6)}, "width 6 of autoencoder_channels"),
        ({"channels": ()}, "channels = "),
        ({"channels": [0]}, "width 0 of channels"),
        ({"autoencoder_channels": [-8, 8]}, "width -8 of autoencoder_channels"),
        ({"channels": "16,16"}, "channels = '16,16'"),
        ({"sample_steps": 1001}, "sample_steps = 1001: "),
        ({"drop_class": 1}, "drop_class = 1: "),
        ({"ema": 1.0}, "ema = 1.0: "),
        ({"prediction": "noise"}, "prediction = 'noise': "),
        ({"report_per_class": 1}, "report_per_class = 1: "),
        ({"stepz": 3}, "'stepz'"),
    ],
    ids=str,
)
def test_options_are_checked(options, message, tiny):
    with pytest.raises(UsageError) as error:
        build(LdmTrainingOptions, {**tiny.OPTIONS, **options}, "training")
    assert message in one_line(error)


FLOATS = [name for name, field in LdmTrainingOptions.model_fields.items() if field.annotation is float]


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("name", FLOATS)
def test_numbers_are_finite(name, value):
    assert len(FLOATS) == 7
    with pytest.raises(InvalidOptionError, match=rf"training: {name} = -?(inf|nan)") as error:
        build(LdmTrainingOptions, {name: value}, "training")
    one_line(error)


@pytest.mark.parametrize(
    ("task", "options", "kind", "message"),
    [
        (tiny_task(image_size=9), {}, InvalidOptionError, "image_size=10"),
        (TASK, {"channels": (2**62,)}, InvalidOptionError, "channels"),
        (TASK, {"autoencoder_channels": (2**62,)}, InvalidOptionError, "autoencoder_channels"),
        (tiny_task(image_size=8, test=0), {}, DataError, "'class 0'"),
        (tiny_task(image_size=8, train=1), {}, DataError, "'class 0'"),
        (TASK.for_training(), {}, DataError, "'tiny'"),
        (TASK, {"mixed_precision": "fp16"}, InvalidOptionError, "mixed_precision"),
    ],
    ids=["size", "U-Net", "autoencoder", "test", "train", "no test set", "precision"],
)
def test_what_cannot_be_trained_on_is_said_before_any_work(tmp_path, task, options, kind, message, tiny):
    with pytest.raises(kind) as error:
        tiny.train(tmp_path / "prior", task, **options)
    assert message in one_line(error)
    assert list(tmp_path.iterdir()) == []
