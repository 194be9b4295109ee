"""Help texts, completion, errors, quiet and dry runs of the command line."""

import json
import os
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from ld3m_plugin.cli import app, completion
from ld3m_plugin.cli.command_loading import load_command
from ld3m_plugin.registry import build_registry, current_registry


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "ld3m_plugin", *arguments], capture_output=True, text=True)


def helps():
    """Every command and sub-command that shows itself, with its help text."""
    found = []
    for backend in current_registry().backends("command"):
        command = load_command(backend.name)
        parts = getattr(command, "commands", {})
        found += [(f"{backend.name} {name}", part) for name, part in parts.items() if not part.hidden]
        found += [] if parts and not command.callback else [(backend.name, command)]
    return found


def test_every_help_has_an_example():
    without = [name for name, command in helps() if f"ld3m {name.split()[0]}" not in (command.help or "")]
    # A group whose list is its default is described by `list`.
    assert [
        name for name in without if name not in ("plugins", "presets", "protocols", "experts", "prior", "config")
    ] == []


@pytest.mark.parametrize("command", ["distill", "compare", "evaluate"])
def test_allowed_values_are_listed(command):
    text = " ".join(CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output.split())
    assert "glad-2023" in text
    if command != "evaluate":
        assert "imagefolder" in text
        assert "ld3m, glad, autoencoder, pixel" in text


def test_names_presets_and_keys_are_completed():
    assert [name for name, _ in completion.names("generator")("pi")] == ["pixel"]
    assert [name for name, _ in completion.names("network", several=True)("ViT,Conv")] == ["ViT,ConvNet"]
    assert [name for name, _ in completion.presets("demo-m")] == ["demo-mtt"]
    context = typer.Context(typer.core.TyperCommand("distill"))
    context.params["generator"] = "glad"
    assert [key for key, _ in completion.keys("generator")(context, "lay")] == ["layer="]
    context.params.clear()
    assert [key for key, _ in completion.keys("dataset")(context, "image")] == ["image_size="]


@pytest.mark.slow
def test_errors_have_one_style_and_may_be_json():
    mistake = run("distill", "--no-such")
    assert mistake.returncode == 2
    assert mistake.stderr.startswith("error: ")
    assert mistake.stderr.count("\n") == 1
    assert "ld3m distill --help" in mistake.stderr
    wrong = run("distill", "--preset", "nosuch", "--json")
    told = json.loads(wrong.stderr)["error"]
    assert (wrong.returncode, told["exit_code"]) == (2, 2)
    assert "nosuch" in told["message"]
    traced = run("-v", "distill", "--preset", "nosuch")
    assert "Traceback" in traced.stderr


@pytest.mark.parametrize("level", [[], ["generator", "options"]], ids=str)
def test_a_wrong_setting_names_file_and_line(tmp_path, level):
    file = tmp_path / "run.yaml"
    if level:
        file.write_text("steps: 3\ngenerator:\n  name: pixel\n  options:\n    clampp: none\n")
    else:
        file.write_text("# a comment\nsteps: 3\n\nstepz: 4\n")
    result = CliRunner().invoke(app, ["distill", "--config", str(file), "--dry-run"])
    assert f"{file}, line {5 if level else 4}" in str(result.exception)
    # Names of backends, which a registry looks up, and options of the data.
    file.write_text(
        "steps: 3\ngenerator:\n  name: pixl\nobjective: {name: dn}\ndata:\n  name: cifr10\nevaluation:\n  protocol: quik\n"
    )
    mended = []
    for line, wrong, right in [
        (8, "evaluation.protocol", "quick"),
        (6, "data.name", "fashion-mnist"),
        (3, "generator.name", "pixel"),
        (4, "objective.name", "dm"),
    ]:
        result = CliRunner().invoke(app, ["distill", "--config", str(file), "--dry-run", *mended])
        assert str(result.exception).startswith(f"{file}, line {line}: unknown ")
        mended += ["--set", f"{wrong}={right}"]
    file.write_text("evaluation:\n  networks: [ConvNat]\n")
    result = CliRunner().invoke(app, ["distill", "--config", str(file), "--dry-run"])
    assert str(result.exception).startswith(f"{file}, line 2: unknown network")
    file.write_text("data:\n  name: fashion-mnist\n  options:\n    img: 3\n")
    result = CliRunner().invoke(app, ["distill", "--config", str(file), "--dry-run"])
    assert str(result.exception).startswith(f"{file}, line 4: ")
    # A value that the command line gives is not the file's.
    file.write_text("steps: 3\n")
    result = CliRunner().invoke(app, ["distill", "--config", str(file), "--set", "steps=-1", "--dry-run"])
    assert str(file) not in str(result.exception)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["compare", "--preset", "demo", "--dry-run"], "demo"),
        (["evaluate", ".", "--dry-run"], "quick"),
        (["prior", "train", "ldm", "--out", "p", "-S", "size=tiny", "--dry-run"], "autoencoder_steps: 400"),
        (["prior", "train", "gan", "--out", "p", "-S", "size=tiny", "--dry-run"], "steps: 600"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_dry_runs_import_no_torch(arguments, shown, tmp_path):
    (tmp_path / "metadata.json").write_text("{}")
    code = (
        "import sys; from ld3m_plugin.cli import app\n"
        f"try: app({arguments!r}, standalone_mode=False)\n"
        "finally: print('torch' in sys.modules, file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert result.stderr.split() == ["False"]
    assert shown in result.stdout


@pytest.mark.slow
def test_dry_runs_of_all_pairs_import_no_torch():
    """All shipped generators, objectives and data sets in one process; the last pair with every kind of further option."""
    registry = build_registry(environ={"LD3M_PLUGINS": ""})
    runs = [["-g", g, "-o", o] for g in registry.names("generator") for o in registry.names("objective")]
    runs += [["--data", name] for name in registry.names("dataset")]
    runs += [
        ["-g", "pixel", "-G", "init=noise", "-O", "network={ConvNet: 2, MLP: 1}", "--data", "imagefolder:pictures"],
        ["-g", "ld3m", "-G", "learn=latent", "--data", "emoji", "-D", "task=all", "--protocol", "unseen"],
        *(["--preset", name] for name in ("demo", "demo-mtt", "glad-2023/glad-128-ipc1-dc")),
    ]
    code = (
        "import sys; from ld3m_plugin.cli import app\n"
        f"for one in {runs!r}: app(['distill', *one, '--dry-run'], standalone_mode=False)\n"
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    environ = {**os.environ, "LD3M_PLUGINS": ""}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environ)
    assert result.stderr.split() == ["False"]
    assert result.stdout.count("learning_rates:") == len(runs)
    assert {"pixels: 0.05", "features: 0.05", "latent: 0.02"} <= {line.strip() for line in result.stdout.splitlines()}


def test_quiet_leaves_warnings(monkeypatch):
    from ld3m_plugin.cli import verbosity

    monkeypatch.setattr(verbosity.said, "quiet", True)
    assert [verbosity.is_heard(text) for text in ("step 1", "warning: x", "error: y")] == [False, True, True]
