"""Priors that never saw such images are refused unless asked for, with everything that is missing in one message."""

import pytest

from ld3m_plugin.backends import get_generator
from ld3m_plugin.config import RunConfig, decisive
from ld3m_plugin.errors import InvalidOptionError
from ld3m_plugin.generators.mismatch import check_fits_prior
from ld3m_plugin.presets import load_preset, preset_names
from ld3m_plugin.testing import tiny_task

COLOUR = tiny_task(channels=3, image_size=64)


def test_colours_and_size_are_one_message():
    with pytest.raises(InvalidOptionError) as error:
        check_fits_prior(COLOUR, channels=1, size=32, mismatch="error")
    for needed in (
        "gray",
        "32 pixels",
        "64",
        "ld3m prior train ldm",
        "-D image_size=32 (Python: image_size=32)",
        "-D grayscale=true (Python: grayscale=True)",
        "mismatch=allow",
    ):
        assert needed in str(error.value)
    check_fits_prior(COLOUR, channels=1, size=32, mismatch="allow")
    check_fits_prior(COLOUR, channels=3, size=64, mismatch="error")
    check_fits_prior(tiny_task(image_size=64), channels=3, size=None, mismatch="error")  # gray data with a colour prior


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ld3m", "autoencoder", "glad"])
def test_generators_refuse_the_embedded_prior_for_colours(name):
    task = tiny_task(channels=3, image_size=32)
    options = {"unmatched": "T-shirt/top"} if name != "autoencoder" else {}
    with pytest.raises(InvalidOptionError, match="gray"):
        get_generator(name, **options).prepare(task)
    get_generator(name, mismatch="allow", **options).prepare(task)


@pytest.mark.slow
def test_a_size_that_the_prior_never_saw_is_refused():
    task = tiny_task(image_size=64)
    with pytest.raises(InvalidOptionError, match="32 pixels"):
        get_generator("ld3m", unmatched="unconditional").prepare(task)
    get_generator("autoencoder").prepare(task)  # decodes any size


def test_the_permission_is_no_part_of_a_runs_identity():
    plain, allowed = RunConfig(), RunConfig(generator={"name": "ld3m", "options": {"mismatch": "allow"}})
    assert decisive(plain) == decisive(allowed)
    assert "mismatch" not in get_generator("ld3m").options.model_dump()


def test_presets_at_128_pixels_allow_the_prior_of_256():
    for name in preset_names():
        config = load_preset(name).config
        options = config.get("generator", {}).get("options", {})
        if options.get("prior") == "cin256-v2":
            allowed = config["data"]["options"]["image_size"] != 256
            assert (options.get("mismatch") == "allow") == allowed, name
