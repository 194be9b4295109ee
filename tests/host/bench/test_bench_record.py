"""The record of a benchmark, its ratios and its tables."""

import json

import pytest

from ld3m_plugin.bench.bench_record import CaseResult, Record, read_record
from ld3m_plugin.bench.bench_tables import markdown, table
from ld3m_plugin.bench.turns import Measured, order
from ld3m_plugin.errors import ArtefactError


def measured(*seconds, built=100.0, peak=150.0, **more):
    """Rounds of (user, system) seconds, each twice as long in wall time."""
    rounds = [{"wall": 2 * (user + system), "user": user, "system": system} for user, system in seconds]
    return Measured(rounds, built, peak, **more)


@pytest.fixture
def record():
    cases = [
        CaseResult(
            name="a",
            what="a case",
            measured={
                "this": measured((1.0, 0.0), (1.5, 0.5), (1.0, 0.5), peak=150),
                "against": measured((3.0, 1.0), (2.0, 0.0), (3.0, 0.0), peak=225),
            },
        ),
        CaseResult(
            name="b",
            what="a case",
            measured={"this": measured((1.0, 0.0)), "against": Measured(problem="no such option", refused=True)},
        ),
    ]
    machine = {
        "processor": "P",
        "cores": 2,
        "machine": "x86",
        "system": "Linux",
        "python": "3",
        "device": "cpu",
        "load": 1,
    }
    trees = {"this": {"commit": "1234567", "changed": True}, "against": {"commit": "89abcde", "changed": False}}
    return Record(
        **{
            "date": "2026-01-01",
            "machine": machine,
            "versions": {"torch": "2"},
            "trees": trees,
            "rounds": 3,
            "threads": 1,
        },
        **{"device": "cpu", "size": 32, "full_size": False, "cases": cases},
    )


def test_ratios_are_those_of_medians_and_of_single_rounds(record):
    # CPU seconds: 4, 2, 3 over 1, 2, 1.5.
    assert record.cases[0].ratios == {"cpu": 2.0, "cpu_least": 1.0, "cpu_most": 4.0, "wall": 2.0, "growth": 2.5}
    assert record.cases[1].ratios == {}


def test_a_case_that_failed_in_a_later_round_has_no_ratios_and_says_why(record):
    pair = {"this": measured((1, 0), (1, 0)), "against": measured((1, 0), problem="out of memory")}
    case = CaseResult(name="a", what="", measured=pair)
    assert json.loads(case.model_dump_json())["ratios"] == {}
    _, rows = table(record.model_copy(update={"cases": [case]}))
    assert "out of memory" in rows[0]


def test_growth_on_a_device_is_that_of_its_tensors():
    pair = {"this": measured((1, 0), device_peak=10.0), "against": measured((1, 0), device_peak=40.0)}
    assert CaseResult(name="a", what="", measured=pair).ratios["growth"] == 4


def test_json_and_back(record, tmp_path):
    file = tmp_path / "record.json"
    file.write_text(record.model_dump_json())
    assert read_record(file) == record
    content = json.loads(file.read_text())
    assert content["cases"][0]["ratios"]["cpu"] == 2
    assert content["cases"][0]["measured"]["against"]["rounds"][0] == {"wall": 8, "user": 3, "system": 1}


@pytest.mark.parametrize("content", ["[]", "{}", "no JSON", '{"format": 9}'])
def test_other_files_are_no_records(content, tmp_path):
    file = tmp_path / "other.json"
    file.write_text(content)
    with pytest.raises(ArtefactError, match=r"other\.json"):
        read_record(file)


def test_another_format_is_refused(record, tmp_path):
    file = tmp_path / "newer.json"
    file.write_text(record.model_copy(update={"format": 2}).model_dump_json())
    with pytest.raises(ArtefactError, match="format 2"):
        read_record(file)


def test_two_trees_stand_beside_each_other(record):
    titles, rows = table(record)
    assert titles[1:3] == ["CPU s 89abcde", "1234567+"]
    assert rows[0] == ["a", "3.000", "1.500", "2.00", "1.00 to 4.00", "2.00", "125", "50", "2.50"]
    assert rows[1][:4] == ["b", "no such option", "1.000", ""]


def test_one_tree_has_its_own_table(record):
    alone = [case.model_copy(update={"measured": {"this": case.measured["this"]}}) for case in record.cases]
    titles, rows = table(record.model_copy(update={"trees": {"this": {}}, "cases": alone}))
    assert len(titles) == len(rows[0]) == 6
    assert rows[0] == ["a", "1.500", "0.50", "3.000", "100", "50"]


def test_markdown_has_a_line_for_each_row():
    assert markdown(["case", "s"], [["a|b", "1"]]) == "| case | s |\n| --- | ---: |\n| a\\|b | 1 |"


def test_turns_are_taken_there_and_back():
    assert order(["a", "b"], 4) == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert order(["a"], 2) == ["a", "a"]
