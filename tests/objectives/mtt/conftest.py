"""A site with a tiny data set, and the words of a command that trains experts on it in a fraction of a second."""

import pytest

TINY = """
from dataclasses import replace

from ld3m_plugin import hookimpl
from ld3m_plugin.testing import tiny_task

@hookimpl
def register_datasets(register):
    def tiny(argument, options):
        return replace(tiny_task(image_size=options.image_size or 16), name="tiny")
    register("tiny", tiny)
"""
SETTINGS = ["--data", "tiny", "-S", "network_settings={depth: 1, width: 8}", "-S", "batch_size=10", "--epochs", "2"]


@pytest.fixture
def tiny_site(site):
    """A site whose plugin has the data set `tiny`."""
    return site.add("ld3m-tiny", {"tinydata": TINY})


@pytest.fixture
def training():
    """Arguments of `ld3m experts train` for so many experts."""
    return lambda count=2: ["experts", "train", *SETTINGS, "--count", str(count)]
