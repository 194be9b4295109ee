"""What a store says of itself: versions, damaged settings, weights that differ from their digests, and roots that are files."""

import errno
import json
import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ld3m_plugin.contracts import TrainingReporter
from ld3m_plugin.errors import ExpertError, UsageError
from ld3m_plugin.objectives.matching import random_network
from ld3m_plugin.objectives.mtt.store import open_experts
from ld3m_plugin.objectives.mtt.store.expert_files import cannot_write, expert_files, read_header
from ld3m_plugin.objectives.mtt.store.expert_plan import plan_experts
from ld3m_plugin.objectives.mtt.store.listing import list_experts
from ld3m_plugin.objectives.mtt.store.published import import_experts
from ld3m_plugin.objectives.mtt.store.store_folder import store_of
from ld3m_plugin.objectives.mtt.store.store_format import FORMAT, OtherVersionError
from ld3m_plugin.objectives.mtt.store.train_experts import train_experts
from ld3m_plugin.storage import LOCK, InUseError, locked

# other versions -------------------------------------------------------------------------------------------------------

ANOTHER = rf".*ld3m-experts-1; .*{FORMAT}\).*--root"


def as_of_the_first_format(path):
    """The file as the first format had it: one digest, and no word on imports."""
    with safe_open(path, framework="pt") as file:
        metadata, rows = file.metadata(), file.get_tensor("parameters")
    metadata = {name: value for name, value in metadata.items() if name not in ("digests", "imported")}
    save_file({"parameters": rows}, path, {**metadata, "format": "ld3m-experts-1", "digest": '"0"'})


def test_a_file_of_another_version_is_not_called_damaged(train, task, tiny):
    experts = train()
    root, path = experts.store.root, expert_files(experts.store.folder)[1]
    as_of_the_first_format(path)
    for use in (open_experts, train_experts, plan_experts):
        options = tiny().settings() if use is open_experts else tiny()
        with pytest.raises(OtherVersionError, match=f"{path} {ANOTHER}"):
            use(root, task, options)
    (entry,) = list_experts(root)
    assert (entry.status, entry.count) == ("other version", 1)
    assert "ld3m-experts-1" in entry.problems[0]


def test_a_store_of_another_version_is_listed_as_such(train, task, tiny):
    folder = train().store.folder
    described = json.loads((folder / "settings.json").read_text())
    (folder / "settings.json").write_text(json.dumps({**described, "format": "ld3m-experts-1", "wanted": None}))
    for path in expert_files(folder).values():
        as_of_the_first_format(path)
    (entry,) = list_experts(folder.parent, verify=True)
    assert (entry.status, len(entry.problems)) == ("other version", 1)
    with pytest.raises(OtherVersionError, match=f"{folder} {ANOTHER}"):
        train()
    # and it is in nobody's way
    with pytest.raises(ExpertError, match=r"root; .* with: ld3m experts train"):
        open_experts(folder.parent, task, tiny(rate=0.5).settings())


# damaged settings -----------------------------------------------------------------------------------------------------

