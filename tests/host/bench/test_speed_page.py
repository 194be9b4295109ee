"""docs/speed.md shows what docs/speed.json holds."""

from pathlib import Path

import pytest

from ld3m_plugin.bench.bench_record import AGAINST, CaseResult, read_record
from ld3m_plugin.bench.turns import Measured

ROOT = Path(__file__).parents[3]


@pytest.fixture
def update_speed(load_script):
    return load_script("update_speed")


@pytest.fixture
def record():
    return read_record(ROOT / "docs" / "speed.json")


def test_the_page_is_written_from_the_record(update_speed, record):
    text = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    assert update_speed.page(text, record) == text, "run python scripts/update_speed.py"


def test_the_estimate_is_the_product_of_both_ratios(update_speed, record):
    def case(seconds):
        return Measured([{"wall": seconds, "user": seconds, "system": 0.0}], 1, 2)

    pair = CaseResult(name="pixel/dc", what="", measured={"this": case(1.0), "against": case(1.5)})
    given = record.model_copy(update={"cases": [pair]})
    (row,) = [line for line in update_speed.beside_official(given).splitlines() if "pixel/dc" in line]
    assert row == "| pixel/dc | 1.92 | 1.50 | 2.88 |  |"


def test_another_version_has_no_estimate(update_speed, record):
    given = record.model_copy(update={"trees": {**record.trees, AGAINST: {"commit": "0123456", "changed": False}}})
    assert "| pixel/dc | 1.92 |  |  |  |" in update_speed.beside_official(given)
