"""`ld3m experts` from end to end: planned, trained, stopped, listed, imported, and refused in one line."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from ld3m_plugin.networks.build import get_network
from ld3m_plugin.objectives.mtt.commands import size
from ld3m_plugin.objectives.mtt.store import open_experts
from ld3m_plugin.objectives.mtt.store.expert_settings import TrainingOptions
from ld3m_plugin.testing import tiny_task

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
TRAIN = ["experts", "train", *SETTINGS, "--count", "2"]


@pytest.fixture
def tiny(site):
    return site.add("ld3m-tiny", {"tinydata": TINY})


def options(**other):
    return TrainingOptions(network_settings={"depth": 1, "width": 8}, batch_size=10, epochs=2, count=2, **other)


def command_in(caught):
    """The arguments of the command that a message ends with."""
    program, *arguments = shlex.split(str(caught.value).split(" with: ")[1])
    assert program == "ld3m"
    return arguments


def test_plan_train_and_list(tiny, ld3m, tmp_path):
    plan = ld3m("experts", "plan", *SETTINGS, "--count", "2")
    assert plan.code == 0, plan.err
    facts = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in plan.out.splitlines())
    assert facts["folder"].startswith("experts/ConvNet-16px-3classes-")
    assert facts["experts"] == "2, 0 of them there"
    assert facts["epochs"] == "2, 8 updates an expert"
    assert facts["parameters"] == "1,635"
    assert facts["disk"].startswith("19.2 KiB an expert, 38.3 KiB to write, ")
    assert re.fullmatch(r"about [\d:]+, at [\d.e-]+ s an update, an estimate", facts["time"])
    assert not (tmp_path / "experts").exists()

    trained = ld3m(*TRAIN)
    assert trained.code == 0, trained.err
    folder = facts["folder"]
    assert trained.out == f"experts: {folder} (`ld3m experts list --root experts` shows what is there)\n"
    assert "data: random images for tests" in trained.err
    assert "experts: 16 steps" in trained.err
    assert re.search(r"experts, step 16 of 16: expert 1, epoch 2, loss [\d.]+, [\d.]+ it/s, 0:00 to go", trained.err)
    experts = open_experts(tmp_path / "experts", tiny_task(), options().settings())
    assert experts.epochs == (0, 1, 2)

    listed = ld3m("experts", "list")
    titles, row = (re.split(r"\s{2,}", line) for line in listed.out.splitlines())
    entry = dict(zip(titles, row, strict=True))
    assert (entry["key"], entry["data"], entry["network"]) == (folder.removeprefix("experts/"), "tiny", "ConvNet")
    assert (entry["experts"], entry["epochs"], entry["dtype"], entry["status"]) == ("2", "0-2", "float32", "complete")
    (record,) = json.loads(ld3m("experts", "list", "--json").out)
    assert (record["key"], record["count"], record["status"]) == (entry["key"], 2, "complete")
    again = ld3m("experts", "plan", *SETTINGS, "--count", "3", "--json", "--timed", "0")
    planned = json.loads(again.out)
    assert (planned["count"], planned["missing"], planned["missing_bytes"], planned["seconds"]) == (
        3,
        1,
        3 * 1635 * 4,
        None,
    )


def test_a_plan_warns_where_the_disk_is_too_small(tiny, ld3m, monkeypatch):
    command = ["experts", "plan", *SETTINGS, "--timed", "0", "--count", "2"]
    for free, fits in ((2 * 3 * 1635 * 4, True), (2 * 3 * 1635 * 4 - 1, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free))
        assert ("they do not fit: fewer experts" in ld3m(*command).out) != fits


def test_the_command_that_an_error_names_makes_the_experts(tiny, ld3m, tmp_path):
    from ld3m_plugin.data.load import load_task
    from ld3m_plugin.errors import ExpertError
    from ld3m_plugin.registry import build_registry

    task = load_task("tiny", image_size=8, registry=build_registry(environ={}))
    settings = options(seed=3, rate=0.02, dsa="color_flip").settings()
    with pytest.raises(ExpertError) as caught:
        open_experts(tmp_path / "my experts", task, settings)
    arguments = command_in(caught)
    assert "image_size=8" in arguments
    assert ld3m(*arguments).code == 0
    assert len(open_experts(tmp_path / "my experts", task, settings)) == 2


def test_the_command_that_the_objective_names_makes_experts_that_it_accepts(tiny, ld3m, tmp_path):
    from ld3m_plugin.backends import get_objective
    from ld3m_plugin.errors import ExpertError
    from ld3m_plugin.randomness import stream

    task = replace(tiny_task(), name="tiny").for_training()
    matched = {
        "experts": str(tmp_path / "experts"),
        "network_settings": {"depth": 1, "width": 8},
        "expert_settings": {"epochs": 2, "count": 2, "batch_size": 10},
        # the last epoch that is read is 4, later than the epochs of the settings
        **{"max_start_epoch": 3, "expert_epochs": 2},
    }

    def prepare():
        objective = get_objective("mtt", **matched)
        objective.prepare(task, torch.arange(3), stream(0, "objective"))
        return objective

    with pytest.raises(ExpertError) as caught:
        prepare()
    assert ld3m(*command_in(caught)).code == 0
    assert prepare().experts.epochs == (0, 1, 2, 3, 4)


KEPT = {
    "bf16": (["-S", "dtype=bf16"], {"epochs": 2}, 2, 2),
    "fewer epochs kept": (["-S", "keep_epochs=1"], {"epochs": 9}, 1, 1),
    "more than is needed": (["-S", "keep_epochs=3", "--epochs", "9", "-S", "dtype=bf16"], {"epochs": 9}, 1, 3),
    "more than is asked for": (["--epochs", "4"], {"epochs": 3}, 2, 3),
}


@pytest.mark.parametrize(("how", "asked", "last", "reached"), KEPT.values(), ids=KEPT)
def test_the_command_that_an_error_names_leaves_what_is_there_as_it_is(tiny, ld3m, tmp_path, how, asked, last, reached):
    from ld3m_plugin.errors import ExpertError
    from ld3m_plugin.objectives.mtt.store.expert_files import read_header

    assert ld3m(*TRAIN, *how).code == 0
    (folder,) = (tmp_path / "experts").iterdir()
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.glob("expert-*")}
    task = replace(tiny_task(), name="tiny")
    settings = options().settings().model_copy(update={"count": 3, **asked})
    with pytest.raises(ExpertError, match="has 2 of the 3 experts") as caught:
        open_experts(tmp_path / "experts", task, settings, last_epoch=last)
    assert ld3m(*command_in(caught)).code == 0
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before
    assert len(open_experts(tmp_path / "experts", task, settings, last_epoch=last)) == 3
    assert read_header(folder / "expert-00002.safetensors").epochs[-1] == reached


def test_imported_experts_are_filled_up_by_the_command_or_no_command_is_named(tiny, ld3m, tmp_path):
    from ld3m_plugin.errors import ExpertError

    network = get_network("ConvNet", channels=1, image_size=16, num_classes=3, depth=1, width=8)
    torch.save([[[p.detach() + e for p in network.parameters()] for e in range(3)]], tmp_path / "replay_buffer_0.pt")
    assert ld3m("experts", "import", ".", *SETTINGS[:4], "-S", "batch_size=10").code == 0
    task = replace(tiny_task(), name="tiny")
    settings = options().settings().model_copy(update={"epochs": 9})
    with pytest.raises(ExpertError, match="has 1 of the 2 experts") as caught:
        open_experts(tmp_path / "experts", task, settings, last_epoch=1)
    with pytest.raises(ExpertError, match="imported experts cannot be trained further") as other:
        open_experts(tmp_path / "experts", task, settings)
    assert "ld3m experts train" not in str(other.value)
    assert ld3m(*command_in(caught)).code == 0
    assert len(open_experts(tmp_path / "experts", task, settings, last_epoch=1)) == 2


def test_a_store_is_listed_as_partial_and_damage_is_a_warning(tiny, ld3m, tmp_path):
    assert ld3m(*TRAIN, "--first", "1").code == 0
    (folder,) = (tmp_path / "experts").iterdir()
    assert ld3m("experts", "list").out.rstrip().endswith("partial")
    file = folder / "expert-00001.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    listed = ld3m("experts", "list")
    assert (listed.code, listed.out.rstrip().endswith("damaged")) == (0, True)
    assert listed.err.startswith(f"warning: experts/{folder.name}/{file.name} is damaged")
    assert "delete it" in ld3m(*TRAIN).error
    file.unlink()
    assert ld3m(*TRAIN).code == 0
    assert ld3m("experts", "list").out.rstrip().endswith("complete")


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_training_says_how_to_go_on_and_does(tiny, ld3m, tmp_path, environment_of, sign):
    many = [*TRAIN[:-1], "2000"]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "ld3m_plugin", *many],
        cwd=tmp_path,
        env=environment_of(tiny, {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A job that a shell put in the background inherits that SIGINT is ignored; a terminal's does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 300  # as long as other new processes may take on a busy machine
        while not list(tmp_path.glob("experts/*/expert-00003.safetensors")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(sign)
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, ""), err
    assert err.splitlines()[-1] == "stopped; the same command goes on"
    assert "Traceback" not in err
    (folder,) = (tmp_path / "experts").iterdir()
    finished = {path.name: path.stat().st_mtime_ns for path in folder.glob("expert-*")}
    assert not list(folder.glob(".*")), "no half-written file is left"
    outcome = ld3m(*TRAIN[:-1], str(len(finished) + 1))
    assert outcome.code == 0, outcome.err
    assert f"{len(finished) * 8} of them made before" in outcome.err
    after = {path.name: path.stat().st_mtime_ns for path in folder.glob("expert-*")}
    assert len(after) == len(finished) + 1
    assert finished.items() <= after.items()


def test_two_processes_with_the_same_command_make_the_same_experts(tiny, ld3m, tmp_path, environment_of):
    both = [
        subprocess.Popen(
            [sys.executable, "-P", "-m", "ld3m_plugin", *TRAIN[:-1], "8"],
            cwd=tmp_path,
            env=environment_of(tiny, {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        for process in both:
            out, err = process.communicate(timeout=300)
            assert (process.returncode, out[:9]) == (0, "experts: "), err
    finally:
        for process in both:
            process.kill()
    (folder,) = (tmp_path / "experts").iterdir()
    assert len(list(folder.glob("expert-*"))) == 8
    assert not list(folder.glob(".*")), "no half-written file is left"
    verified = ld3m("experts", "list", "--verify")
    assert (verified.code, verified.out.split()[-1]) == (0, "complete")


def test_list_verifies_on_request(tiny, ld3m, tmp_path):
    assert ld3m(*TRAIN).code == 0
    assert ld3m("experts", "list", "--verify").code == 0
    (file, _) = sorted((tmp_path / "experts").glob("*/expert-*"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert ld3m("experts", "list").code == 0
    verified = ld3m("experts", "list", "--verify")
    assert (verified.code, verified.out.split()[-1]) == (1, "damaged")
    assert verified.err == (
        f"warning: {file.relative_to(tmp_path)} is damaged (its weights after epoch 2 are not those that were written): "
        "delete it, and the command that made it makes it again\n"
    )
    written = ld3m("experts", "list", "--verify", "--json")
    assert (written.code, json.loads(written.out)[0]["status"]) == (1, "damaged")


def test_damaged_settings_are_a_row_and_a_warning(tiny, ld3m, tmp_path):
    assert ld3m(*TRAIN).code == 0
    (folder,) = (tmp_path / "experts").iterdir()
    (folder / "settings.json").write_text("garbage")
    listed = ld3m("experts", "list")
    assert (listed.code, listed.out.split()[-1]) == (0, "damaged")
    assert listed.err.startswith(
        f"warning: experts/{folder.name} is not a store of experts (settings.json is damaged: "
    )
    assert "settings.json is damaged" in ld3m(*TRAIN).error


LARGE = """
import torch
from torch import nn

