"""`ld3m compare`: what it prints, how it goes on, and its mistakes in one line."""

import json
import re
import signal

import pytest
import yaml

from ld3m_plugin import presets


def test_the_command_prints_the_table_and_where_everything_is(ld3m, command, tmp_path):
    arguments = [*command, "--generators", "scaled, pixel", "-G", "scaled.factor=3", "--out", "cmp"]
    outcome = ld3m(*arguments)
    assert outcome.code == 0, outcome.err
    assert re.search(r"network .* scaled .* pixel .* random real", outcome.out)
    for name in ("scaled", "pixel"):
        assert re.search(rf"^{name}: .* 0:0\d,.* 0:0\d,.* cmp/{name}$", outcome.out, re.MULTILINE)
    assert "cmp/comparison.png" in outcome.out
    assert "cmp/comparison.json" in outcome.out
    saved = yaml.safe_load((tmp_path / "cmp" / "scaled" / "config.yaml").read_text())
    assert saved["generator"]["options"] == {"factor": 3}
    again = ld3m(*arguments)
    assert (again.code, again.out) == (0, outcome.out)
    assert "cmp/scaled" in again.err
    assert "distilling" not in again.err


@pytest.mark.parametrize("end", ["ctrl-c", "sigterm"])
def test_a_command_that_was_stopped_goes_on_when_given_again(ld3m, command, pieces, end):
    pieces.Scaled.end, pieces.Scaled.end_at = end, 3
    arguments = [*command, "--generators", "pixel,scaled", "--out", "cmp"]
    before = signal.getsignal(signal.SIGTERM)
    try:
        stopped = ld3m(*arguments)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (stopped.code, stopped.out) == (130, "")
    assert "same command" in stopped.err.splitlines()[-1]
    pieces.Scaled.end_at = None
    again = ld3m(*arguments)
    assert again.code == 0, again.err
    assert "cmp/pixel" in again.err
    assert "cmp/scaled" in again.out


def test_without_a_name_the_folder_is_new_and_named_when_stopped(ld3m, command, pieces, tmp_path):
    name = "runs/tiny-compare-level-ipc1-seed0"
    for folder in (name, f"{name}-2"):
        outcome = ld3m(*command, "--generators", "scaled")
        assert outcome.code == 0, outcome.err
        assert (tmp_path / folder / "comparison.json").is_file()
    pieces.Scaled.end, pieces.Scaled.end_at = "ctrl-c", 2
    stopped = ld3m(*command, "--generators", "scaled")
    assert f"--out {name}-3" in stopped.err.splitlines()[-1]
    pieces.Scaled.end = "host error"
    failed = ld3m(*command, "--generators", "scaled")
    assert (failed.code, failed.error) == (1, "error: the disk is full: make room")
    assert f"--out {name}-4" in failed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--generators", "pixle"], "'pixle'.* 'pixel'"),
        (["--generators", ","], "','"),
        (["--generators", "pixel", "-G", "pixle.init=noise"], r"'pixle'.* 'pixel'"),
        (["--generators", "pixel", "-G", "init=noise"], r"'init'.* -G NAME\.KEY=VALUE"),
        (["--generators", "pixel", "-G", "pixel.init"], r"'pixel\.init'.* key=value"),
        (["--generators", "pixel", "-G", "pixel.inti=noise"], "'pixel'.* 'inti'.* 'init'"),
        (["--generators", "pixel", "--set", "generator.name=pixel"], r"'generator\.name'.* --generators"),
        (["--preset", "dmeo"], "'dmeo'"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(ld3m, command, tmp_path, arguments, message):
    outcome = ld3m(*command, *arguments, "--out", "cmp")
    assert (outcome.code, outcome.out) == (2, "")
    assert re.search(message, outcome.error)
    assert not (tmp_path / "cmp").exists()


def test_a_preset_names_the_generators(ld3m, command, tmp_path, monkeypatch):
    (tmp_path / "presets").mkdir()
    config = "{generator: {name: scaled, options: {factor: 7}}}"
    both = f"{{summary: s, source: t, config: {config}, compare: {{generators: [pixel, scaled]}}}}"
    (tmp_path / "presets" / "both.yaml").write_text(both)
    (tmp_path / "presets" / "none.yaml").write_text("{summary: s, source: t, config: {steps: 2}}")
    monkeypatch.setattr(presets, "_FOLDER", tmp_path / "presets")
    outcome = ld3m(*command, "--preset", "both", "--preset", "none", "--out", "cmp")
    assert outcome.code == 0, outcome.err
    assert list(json.loads((tmp_path / "cmp" / "comparison.json").read_text())["runs"]) == ["pixel", "scaled"]
    chosen = ld3m(*command, "--preset", "both", "--generators", "scaled", "--out", "other")
    assert chosen.code == 0, chosen.err
    record = json.loads((tmp_path / "other" / "comparison.json").read_text())["runs"]
    assert {name: run["generator"]["options"] for name, run in record.items()} == {"scaled": {"factor": 7}}
    # A run of its own takes the configuration alone.
    dry = ld3m("distill", "--preset", "both", "--dry-run")
    assert yaml.safe_load(dry.out)["generator"] == {"name": "scaled", "options": {"factor": 7}}
    shown = ld3m("presets", "show", "both")
    assert "# ld3m compare: pixel, scaled\n" in shown.out
    assert yaml.safe_load(shown.out) == {"generator": {"name": "scaled", "options": {"factor": 7}}}


def test_the_default_preset_names_the_default_generators(command, pieces, ld3m, tmp_path):
    names = presets.load_preset("default").compare["generators"]
    assert names == ["ld3m", "glad", "autoencoder", "pixel"]
    outcome = ld3m(*command, "-G", "nobody.x=1", "--out", "cmp")
    assert (outcome.code, all(name in outcome.error for name in names)) == (2, True)


def test_an_option_that_the_generator_of_the_file_does_not_have_is_refused(ld3m, command, tmp_path):
    (tmp_path / "run.yaml").write_text("{generator: {name: scaled, options: {facto: 7}}}")
    outcome = ld3m(*command, "--config", "run.yaml", "--generators", "pixel,scaled", "--out", "cmp")
    assert outcome.code == 2
    assert re.search("'scaled'.* 'facto'.* 'factor'", outcome.error)