DAMAGE = {
    "garbage": lambda described: "\x00\x01garbage",
    "cut": lambda described: json.dumps(described)[:-20],
    "deep": lambda described: "[" * 100_000,
    "a number": lambda described: "5",
    "task": lambda described: json.dumps({**described, "task": 5}),
    "wanted": lambda described: json.dumps({**described, "wanted": []}),
    "count": lambda described: json.dumps({**described, "wanted": {"count": "2", "epochs": 2}}),
    "settings": lambda described: json.dumps({**described, "settings": "x"}),
    "data": lambda described: json.dumps({**described, "data": None}),
    "dtype": lambda described: json.dumps({**described, "dtype": "float8"}),
    "key": lambda described: json.dumps({**described, "key": 1}),
    "format": lambda described: json.dumps({**described, "format": ["x"]}),
    "edited": lambda described: json.dumps({**described, "settings": {**described["settings"], "rate": 0.5}}),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_settings_are_listed_and_one_line_where_they_are_needed(train, task, tiny, damage):
    folder = train().store.folder
    path = folder / "settings.json"
    path.write_text(damage(json.loads(path.read_text())))
    (entry,) = list_experts(folder.parent)
    assert (entry.key, entry.status, entry.count, entry.epochs) == (folder.name, "damaged", 2, 2)
    (problem,) = entry.problems
    assert problem.startswith(f"{folder} ")
    assert "settings.json" in problem
    assert "\n" not in problem
    with pytest.raises(ExpertError) as caught:
        train()
    assert str(caught.value) == problem
    # what looks for the nearest store passes it over
    with pytest.raises(ExpertError, match=r"root; .* with: ld3m experts train"):
        open_experts(folder.parent, task, tiny(rate=0.5).settings())


def test_a_store_without_settings_is_listed_as_damaged_and_folders_of_others_are_not(train, tmp_path):
    folder = train().store.folder
    (folder / "settings.json").unlink()
    for name in ("editor", "notes"):
        (tmp_path / "root" / name).mkdir()
    (tmp_path / "root" / "editor" / "settings.json").write_text("{'editor': 1}")
    (entry,) = list_experts(tmp_path / "root")
    assert (entry.key, entry.status) == (folder.name, "damaged")
    assert "settings.json" in entry.problems[0]


# digests --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_weights_that_differ_from_their_digest_are_found_on_request(train, dtype):
    experts = train(dtype=dtype)
    root, path = experts.store.root, expert_files(experts.store.folder)[1]
    (entry,) = list_experts(root, verify=True)
    assert (entry.status, entry.problems) == ("complete", ())
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # the last weight after the last epoch
    path.write_bytes(content)
    assert list_experts(root)[0].status == "complete", "a list reads no weights"
    (entry,) = list_experts(root, verify=True)
    assert entry.status == "damaged"
    (problem,) = entry.problems
    assert problem.startswith(f"{path} ")
    assert "epoch 2" in problem
    opened = open_experts(root, experts.store.task, experts.store.settings)
    opened.parameters(1, 1)
    with pytest.raises(ExpertError, match=str(path)):
        opened.parameters(1, 2)


def test_a_root_that_cannot_be_written_is_found_before_the_training(task, tiny):
    if not Path("/proc").is_dir():
        pytest.skip("this system has no /proc")
    told = []
    reporter = type("Tells", (TrainingReporter,), {"phase": lambda self, *values: told.append(values)})()
    with pytest.raises(UsageError, match="--root"):
        train_experts(Path("/proc/experts"), task, tiny(), reporter=reporter)
    assert told == []


def test_a_second_import_into_a_store_is_refused(task, tiny, tmp_path, process_in):
    store = store_of(tmp_path, task, tiny().settings())
    lock = tmp_path / f".{store.key}{LOCK}"
    holder = process_in(lambda: locked(lock, store.folder, "give another --root"))
    torch.save([], tmp_path / "replay_buffer_0.pt")
    with pytest.raises(InUseError, match=f"process {holder.pid}"):
        import_experts(tmp_path, task, tiny(), [tmp_path])


# roots ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", [".", "more/folders"])
def test_a_root_that_is_a_file_is_refused_the_same_everywhere(task, tiny, tmp_path, below):
    (tmp_path / "file").write_text("thesis")
    root, messages = tmp_path / "file" / below, set()
    for use in (
        lambda: plan_experts(root, task, tiny(), timed=0),
        lambda: train_experts(root, task, tiny()),
        lambda: import_experts(root, task, tiny(), []),
        lambda: open_experts(root, task, tiny().settings()),
    ):
        with pytest.raises(UsageError, match=str(tmp_path / "file")) as caught:
            use()
        messages.add(str(caught.value))
    assert len(messages) == 1


def test_a_plan_refuses_another_dtype_as_training_does(train, task, tiny):
    folder = train().store.folder
    with pytest.raises(UsageError, match=f"{folder} .*-S dtype=float32"):
        plan_experts(folder.parent, task, tiny(dtype="bf16"), timed=0)


# several processes ----------------------------------------------------------------------------------------------------


class AtFirst(TrainingReporter):
    """Does something once, at the first report of a training."""

    def __init__(self, what):
        self._what = what
        self.done = []

    def step(self, done, values):
        self.done.append(done)
        if self._what is not None:
            what, self._what = self._what, None
            what()


def test_an_expert_that_another_process_finished_meanwhile_is_not_trained_again(train, task, tiny, tmp_path, every_row):
    root = tmp_path / "root"
    times = {}

    def another():
        train_experts(root, task, tiny(count=3), first=1)
        (folder,) = root.iterdir()
        times.update({number: path.stat().st_mtime_ns for number, path in expert_files(folder).items()})

    reporter = AtFirst(another)
    folder = train_experts(root, task, tiny(count=3), reporter=reporter)
    files = expert_files(folder)
    assert sorted(times) == [1, 2]
    assert {number: files[number].stat().st_mtime_ns for number in times} == times
    assert reporter.done[-1] == 8, "nothing but expert 0 was trained here"
    assert torch.equal(every_row(train(count=3)), every_row(train("alone", count=3)))


def test_half_written_files_of_others_are_left_alone_until_they_are_old(train, tmp_path):
    folder = train(count=1).store.folder
    names = (
        ".expert-00001.safetensors.partial",
        ".expert-00001.safetensors.77-0a0b0c0d.partial",
        ".settings.json.partial",
        ".tmp8hwVbK",  # safetensors' own
    )
    for name in names:
        (folder / name).write_text("half of")
    (entry,) = list_experts(tmp_path / "root")
    assert (entry.status, entry.count) == ("complete", 1)
    assert entry.bytes == sum(path.stat().st_size for path in folder.glob("[!.]*"))
    train(count=2)
    assert {path.name: path.read_text() for path in folder.glob(".*")} == dict.fromkeys(names, "half of")
    two_hours_ago = time.time() - 7200
    for name in names:
        os.utime(folder / name, (two_hours_ago, two_hours_ago))
    train(count=2)
    assert not list(folder.glob(".*"))


def test_a_folder_with_nothing_but_a_half_written_file_is_a_new_store(train, tmp_path):
    folder = train().store.folder
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / ".settings.json.77-0a0b0c0d.partial").write_text("half of")
    assert len(train()) == 2


