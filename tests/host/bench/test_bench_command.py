"""`ld3m bench`: what is refused, and real runs of small cases."""

import json
import subprocess
from pathlib import Path

import pytest

from ld3m_plugin.bench.bench_cases import Case
from ld3m_plugin.bench.bench_record import read_record
from ld3m_plugin.bench.turns import Setting, make_prior, measure
from ld3m_plugin.bench.worktree import check_worktree, describe
from ld3m_plugin.errors import UsageError

ROOT = Path(__file__).parents[3]


def test_cases_are_listed(ld3m):
    lines = ld3m("bench", "--list", "--only", "pixel/*").out.splitlines()
    assert [line.split()[0] for line in lines] == ["pixel/dm-256", "pixel/dc", "pixel/mtt"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--against", "nowhere"], "nowhere"),
        (["--only", "nothing"], "nothing"),
        (["--size", "48"], "48"),
        (["--full-size"], "--size 128"),
        (["--read", "missing.json"], "missing.json"),
        (["--device", "nonsense"], "nonsense"),
    ],
)
def test_mistakes_are_one_line(arguments, named, ld3m):
    outcome = ld3m("bench", *arguments)
    assert outcome.code != 0
    assert named in outcome.error


@pytest.mark.parametrize("text", [None, "not TOML [", "[project]\nname = 'other'", "[project]\nname = 'ld3m-plugin'"])
def test_a_folder_of_something_else_is_no_worktree(text, tmp_path):
    if text is not None:
        (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(UsageError, match="git worktree add"):
        check_worktree(tmp_path)


def test_a_worktree_has_a_commit(tmp_path):
    assert describe(tmp_path) == {}
    (tmp_path / "pyproject.toml").write_text("")
    for arguments in (["init", "-q"], ["add", "."], [*NAMED, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    about = describe(tmp_path)
    assert len(about["commit"]) == 7
    assert not about["changed"]
    (tmp_path / "pyproject.toml").write_text("# changed")
    assert describe(tmp_path) == {**about, "changed": True}


NAMED = ["-c", "user.name=T", "-c", "user.email=t@example.org"]

#: A case of a tenth of a second: two steps of pixels on random images.
SMALL = {
    "kind": "step",
    "data": {"classes": 2, "image_size": 16, "train": 8},
    "settings": {
        "generator.name": "pixel",
        "objective.name": "dm",
        "objective.options": {"batch_real": 4, "network_settings": {"width": 8, "depth": 2}},
    },
}


def setting(scratch, trees):
    return Setting(trees, rounds=2, device="cpu", threads=1, scratch=scratch)


@pytest.mark.slow
def test_a_case_runs_in_turns_with_the_same_tree(tmp_path):
    found = measure(Case("small", "", SMALL), setting(tmp_path, {"this": None, "against": ROOT}))
    for one in found.values():
        assert one.problem is None
        assert len(one.rounds) == 2
        assert all(seconds["user"] + seconds["system"] > 0 for seconds in one.rounds)
        assert 100 < one.built <= one.peak < 2000  # MiB


@pytest.mark.slow
def test_the_other_trees_code_is_what_runs(tmp_path):
    # A tree that is the package alone, whose pixels refuse: the refusal must come from there, and not from this one.
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("ld3m_plugin", "objectives", "pyproject.toml"):
        (tree / name).symlink_to(ROOT / name)
    (tree / "generators").mkdir()
    for path in (ROOT / "generators").iterdir():
        (tree / "generators" / path.name).symlink_to(path)
    (tree / "generators" / "pixel.py").unlink()
    source = (ROOT / "generators" / "pixel.py").read_text()
    (tree / "generators" / "pixel.py").write_text(source + REFUSAL)
    found = measure(Case("small", "", SMALL), setting(tmp_path, {"this": None, "against": tree}))
    assert found["this"].problem is None
    assert "other" in found["against"].problem


REFUSAL = """
from ld3m_plugin.errors import UsageError

def _refuse(*given, **named):
    raise UsageError("other")

PixelGenerator.__init__ = _refuse
"""


@pytest.mark.slow
def test_what_a_backend_refuses_and_what_fails_are_told_apart(tmp_path):
    refused = {**SMALL, "settings": {**SMALL["settings"], "objective.options": {"no_such_option": 1}}}
    found = measure(Case("refused", "", refused), setting(tmp_path, {"this": None}))["this"]
    assert found.refused
    assert "no_such_option" in found.problem
    failed = measure(Case("failed", "", {"kind": "nothing"}), setting(tmp_path, {"this": None}))["this"]
    assert not failed.refused
    assert "nothing" in failed.problem


@pytest.mark.slow
@pytest.mark.parametrize(
    "work",
    [
        {"kind": "evaluation", "networks": ["ConvNet"], "protocol": "quick", "epochs": 1, "repeats": 1}
        | {"test_per_class": 1, "ipc": 1, "data": {"classes": 2, "image_size": 16}},
        {"kind": "experts", "data": {"classes": 2, "image_size": 16}}
        | {"options": {"epochs": 1, "count": 1, "network_settings": {"width": 8, "depth": 2}}},
        {"kind": "synthesis", "images": 1}
        | {"shape": {"stem_layers": 3, "head_layers": 0, "channel_base": 64, "channel_max": 4, "resolutions": [16]}},
        {**SMALL, "random_experts": True}
        | {"settings": {"generator.name": "pixel", "objective.name": "mtt"}}
        | {"data": {"classes": 2, "image_size": 16}},
    ],
    ids=["evaluation", "experts", "synthesis", "mtt"],
)
def test_every_kind_of_work_runs(work, tmp_path):
    found = measure(Case("kind", "", work), setting(tmp_path, {"this": None}))["this"]
    assert found.problem is None
    assert len(found.rounds) == 2


@pytest.mark.slow
def test_a_chain_runs_on_the_prior_that_was_made_for_it(tmp_path):
    (scratch := tmp_path / "scratch").mkdir()
    options = {"prior": "{small_ldm}", "steps": 1}
    work = {"kind": "chain", "data": {"classes": 2, "image_size": 32, "train": 4}}
    work["settings"] = {"generator.name": "ld3m", "generator.options": options, **DM}
    case = Case("chain", "", work, "small_ldm")
    assert make_prior("small_ldm", case, setting(scratch, {"this": None})) is None
    found = measure(case, setting(scratch, {"this": None}))["this"]
    assert found.problem is None


DM = {key: value for key, value in SMALL["settings"].items() if key.startswith("objective")}


@pytest.mark.slow
def test_the_command_writes_a_record_and_reads_it(ld3m, tmp_path):
    outcome = ld3m("bench", "--only", "stylegan-xl/32", "--rounds", "1", "--json", "bench.json", "--markdown")
    assert outcome.code == 0, outcome.err
    file = tmp_path / "bench.json"
    record = read_record(file)
    assert [case.name for case in record.cases] == ["stylegan-xl/32"]
    assert record.rounds == 1
    assert str(ROOT) not in file.read_text()
    assert "| stylegan-xl/32 |" in outcome.out
    assert ld3m("bench", "--read", file, "--markdown").out == outcome.out
    assert set(json.loads(file.read_text())["cases"][0]) == {"name", "what", "measured", "ratios"}
