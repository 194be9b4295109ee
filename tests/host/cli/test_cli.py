"""The command line: exit codes, one-line errors, composing settings, and runs that are stopped and go on."""

import json
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from safetensors.torch import load_file

from ld3m_plugin.config import resolve
from ld3m_plugin.contracts import DifferentiableObjective, Network
from ld3m_plugin.registry import KINDS, Backend, Owner
from ld3m_plugin.runs import run
from ld3m_plugin.runs.checkpoints import checkpoint_folders
from ld3m_plugin.testing import tiny_task

#: What a run needs and a list does not. (pydantic is not here: typer itself imports it.)
HEAVY = {"torch", "torchvision", "kornia", "numpy", "PIL", "safetensors", "yaml", "ld3m_plugin.options"}


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def steps_of(folder):
    return [record["step"] for record in metrics(folder) if "loss" in record]


# What listing may cost ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["plugins"], ["plugins", "--json"], ["distill", "--help"], ["compare", "--help"], ["--version"]],
    ids=" ".join,
)
def test_listing_imports_nothing_heavy(new_process, arguments):
    program = f"""
import sys
sys.argv = ["ld3m", *{arguments!r}]
from ld3m_plugin.cli import main
try:
    main()
except SystemExit as left:
    assert not left.code, left.code
print("IMPORTED", sorted({HEAVY!r} & set(sys.modules)))
"""
    done = new_process("-c", program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "IMPORTED []"


# ld3m plugins ---------------------------------------------------------------------------------------------------------


def test_plugins_lists_every_kind_with_its_owner(ld3m):
    outcome = ld3m("plugins", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    rows = json.loads(outcome.out)
    assert {row["kind"] for row in rows} >= set(KINDS)
    for row in rows:
        assert set(row) == {"name", "kind", "distribution", "version", "status", "summary"}
    (pixel,) = [row for row in rows if row["name"] == "pixel"]
    assert pixel["kind"] == "generator"
    assert pixel["distribution"] == "ld3m-plugin"
    assert re.fullmatch(r"\d+\.\d+.*", pixel["version"])
    assert pixel["status"] == "ok"


def test_plugins_list_is_the_same_as_plugins(ld3m):
    assert ld3m("plugins").out == ld3m("plugins", "list").out
    assert ld3m("plugins", "--json").out == ld3m("plugins", "list", "--json").out


def test_the_table_has_a_heading_and_aligned_columns(ld3m):
    heading, *rows = ld3m("plugins").out.splitlines()
    assert heading.split() == ["name", "kind", "distribution", "version", "status", "summary"]
    for row in rows:
        for column in ("kind", "distribution", "version", "status"):
            at = heading.index(column)
            assert row[at - 1] == " "
            assert row[at] != " "


def test_show_prints_types_ranges_defaults_and_units(ld3m):
    text = ld3m("plugins", "show", "dm").out
    assert "dm (objective, plugin 'objectives' of ld3m-plugin" in text
    assert "batch_real: int, >= 1 = 256\n      real images a class and step" in text
    assert "memory_budget: float, > 0 = 4.0\n      GiB" in text
    (entry,) = json.loads(ld3m("plugins", "show", "dm", "--json").out)
    (batch,) = [option for option in entry["options"] if option["name"] == "batch_real"]
    assert (batch["type"], batch["default"], batch["range"]) == ("int", "256", ">= 1")


def test_every_backend_that_is_listed_can_be_shown(ld3m):
    for row in json.loads(ld3m("plugins", "--json").out):
        if row["kind"] == "plugin":
            continue
        shown = ld3m("plugins", "show", row["name"], "--kind", row["kind"], "--json")
        assert shown.code == 0, shown.err
        (entry,) = json.loads(shown.out)
        assert entry["summary"]
        for option in entry["options"]:
            assert option["type"]
            assert option["default"]


def test_every_option_of_a_generator_or_objective_is_described(ld3m):
    for row in json.loads(ld3m("plugins", "--json").out):
        if row["kind"] in ("generator", "objective") and row["distribution"] == "ld3m-plugin":
            (entry,) = json.loads(ld3m("plugins", "show", row["name"], "--kind", row["kind"], "--json").out)
            assert [option["name"] for option in entry["options"] if not option["description"]] == [], row["name"]


def test_plugins_closes_quietly_when_nobody_reads_on(tmp_path, environment_of):
    # As `ld3m plugins | head -1`: the reader is gone before the table is written.
    program = subprocess.Popen(
        [sys.executable, "-P", "-m", "ld3m_plugin", "plugins"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=environment_of(None, {}),
    )
    with program:
        program.stdout.close()
        assert program.stderr.read() == b""


# Exit codes and one-line errors ---------------------------------------------------------------------------------------

USAGE = {
    "generator": (["-g", "pixle"], "unknown generator 'pixle': did you mean 'pixel'"),
    "objective": (["-o", "DN"], "unknown objective 'DN': did you mean 'dm'"),
    "option of the generator": (["-G", "inti=noise"], "generator 'pixel' has no option 'inti'; did you mean 'init'"),
    "option of the objective": (
        ["-O", "batch_rael=4"],
        "objective 'dm' has no option 'batch_rael'; did you mean 'batch_real'",
    ),
    "value of an option": (["-O", "batch_real=none"], "objective 'dm': batch_real = 'none': "),
    "no assignment": (["-O", "batch_real"], "'batch_real' is not an assignment: write key=value"),
    "setting": (["--set", "stepz=1"], "the configuration has no option 'stepz'; did you mean 'steps'"),
    "value of a setting": (["--set", "seed=-1"], "the configuration: seed = -1: "),
    "preset": (["--preset", "dmeo"], "unknown preset 'dmeo': did you mean 'demo'"),
    "configuration file": (["--config", "missing.yaml"], "cannot read missing.yaml"),
    "data set": (["--data", "fashion-mnits"], "unknown dataset 'fashion-mnits': did you mean 'fashion-mnist'"),
    "protocol": (["--protocol", "quik"], "unknown protocol 'quik': did you mean 'quick'"),
    "network of the evaluation": (
        ["--networks", "ConvNet,Alexnett"],
        "unknown network 'Alexnett': did you mean 'AlexNet'",
    ),
    "tracker": (["--set", "trackers=[jsnol]"], "unknown tracker 'jsnol': did you mean 'jsonl'"),
    "mixed precision": (["--autocast", "fp8"], "the configuration: autocast = 'fp8': "),
}
ONLY_IN_A_RUN = {
    "device": (["--device", "gpu"], "device 'gpu' cannot be used here"),
    "device that is not here": (["--device", "cuda:77"], "device 'cuda:77' cannot be used here"),
    "network of the objective": (["-O", "network=ConvNett"], "unknown network 'ConvNett': did you mean 'ConvNet'"),
    "setting of that network": (["-O", "network_settings={widht: 8}"], "has no setting 'widht'; did you mean 'width'"),
    "option of the data": (["-D", "image_sise=16"], "has no option 'image_sise'; did you mean 'image_size'"),
    "rate of another latent": (
        ["--set", "optimizer.learning_rates.w=1"],
        "optimizer.learning_rates has 'w'; known: pixels",
    ),
    "no rate for SGD": (["--set", "optimizer.name=sgd"], "no learning rate for pixels with sgd: give --set"),
}


@pytest.mark.parametrize(("arguments", "message"), USAGE.values(), ids=USAGE)
@pytest.mark.parametrize("dry", [True, False], ids=["dry run", "run"])
def test_a_wrong_name_or_value_is_one_line_and_code_2(ld3m, small, tmp_path, arguments, message, dry):
    outcome = ld3m("distill", *small, *arguments, "--out", "run", *(["--dry-run"] if dry else []))
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("arguments", "message"), ONLY_IN_A_RUN.values(), ids=ONLY_IN_A_RUN)
def test_what_only_a_run_can_tell_is_one_line_and_code_2(ld3m, small, arguments, message):
    outcome = ld3m("distill", *small, *arguments, "--out", "run")
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.error


CODES = {
    "help": (["--help"], 0),
    "version": (["--version"], 0),
    "nothing": ([], 2),
    "plugins": (["plugins"], 0),
    "presets": (["presets"], 0),
    "a preset": (["presets", "show", "demo"], 0),
    "dry run": (["distill", "--dry-run"], 0),
    "no distilled set": (["evaluate", "nowhere"], 1),
    "no run to resume": (["distill", "--resume", "nowhere"], 1),
    "unknown command": (["distil"], 2),
    "unknown flag": (["distill", "--stepz", "1"], 2),
    "flag below its range": (["distill", "--ipc", "0"], 2),
    "flag of another type": (["distill", "--steps", "many"], 2),
    "unknown backend to show": (["plugins", "show", "pixle"], 2),
    "unknown kind to show": (["plugins", "show", "pixel", "--kind", "generatr"], 2),
    "unknown preset to show": (["presets", "show", "dmeo"], 2),
    "resume with a setting": (["distill", "--resume", "nowhere", "--steps", "3"], 2),
    "resume with a dry run": (["distill", "--resume", "nowhere", "--dry-run"], 2),
}


@pytest.mark.parametrize(("arguments", "code"), CODES.values(), ids=CODES)
def test_exit_codes(ld3m, arguments, code):
    outcome = ld3m(*arguments)
    assert outcome.code == code, outcome
    assert "Traceback" not in outcome.err
    assert bool(outcome.err) == (code != 0)


def test_an_error_of_a_real_process_is_one_line(new_process):
    done = new_process("-m", "ld3m_plugin", "distill", "-g", "pixle")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: unknown generator 'pixle': did you mean 'pixel'")


# Composing settings ---------------------------------------------------------------------------------------------------


def test_files_presets_settings_and_flags_compose_in_that_order(ld3m, tmp_path):
    (tmp_path / "a.yaml").write_text("{render_batch: 3, steps: 1, seed: 1, images_per_class: 9, checkpoint_every: 1}")
    (tmp_path / "b.yaml").write_text("{checkpoint_every: 2}")
    outcome = ld3m(
        *("distill", "--dry-run", "--ipc", "4", "--set", "seed=3", "--set", "images_per_class=3", "--preset", "demo"),
        *("--config", "a.yaml", "--config", "b.yaml", "--steps", "5", "-O", "batch_real=7"),
    )
    assert outcome.code == 0, outcome.err
    resolved = yaml.safe_load(outcome.out)
    assert resolved["render_batch"] == 3  # the first file alone
    assert resolved["checkpoint_every"] == 2  # the second file over the first
    assert resolved["data"]["name"] == "fashion-mnist:embedded"  # the preset alone
    assert resolved["seed"] == 3  # --set over the file
    assert resolved["images_per_class"] == 4  # the flag over --set, over the preset
    assert resolved["steps"] == 5  # the flag over the preset
    assert resolved["objective"]["options"]["batch_real"] == 7  # -O over the preset


def test_a_dry_run_fed_back_prints_the_same(ld3m, tmp_path):
    arguments = ["--ipc", "2", "-G", "init=gaussian", "-O", "network_settings={width: 8}", "--networks", "ConvNet,ViT"]
    first = ld3m("distill", "--dry-run", "--no-evaluate", "-D", "image_size=16", *arguments)
    assert (first.code, first.err) == (0, "")
    (tmp_path / "resolved.yaml").write_text(first.out)
    again = ld3m("distill", "--config", "resolved.yaml", "--dry-run")
    assert (again.code, again.out) == (0, first.out)
    assert list(tmp_path.iterdir()) == [tmp_path / "resolved.yaml"]


def test_the_run_folder_holds_what_a_dry_run_prints(ld3m, small, small_dm, tmp_path):
    printed = ld3m("distill", *small, *small_dm, "--dry-run").out
    outcome = ld3m("distill", *small, *small_dm, "--out", "run")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "run" / "config.yaml").read_text() == printed
    assert "distilled set: run/distilled" in outcome.out
    assert "Traceback" not in outcome.err


def test_a_preset_that_is_shown_is_a_configuration_file(ld3m, tmp_path):
    (tmp_path / "demo.yaml").write_text(ld3m("presets", "show", "demo").out)
    by_file = ld3m("distill", "--config", "demo.yaml", "--dry-run")
    assert by_file.out == ld3m("distill", "--preset", "demo", "--dry-run").out


# The run folder -------------------------------------------------------------------------------------------------------


def test_a_folder_with_something_in_it_is_refused_and_kept(ld3m, small, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years of work")
    outcome = ld3m("distill", *small, "--out", "run")
    assert (outcome.code, outcome.error) == (
        2,
        "error: run is not empty: choose another --out, or go on with --resume run",
    )
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.txt"]


def test_an_empty_folder_is_taken_and_without_a_name_each_run_gets_its_own(ld3m, small, tmp_path):
    (tmp_path / "run").mkdir()
    assert ld3m("distill", *small, "--steps", "0", "--out", "run").code == 0
    for _ in range(2):
        assert ld3m("distill", *small, "--steps", "0").code == 0
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert names == ["fashion-mnist-embedded-pixel-dm-ipc1-seed0", "fashion-mnist-embedded-pixel-dm-ipc1-seed0-2"]


# What goes wrong in a run ---------------------------------------------------------------------------------------------

ODD = """
import os
import torch
from ld3m_plugin import hookimpl
from ld3m_plugin.contracts import DifferentiableObjective, Tracker


class NotANumber(DifferentiableObjective):
    def loss(self, images, labels, step):
        return images.square().mean() * (float("nan") if step == 2 else 1.0)


class Killed(DifferentiableObjective):
    def loss(self, images, labels, step):
        torch.rand(3, generator=self.rng)
        if step == 3 and not os.path.exists("killed"):
            open("killed", "w").close()
            os._exit(9)  # as the kernel does when memory runs out: nothing is cleaned up
        weights = torch.rand(images.shape[1:], generator=self.rng)
        return (images * weights).square().mean()


class FailsIn(Tracker):
    where = "log"

    def start(self, folder, config):
        self.fail("start")
        return self

    def log(self, record):
        self.fail("log")

    def finish(self):
        self.fail("finish")

    def fail(self, where):
        if where == self.where:
            raise OSError(f"no connection in {where}")


@hookimpl
def register_objectives(register):
    register("not-a-number", NotANumber)
    register("killed", Killed)


@hookimpl
def register_trackers(register):
    for name in ("start", "log", "finish"):
        register(f"fails-in-{name}", type(name.title(), (FailsIn,), {"where": name}))
"""
PLAIN = ["--data", "fashion-mnist:embedded", "-g", "pixel", "--no-evaluate"]


def test_a_loss_that_is_not_a_number_keeps_the_state_before_it(site, ld3m, tmp_path):
    site.add("odd-one", {"odd": ODD})
    first = ld3m("distill", *PLAIN, "-o", "not-a-number", "--steps", "5", "--out", "run")
    assert first.code == 1
    assert first.error.startswith("error: the loss is not finite at step 3: lower the learning rate")
    assert [path.name for path in checkpoint_folders(tmp_path / "run")] == ["step-000002"]
    assert steps_of(tmp_path / "run") == [1, 2]
    again = ld3m("distill", "--resume", "run")
    assert (again.code, again.error) == (1, first.error)
    assert steps_of(tmp_path / "run") == [1, 2]


@pytest.mark.parametrize("where", ["start", "log", "finish"])
def test_a_tracker_that_raises_is_turned_off_and_the_run_goes_on(site, ld3m, small, small_dm, tmp_path, where):
    site.add("odd-one", {"odd": ODD})
    outcome = ld3m("distill", *small, *small_dm, "--set", f"trackers=[fails-in-{where}]", "--out", "run")
    assert outcome.code == 0, outcome.err
    (warning,) = [line for line in outcome.err.splitlines() if "warning" in line]
    assert warning == f"warning: tracker 'fails-in-{where}' failed and is turned off: no connection in {where}"
    assert steps_of(tmp_path / "run") == [1, 2]
    assert (tmp_path / "run" / "distilled" / "metadata.json").is_file()


def test_a_killed_run_goes_on_to_the_same_images(site, new_process, ld3m, tmp_path):
    site.add("odd-one", {"odd": ODD})
    settings = ["distill", *PLAIN, "-o", "killed", "--steps", "6", "--set", "checkpoint_every=2"]
    killed = new_process("-m", "ld3m_plugin", *settings, "--out", "stopped", site=site)
    assert killed.returncode == 9, killed.stderr
    assert steps_of(tmp_path / "stopped") == [1, 2, 3]
    with (tmp_path / "stopped" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # a line that was being written
    assert ld3m("distill", "--resume", "stopped").code == 0
    assert ld3m(*settings, "--out", "straight").code == 0
    assert_same_result(tmp_path / "stopped", tmp_path / "straight")


def assert_same_result(one, other):
    for name in ("images.safetensors", "latents.safetensors"):
        assert (one / "distilled" / name).read_bytes() == (other / "distilled" / name).read_bytes()
    records = [[{**record, "seconds": 0} for record in metrics(folder)] for folder in (one, other)]
    assert records[0] == records[1]
    assert steps_of(one) == list(range(1, len(records[0]) + 1))


def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(tmp_path, environment_of):
    arguments = ["distill", *PLAIN, "--steps", "100000", "-O", "batch_real=4", "-O", "network_settings={width: 8}"]
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "ld3m_plugin", *arguments, "--out", str(folder)],
        cwd=tmp_path,
        env=environment_of(None, {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A job that a shell put in the background inherits that SIGINT is ignored; a terminal's does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with process:
        deadline = time.monotonic() + 120
        while not (folder / "metrics.jsonl").is_file() or len(steps_of_partial(folder)) < 2:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert err.splitlines()[-1] == f"stopped; go on with: ld3m distill --resume {folder}"
    (checkpoint,) = checkpoint_folders(folder)
    steps = steps_of(folder)
    assert steps == list(range(1, len(steps) + 1))
    # The record of a step is written before its state is kept: the signal may have come in between.
    assert int(load_file(checkpoint / "state.safetensors")["host/iteration"]) in {len(steps) - 1, len(steps)}


def steps_of_partial(folder):
    """Lines that are complete while the file is being written."""
    return (folder / "metrics.jsonl").read_text().split("\n")[:-1]


# Stopped anywhere, a run goes on bit for bit --------------------------------------------------------------------------


class StopsAt(run.Reporter):
    """Ctrl-C after a step."""

    def __init__(self, step):
        self.at = step

    def step(self, step):
        if step.iteration == self.at:
            raise KeyboardInterrupt


class StopsInEvaluation(run.Reporter):
    """Ctrl-C while a network is being trained."""

    def evaluating(self, what):
        raise KeyboardInterrupt


def small_config(**more):
    options = {"batch_real": 2, "network_settings": {"width": 8, "depth": 2}, "dsa": "crop_flip"}
    settings = {"steps": 4, "checkpoint_every": 2, "evaluation.final": False, "objective.options": options}
    return resolve(settings={"generator.name": "pixel", **settings, **more}.items())


def interrupted_and_resumed(config, folder, reporter, registry=None):
    with pytest.raises(KeyboardInterrupt):
        run.start(config, folder, task=tiny_task(), reporter=reporter, registry=registry)
    return run.resume(folder, task=tiny_task(), registry=registry)


SGD = {"optimizer.name": "sgd", "optimizer.learning_rates.pixels": 1.0, "generator.options.init": "noise"}
CHUNKS = {"render_batch": 2, "checkpoint_every": 0}


@pytest.mark.parametrize(
    ("stop", "more"),
    [(1, {}), (2, {}), (3, {}), (4, {}), (3, SGD), (3, CHUNKS)],
    ids=["1", "2, a checkpoint", "3", "4, the last", "3, SGD from noise", "3, chunks and no checkpoints"],
)
def test_a_run_stopped_between_steps_goes_on_bit_for_bit(tmp_path, stop, more):
    config = small_config(**more)
    run.start(config, tmp_path / "straight", task=tiny_task())
    interrupted_and_resumed(config, tmp_path / "stopped", StopsAt(stop))
    assert_same_result(tmp_path / "stopped", tmp_path / "straight")


class StopsInside(DifferentiableObjective):
    """Ctrl-C in the middle of a step, after random numbers were drawn."""

    stop_at: int | None = None

    def loss(self, images, labels, step):
        weights = torch.rand(images.shape[1:], generator=self.rng)
        if step == type(self).stop_at:
            type(self).stop_at = None
            raise KeyboardInterrupt
        return (images * weights).square().mean()


def test_a_run_stopped_inside_a_step_goes_on_bit_for_bit(tmp_path, load):
    registry = load()
    objective = type("Stops", (StopsInside,), {})
    registry.add(Backend("objective", "stops", objective, "", Owner("stops", "stops", "1.0")))
    config = small_config(**{"objective.options": {}, "objective.name": "stops"})
    run.start(config, tmp_path / "straight", task=tiny_task(), registry=registry)
    objective.stop_at = 2
    interrupted_and_resumed(config, tmp_path / "stopped", run.Reporter(), registry)
    assert objective.stop_at is None
    assert_same_result(tmp_path / "stopped", tmp_path / "straight")


class Linear(Network):
    """The quickest network there is."""

    def __init__(self, channels, image_size, num_classes):
        super().__init__()
        self.last = torch.nn.Linear(channels * image_size**2, num_classes)

    def forward(self, images):
        return self.last(images.flatten(1))


def test_a_run_stopped_in_its_evaluation_repeats_only_that(tmp_path, load, two_epochs):
    registry = load()
    registry.add(Backend("network", "Linear", Linear, "", Owner("linear", "linear", "1.0")))
    evaluation = {"final": True, "networks": ["Linear"], "repeats": 1, "protocol": two_epochs}
    config = small_config(steps=2, checkpoint_every=0, evaluation=evaluation)
    with pytest.raises(KeyboardInterrupt):
        run.start(config, tmp_path / "run", task=tiny_task(), registry=registry, reporter=StopsInEvaluation())
    assert [path.name for path in checkpoint_folders(tmp_path / "run")] == ["step-000002"]
    made = []
    reporter = type("Counts", (run.Reporter,), {"step": lambda self, step: made.append(step)})()
    resumed = run.resume(tmp_path / "run", task=tiny_task(), registry=registry, reporter=reporter)
    assert resumed.evaluation is not None
    assert made == []
    assert steps_of(tmp_path / "run") == [1, 2]
    # Resuming a finished run evaluates again, and the records are of the last time alone.
    run.resume(tmp_path / "run", task=tiny_task(), registry=registry)
    assert len([record for record in metrics(tmp_path / "run") if "protocol" in record]) == 2


def test_a_damaged_checkpoint_is_named_and_its_removal_helps(ld3m, small, small_dm, tmp_path):
    assert ld3m("distill", *small, *small_dm, "--set", "checkpoint_every=1", "--out", "run").code == 0
    state = checkpoint_folders(tmp_path / "run")[-1] / "state.safetensors"
    state.write_bytes(state.read_bytes()[:100])
    outcome = ld3m("distill", "--resume", "run")
    assert outcome.code == 1
    assert "step-000002/state.safetensors is damaged" in outcome.error
    state.unlink()
    state.parent.rmdir()
    assert ld3m("distill", "--resume", "run").code == 0
    assert steps_of(tmp_path / "run") == [1, 2]