def test_a_store_that_is_deleted_during_a_training_is_made_again(task, tiny, train, tmp_path, every_row):
    root = tmp_path / "root"
    train_experts(root, task, tiny(count=1))
    train_experts(root, task, tiny(count=2), reporter=AtFirst(lambda: shutil.rmtree(root)))
    (entry,) = list_experts(root)
    assert (entry.count, entry.wanted) == (1, 2)
    assert torch.equal(every_row(train(count=2)), every_row(train("alone", count=2)))


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "make room there"),
        (errno.EFBIG, "-S dtype=bf16"),
        (errno.EIO, "the same command goes on later"),
    ],
    ids=["full", "too large", "broken"],
)
@pytest.mark.parametrize("kind", [OSError, SafetensorError])
def test_what_to_do_where_nothing_can_be_written(tmp_path, kind, number, advice):
    # safetensors gives the number of the system's error in its text alone.
    text = f"Error while serializing: I/O error: {os.strerror(number)} (os error {number})"
    error = OSError(number, os.strerror(number)) if kind is OSError else SafetensorError(text)
    assert advice in str(cannot_write(tmp_path / "expert-00000.safetensors", error))


def test_an_expert_that_was_imported_during_a_training_is_kept(task, tiny, tmp_path):
    root = tmp_path / "root"
    buffer = tmp_path / "replay_buffer_0.pt"
    rng = torch.Generator().manual_seed(0)
    shapes = [parameter.shape for parameter in random_network(tiny(), task, rng).parameters()]
    torch.save([[[torch.randn(shape, generator=rng) for shape in shapes] for _ in range(3)]], buffer)
    train_experts(root, task, tiny(count=1), reporter=AtFirst(lambda: import_experts(root, task, tiny(), [buffer])))
    (path,) = expert_files(next(root.iterdir())).values()
    assert read_header(path).imported


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("losses", '["a"]'),
        ("epochs", '["x", 1, 2]'),
        ("epochs", "[2, 1, 0]"),
        ("epochs", "[]"),
        ("epochs", "[0, 1, true]"),
        ("seed", '"0"'),
        ("expert", "0.0"),
        ("settings", "[]"),
        ("parameters", "[]"),
        ("digests", "[]"),
        ("source", "["),
        ("key", "[" * 100_000),
        ("imported", "null"),
        ("dtype", '"bf16"'),
    ],
)
def test_a_header_that_contradicts_itself_or_its_types_is_damage(train, field, value):
    experts = train(count=1)
    (path,) = expert_files(experts.store.folder).values()
    with safe_open(path, framework="pt") as file:
        metadata, rows = file.metadata(), file.get_tensor("parameters")
    save_file({"parameters": rows}, path, {**metadata, field: value})
    with pytest.raises(ExpertError, match=str(path)):
        read_header(path)
    (entry,) = list_experts(experts.store.root)
    assert entry.status == "damaged"


def test_a_header_tells_where_an_expert_comes_from(train):
    header = read_header(expert_files(train().store.folder)[0])
    assert (header.imported, header.source) == (False, "trained")
