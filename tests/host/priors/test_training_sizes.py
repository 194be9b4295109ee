"""Sizes of trainings: defaults by one word, and what is given beside it wins."""

import pytest

from ld3m_plugin.errors import InvalidOptionError
from ld3m_plugin.generators.glad.training.gan_training_options import GanTrainingOptions
from ld3m_plugin.generators.ld3m.training.ldm_training_options import LdmTrainingOptions
from ld3m_plugin.options import build
from ld3m_plugin.priors.quality.quality_report import ClassQuality, Quality, Reconstruction


@pytest.mark.parametrize("model", [LdmTrainingOptions, GanTrainingOptions])
def test_a_size_sets_defaults_alone(model):
    assert model() == model(size="base")
    tiny, small = model(size="tiny"), model(size="small")
    assert tiny.steps < small.steps < model().steps
    assert model(size="tiny", steps=7).steps == 7
    assert model(size="tiny", steps=7).report_per_class == tiny.report_per_class
    for size in model.sizes:
        assert model.sizes[size].keys() <= model.model_fields.keys()
    with pytest.raises(InvalidOptionError, match="huge"):
        build(model, {"size": "huge"}, "training")


def test_large_images_get_one_more_level_unless_widths_are_given():
    assert [LdmTrainingOptions(size="tiny").fitted(size).factor for size in (28, 32, 64, 128)] == [4, 4, 8, 8]
    assert LdmTrainingOptions(size="tiny", autoencoder_channels=(8, 16)).fitted(64).factor == 2
    assert LdmTrainingOptions().fitted(64) == LdmTrainingOptions()
    fitted = LdmTrainingOptions(size="small").fitted(64)
    assert fitted.fitted(64) == fitted


def quality(accuracies, real=80.0, psnr=30.0, nearest=0.9):
    rows = tuple(ClassQuality(f"c{k}", a, real, 0.9, 0.9, nearest) for k, a in enumerate(accuracies))
    overall = ClassQuality("all", sum(accuracies) / len(accuracies), real, 0.9, 0.9, nearest)
    numbers = {"frechet": 1.0, "real_frechet": 0.5, "samples": 20, "test_images": 20, "features": 4}
    made = Reconstruction(10 ** (-psnr / 10), 20)
    return Quality(overall, rows, **numbers, data="x", train_images=40, reconstruction=made)


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        (quality([80, 80, 80, 80]), ["Verdict: usable."]),
        (quality([80, 10, 80, 20]), ["classes 'c1' and 'c3' are not recognised", "-S steps=N"]),
        (quality([80, 10, 80, 80]), ["class 'c1' is not recognised"]),
        (quality([80, 80, 80, 80], psnr=18), ["blurred", "18.0 dB", "-S autoencoder_steps=N"]),
        (quality([80, 80, 80, 80], nearest=0.1), ["alike"]),
        (quality([0, 0, 0, 0], real=30), ["unsure", "30 %"]),
    ],
    ids=range(6),
)
def test_a_verdict_says_what_to_change(measured, words):
    assert all(word in measured.verdict() for word in words)
    assert measured.verdict() in measured.to_markdown()