from ld3m_plugin import hookimpl
from ld3m_plugin.contracts import Network

class Large(Network):
    # a weight that float32 holds, bf16 does not, and training does not touch

    def __init__(self, *, channels: int, image_size: int, num_classes: int) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.tensor([3.4e38]))
        self.classifier = nn.Linear(channels * image_size**2, num_classes)

    def embed(self, images):
        return images.flatten(1)

    def forward(self, images):
        return self.classifier(self.embed(images)) + 0 * self.unused

@hookimpl
def register_networks(register):
    register("Large", Large)
"""


def test_weights_that_bf16_cannot_hold_are_not_stored(tiny, ld3m, tmp_path):
    tiny.add("ld3m-large", {"largenetwork": LARGE})
    train = ["experts", "train", "--data", "tiny", "-S", "network=Large", "--epochs", "1", "--count", "1"]
    refused = ld3m(*train, "-S", "dtype=bf16")
    assert refused.code == 1
    assert refused.error.startswith("error: weights of expert 0 are too large for bf16 after epoch 0: lower -S rate")
    assert not (tmp_path / "experts").exists()
    assert ld3m(*train).code == 0


REFUSED = {
    "setting": ([*TRAIN, "-S", "ratee=1"], 2, "experts has no option 'ratee'; did you mean 'rate'"),
    "value": ([*TRAIN, "-S", "rate=0"], 2, "experts: rate = 0: "),
    "augmentation": (
        [*TRAIN, "-S", "dsa=colour"],
        2,
        "augmentation strategy 'colour' has no operation 'colour'; did you",
    ),
    "what the task decides": (
        [*TRAIN, "-S", "network_settings={channels: 3}"],
        2,
        "experts: network_settings: channels is not yours to set: it comes from the task",
    ),
    "network": ([*TRAIN, "-S", "network=ConvNett"], 2, "unknown network 'ConvNett': did you mean 'ConvNet'"),
    "setting of the network": (
        [*TRAIN, "-S", "network_settings={dept: 1}"],
        2,
        "network 'ConvNet' has no setting 'dept'; did you mean 'depth'",
    ),
    "data": ([*TRAIN, "--data", "tinny"], 2, "unknown dataset 'tinny': did you mean 'tiny'"),
    "option of the data": ([*TRAIN, "-D", "device=cpu"], 2, "data set 'tiny' has no option 'device'"),
    "first": ([*TRAIN, "--first", "2"], 2, "--first 2 leaves none of 2 experts"),
    "list": (["experts", "list", "--root", "nowhere"], 1, "nowhere is not a folder: name the --root of experts"),
    "import": (["experts", "import", "no.pt", *SETTINGS[:4]], 1, "no.pt does not exist: name a replay_buffer_*.pt"),
    "batch norm": (
        [*TRAIN, "-S", "network_settings={norm: batchnorm}"],
        2,
        "mtt: network 'ConvNet' has batch norm, whose running statistics are no parameters and no expert stores",
    ),
    "too large": (
        ["experts", "plan", "--data", "tiny", "-S", f"network_settings={{width: {10**13}}}"],
        2,
        "network 'ConvNet' with network_settings {\"width\": 10000000000000} does not fit into memory: choose a smaller one",
    ),
    "root of a plan": (
        ["experts", "plan", *SETTINGS, "--root", "site/tinydata.py"],
        2,
        "site/tinydata.py is a file: name a folder as --root",
    ),
    "root of a training": ([*TRAIN, "--root", "site/tinydata.py"], 2, "site/tinydata.py is a file: name a folder"),
    "together": (
        [*TRAIN[:2], "--data", "tiny", "-S", "network=ViT", "-S", "together=2"],
        2,
        "network 'ViT' draws dropout, so that it cannot be trained together with others: leave -S together out",
    ),
}


@pytest.mark.parametrize(("arguments", "code", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_one_line(tiny, ld3m, arguments, code, message):
    outcome = ld3m(*arguments)
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.error.startswith(f"error: {message}")


def test_import_copies_buffers_once_and_refuses_code(tiny, ld3m, tmp_path):
    network = get_network("ConvNet", channels=1, image_size=16, num_classes=3, depth=1, width=8)
    snapshots = [[p.detach() + epoch for p in network.parameters()] for epoch in range(3)]
    torch.save([snapshots], tmp_path / "replay_buffer_0.pt")
    command = ["experts", "import", ".", *SETTINGS[:4], "-S", "batch_size=10"]
    copied = ld3m(*command)
    assert copied.code == 0, copied.err
    assert re.fullmatch(r"1 experts copied: experts/ConvNet-16px-3classes-\w{12}\n", copied.out)
    assert ld3m(*command).out.startswith("0 experts copied, 1 were there: ")
    assert "1, 1 imported" in ld3m("experts", "list").out
    (tmp_path / "replay_buffer_1.pt").write_bytes(b"cos\nsystem\n(S'touch was_run'\ntR.")
    refused = ld3m(*command)
    assert refused.code == 1
    assert "nothing in it was run" in refused.error
    assert not (tmp_path / "was_run").exists()


def test_help_names_every_setting(ld3m):
    assert NAMES.split(", ") == list(TrainingOptions.model_fields)


@pytest.mark.parametrize("command", [[], ["plan"], ["train"], ["list"], ["import"]], ids=" ".join)
def test_help_imports_nothing_heavy(new_process, command):
    program = f"""
import sys
sys.argv = ["ld3m", "experts", *{command!r}, "--help"]
from ld3m_plugin.cli import main
try:
    main()
except SystemExit as left:
    assert not left.code, left.code
print("IMPORTED", sorted({{"torch", "numpy", "yaml"}} & set(sys.modules)))
"""
    done = new_process("-c", program)
    assert done.stdout.splitlines()[-1] == "IMPORTED []", done.stderr


def test_sizes_as_people_read_them():
    assert [size(n) for n in (0, 1023, 1024, 10 * 2**20, 2**31)] == [
        "0 B",
        "1023 B",
        "1.00 KiB",
        "10.0 MiB",
        "2.00 GiB",
    ]


def test_commands_and_objective_look_in_the_same_place(tiny, ld3m, tmp_path, monkeypatch):
    from ld3m_plugin.objectives.mtt.experts import FOLDER_VARIABLE

    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "elsewhere"))
    assert ld3m(*TRAIN).code == 0
    assert list((tmp_path / "elsewhere").glob("*/expert-00001.safetensors"))
    assert not (tmp_path / "experts").exists()
    assert ld3m("experts", "list").out.rstrip().endswith("complete")
