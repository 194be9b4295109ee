"""Which shipped prior `embedded` is."""

import json
from dataclasses import replace

import pytest

from ld3m_plugin.priors.shipped import find_shipped, trained_on
from ld3m_plugin.testing import tiny_task


@pytest.fixture
def shipped(tmp_path):
    """Priors of two data sets, and a converted one, which no training.json describes."""
    folders = {}
    for name, data in (("embedded", "fashion-mnist"), ("converted", None), ("embedded-birds", "birds:small")):
        folders[name] = tmp_path / name
        folders[name].mkdir()
        if data:
            (folders[name] / "training.json").write_text(json.dumps({"data": data}))
    return folders


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("birds", "embedded-birds"),
        ("birds:large", "embedded-birds"),
        ("fashion-mnist:full", "embedded"),
        ("bird", "embedded"),
    ],
)
def test_embedded_is_the_prior_of_the_data_set_else_the_first(shipped, data, expected):
    task = replace(tiny_task(), name=data)
    assert find_shipped("embedded", task, shipped) == shipped[expected]


def test_other_names_do_not_depend_on_the_task(shipped):
    task = replace(tiny_task(), name="birds")
    assert find_shipped("converted", task, shipped) == shipped["converted"]
    assert find_shipped("embedded", None, shipped) == shipped["embedded"]
    assert find_shipped("birds", task, shipped) is None
    assert trained_on(shipped["converted"]) is None
