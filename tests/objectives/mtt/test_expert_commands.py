"""`ld3m experts` from end to end: planned, trained, stopped, listed, imported, and refused in one line."""

import json
import re
import shutil
from types import SimpleNamespace

import pytest
import torch

from ld3m_plugin.networks.build import get_network
from ld3m_plugin.objectives.mtt.commands import size
from ld3m_plugin.objectives.mtt.store.expert_settings import TrainingOptions


def test_plan_train_and_list(tiny_site, ld3m, training, tmp_path):
    plan = ld3m("experts", "plan", *training()[2:])
    assert plan.code == 0, plan.err
    facts = dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in plan.out.splitlines())
    assert facts["folder"].startswith("experts/ConvNet-16px-3classes-")
    assert facts["experts"] == "2, 0 of them stored"
    assert facts["epochs"] == "2, 8 updates an expert"
    assert facts["parameters"] == "1,635"
    assert facts["disk"].startswith("19.2 KiB an expert, 38.3 KiB to write, ")
    assert re.fullmatch(r"about [\d:]+, at [\d.e-]+ s an update, an estimate", facts["time"])
    assert not (tmp_path / "experts").exists()

    trained = ld3m(*training())
    assert trained.code == 0, trained.err
    folder = facts["folder"]
    assert trained.out.startswith(f"experts: {folder} ")
    assert "data: random images for tests" in trained.err
    assert "experts: 16 steps" in trained.err
    assert re.search(r"experts, step 16 of 16: expert 1, epoch 2, loss [\d.]+, [\d.]+ it/s, 0:00 to go", trained.err)
    assert len(list((tmp_path / folder).glob("expert-*"))) == 2

    listed = ld3m("experts", "list")
    titles, row = (re.split(r"\s{2,}", line.strip()) for line in listed.out.splitlines())
    entry = dict(zip(titles, row, strict=True))
    assert (entry["key"], entry["data"], entry["network"]) == (folder.removeprefix("experts/"), "tiny", "ConvNet")
    assert (entry["experts"], entry["epochs"], entry["dtype"], entry["status"]) == ("2", "0-2", "float32", "complete")
    (record,) = json.loads(ld3m("experts", "list", "--json").out)
    assert (record["key"], record["count"], record["status"]) == (entry["key"], 2, "complete")
    again = ld3m("experts", "plan", *training(3)[2:], "--json", "--timed", "0")
    planned = json.loads(again.out)
    assert (planned["count"], planned["missing"], planned["missing_bytes"], planned["seconds"]) == (
        3,
        1,
        3 * 1635 * 4,
        None,
    )


def test_a_data_set_is_given_only_the_options_it_takes(tiny_site, ld3m):
    plan = ld3m("experts", "plan", "--data", "fashion-mnist:embedded", "-D", "image_size=28", "--timed", "0", "--json")
    assert plan.code == 0, plan.err
    assert json.loads(plan.out)["folder"].startswith("experts/ConvNet-28px-10classes-")


def test_a_plan_warns_where_the_disk_is_too_small(tiny_site, ld3m, training, monkeypatch):
    command = ["experts", "plan", *training()[2:], "--timed", "0"]
    for free, fits in ((2 * 3 * 1635 * 4, True), (2 * 3 * 1635 * 4 - 1, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free))
        assert ("\nwarning " in ld3m(*command).out) != fits


def test_a_store_is_listed_as_partial_and_damage_is_a_warning(tiny_site, ld3m, training, tmp_path):
    assert ld3m(*training(), "--first", "1").code == 0
    (folder,) = (tmp_path / "experts").iterdir()
    assert ld3m("experts", "list").out.rstrip().endswith("partial")
    file = folder / "expert-00001.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    listed = ld3m("experts", "list")
    assert (listed.code, listed.out.rstrip().endswith("damaged")) == (0, True)
    assert listed.err.startswith(f"warning: experts/{folder.name}/{file.name} ")
    assert f"experts/{folder.name}/{file.name}" in ld3m(*training()).error
    file.unlink()
    assert ld3m(*training()).code == 0
    assert ld3m("experts", "list").out.rstrip().endswith("complete")


def test_ctrl_c_during_a_training_is_code_130_and_one_line(tiny_site, ld3m, training, monkeypatch):
    def interrupted(*arguments, **others):
        raise KeyboardInterrupt

    monkeypatch.setattr("ld3m_plugin.objectives.mtt.store.train_experts.train_experts", interrupted)
    stopped = ld3m(*training())
    assert (stopped.code, stopped.out) == (130, "")
    assert "Traceback" not in stopped.err


def test_list_verifies_on_request(tiny_site, ld3m, training, tmp_path):
    assert ld3m(*training()).code == 0
    assert ld3m("experts", "list", "--verify").code == 0
    (file, _) = sorted((tmp_path / "experts").glob("*/expert-*"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert ld3m("experts", "list").code == 0
    verified = ld3m("experts", "list", "--verify")
    assert (verified.code, verified.out.split()[-1]) == (1, "damaged")
    (line,) = verified.err.splitlines()
    assert line.startswith(f"warning: {file.relative_to(tmp_path)} ")
    assert "epoch 2" in line
    written = ld3m("experts", "list", "--verify", "--json")
    assert (written.code, json.loads(written.out)[0]["status"]) == (1, "damaged")


def test_damaged_settings_are_a_row_and_a_warning(tiny_site, ld3m, training, tmp_path):
    assert ld3m(*training()).code == 0
    (folder,) = (tmp_path / "experts").iterdir()
    (folder / "settings.json").write_text("garbage")
    listed = ld3m("experts", "list")
    assert (listed.code, listed.out.split()[-1]) == (0, "damaged")
    assert listed.err.startswith(f"warning: experts/{folder.name} ")
    assert "settings.json" in listed.err
    assert "settings.json" in ld3m(*training()).error


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


def test_weights_that_bf16_cannot_hold_are_not_stored(tiny_site, ld3m, tmp_path):
    tiny_site.add("ld3m-large", {"largenetwork": LARGE})
    train = ["experts", "train", "--data", "tiny", "-S", "network=Large", "--epochs", "1", "--count", "1"]
    refused = ld3m(*train, "-S", "dtype=bf16")
    assert refused.code == 1
    assert re.search("expert 0 .* epoch 0 .* bf16: .*-S dtype", refused.error)
    assert not (tmp_path / "experts").exists()
    assert ld3m(*train).code == 0


#: What is wrong: the arguments, the exit code, and the words that the error has to name.
REFUSED = {
    "setting": (["train", "-S", "ratee=1"], 2, ["'ratee'", "'rate'"]),
    "value": (["train", "-S", "rate=0"], 2, ["rate = 0"]),
    "augmentation": (["train", "-S", "dsa=colour"], 2, ["'colour'", "'color'"]),
    "what the task decides": (["train", "-S", "network_settings={channels: 3}"], 2, ["network_settings", "channels"]),
    "network": (["train", "-S", "network=ConvNett"], 2, ["'ConvNett'", "'ConvNet'"]),
    "setting of the network": (["train", "-S", "network_settings={dept: 1}"], 2, ["'ConvNet'", "'dept'", "'depth'"]),
    "data": (["train", "--data", "tinny"], 2, ["'tinny'", "'tiny'"]),
    "option of the data": (["train", "-D", "device=cpu"], 2, ["'tiny'", "'device'"]),
    "first": (["train", "--first", "2"], 2, ["--first 2", "--count"]),
    "list": (["list", "--root", "nowhere"], 1, ["nowhere", "--root"]),
    "import": (["import", "no.pt", "--data", "tiny"], 1, ["no.pt", "replay_buffer_*.pt"]),
    "batch norm": (["train", "-S", "network_settings={norm: batchnorm}"], 2, ["'ConvNet'", "norm: instancenorm"]),
    "too large": (
        ["plan", "-S", f"network_settings={{width: {10**13}}}"],
        2,
        ["'ConvNet'", '{"width": 10000000000000}'],
    ),
    "root of a plan": (
        ["plan", "--root", "site/tinydata.py"],
        2,
        ["site/tinydata.py", "--root"],
    ),
    "root of a training": (["train", "--root", "site/tinydata.py"], 2, ["site/tinydata.py", "--root"]),
    "together": (
        ["train", "-S", "network=ViT", "-S", "network_settings={}", "-S", "together=2"],
        2,
        ["'ViT'", "dropout", "-S together"],
    ),
}


@pytest.mark.parametrize(("arguments", "code", "named"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_one_line(tiny_site, ld3m, training, arguments, code, named):
    command, *words = arguments
    given = training()[2:] if command in ("plan", "train") else []
    outcome = ld3m("experts", command, *given, *words)
    assert (outcome.code, outcome.out) == (code, "")
    assert all(word in outcome.error for word in named)


def test_import_copies_buffers_once_and_refuses_code(tiny_site, ld3m, training, tmp_path):
    network = get_network("ConvNet", channels=1, image_size=16, num_classes=3, depth=1, width=8)
    snapshots = [[p.detach() + epoch for p in network.parameters()] for epoch in range(3)]
    torch.save([snapshots], tmp_path / "replay_buffer_0.pt")
    command = ["experts", "import", ".", *training()[2:8]]
    copied = ld3m(*command)
    assert copied.code == 0, copied.err
    assert re.fullmatch(r"1 experts copied: experts/ConvNet-16px-3classes-\w{12}\n", copied.out)
    assert re.match("0 experts copied, 1 were there", ld3m(*command).out)
    assert "1, 1 imported" in ld3m("experts", "list").out
    (tmp_path / "replay_buffer_1.pt").write_bytes(b"cos\nsystem\n(S'touch was_run'\ntR.")
    refused = ld3m(*command)
    assert refused.code == 1
    assert "replay_buffer_1.pt" in refused.error
    assert not (tmp_path / "was_run").exists()


def test_a_wrong_setting_lists_all_of_them(tiny_site, ld3m, training):
    error = ld3m(*training(), "-S", "zzz=1").error
    assert all(name in error for name in TrainingOptions.model_fields)


@pytest.mark.slow
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


def test_commands_and_objective_look_in_the_same_place(tiny_site, ld3m, training, tmp_path, monkeypatch):
    from ld3m_plugin.objectives.mtt import FOLDER_VARIABLE

    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "elsewhere"))
    assert ld3m(*training()).code == 0
    assert list((tmp_path / "elsewhere").glob("*/expert-00001.safetensors"))
    assert not (tmp_path / "experts").exists()
    assert ld3m("experts", "list").out.rstrip().endswith("complete")
