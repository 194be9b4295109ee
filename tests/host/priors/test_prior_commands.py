"""`ld3m prior`, with a kind of prior that a third party brings: trained, stopped, converted, described, and refused."""

import json
import re

import pytest

from ld3m_plugin.errors import PluginFailedError, PriorError, UsageError
from ld3m_plugin.priors.service import convert_prior, describe_prior, train_prior
from ld3m_plugin.registry import build_registry, use_registry
from ld3m_plugin.testing import tiny_task

TRAIN = ["prior", "train", "means", "--data", "tiny", "--out", "prior"]


def there(call, *args, registry, **keywords):
    """What `call` gives where names are looked up in `registry`."""
    with use_registry(registry):
        return call(*args, **keywords)


def registry_now():
    """The built-ins and what the site has now."""
    return build_registry(environ={})


def means_of(folder):
    return json.loads((folder / "means.json").read_text())["means"]


def here(tmp_path):
    return {path.name for path in tmp_path.iterdir()} - {"site", "data was read"}


# train ----------------------------------------------------------------------------------------------------------------


def test_train_writes_a_prior_and_says_where(family, ld3m, tmp_path):
    outcome = ld3m(*TRAIN, "-S", "steps=5", "--seed", "7", "--device", "cpu")
    assert outcome.code == 0, outcome.err
    assert outcome.out == "prior: prior (`ld3m prior info prior` describes it)\n"
    assert "data: random images for tests" in outcome.err
    assert "training a prior of kind 'means' on cpu, folder prior" in outcome.err
    assert "device cpu" in outcome.err
    assert len(means_of(tmp_path / "prior")) == 5
    assert json.loads((tmp_path / "prior" / "means.json").read_text())["seed"] == 7
    assert here(tmp_path) == {"prior"}


def test_the_data_is_read_with_its_options(family, ld3m, tmp_path):
    assert ld3m(*TRAIN, "-D", "image_size=12").code == 0
    there(train_prior, "means", tiny_task(image_size=12), tmp_path / "same", registry=registry_now())
    assert means_of(tmp_path / "prior") == means_of(tmp_path / "same")


REFUSED = {
    "kind": (["prior", "train", "meens", "--out", "prior"], "unknown prior 'meens': did you mean 'means'"),
    "option": ([*TRAIN, "-S", "stepz=1"], "training of prior 'means' has no option 'stepz'; did you mean 'steps'"),
    "value": ([*TRAIN, "-S", "steps=0"], "training of prior 'means': steps = 0: "),
    "no assignment": ([*TRAIN, "-S", "steps"], "'steps' is not an assignment: write key=value"),
    "option of the data": ([*TRAIN, "-D", "device=cpu"], "data set 'tiny' has no option 'device'"),
    "out without a name": ([*TRAIN[:-1], "."], "error: . is not the name of a folder"),
    "out above": ([*TRAIN[:-1], ".."], "error: .. is not the name of a folder"),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_one_line_before_the_data_is_read(family, ld3m, tmp_path, arguments, message):
    outcome = ld3m(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.error
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "fashion-mnits"], "unknown dataset 'fashion-mnits': did you mean 'fashion-mnist'"),
        (["--device", "gpu"], "device 'gpu' cannot be used here"),
    ],
    ids=["data set", "device"],
)
def test_data_and_device_are_checked_as_in_a_run(family, ld3m, tmp_path, arguments, message):
    outcome = ld3m(*TRAIN, *arguments)
    assert outcome.code == 2
    assert message in outcome.error
    assert here(tmp_path) == set()


@pytest.mark.parametrize(
    ("end", "message", "code"),
    [("error", "prior went wrong: try again", 1), ("memory", "tried to allocate 9 GiB", 4)],
)
def test_a_training_that_fails_is_one_line_and_goes_on(family, ld3m, tmp_path, end, message, code):
    outcome = ld3m(*TRAIN, "-S", f"end={end}")
    assert outcome.code == code
    assert message in outcome.error
    assert ld3m(*TRAIN).code == 0
    assert here(tmp_path) == {"prior"}


def test_out_of_memory_says_what_to_change(family, ld3m):
    assert (
        "choose a smaller batch or model with -S (`ld3m plugins show means`)" in ld3m(*TRAIN, "-S", "end=memory").error
    )


def goes_on(ld3m, tmp_path, *arguments):
    """Run the same command again; it must end as a training without a stop."""
    assert len(json.loads((tmp_path / "prior" / "state.json").read_text())) == 2
    again = ld3m(*TRAIN, *arguments)
    assert again.code == 0, again.err
    assert "means: 3 steps, 2 of them made before" in again.err
    there(train_prior, "means", tiny_task(image_size=8), tmp_path / "straight", registry=registry_now())
    assert means_of(tmp_path / "prior") == means_of(tmp_path / "straight")
    assert here(tmp_path) == {"prior", "straight"}


def test_a_training_that_ctrl_c_stops_goes_on(family, ld3m, tmp_path):
    assert ld3m(*TRAIN, "-S", "end=ctrl-c").code == 130
    goes_on(ld3m, tmp_path, "-S", "end=ctrl-c")


@pytest.mark.slow
@pytest.mark.parametrize(("end", "code"), [("ctrl-c", 130), ("sigterm", 130), ("killed", 9)])
def test_a_stopped_training_goes_on_with_the_same_command(family, new_process, ld3m, tmp_path, end, code):
    stopped = new_process("-m", "ld3m_plugin", *TRAIN, "-S", f"end={end}", site=family)
    assert (stopped.returncode, stopped.stdout) == (code, ""), stopped.stderr
    if code == 130:
        assert stopped.stderr.splitlines()[-1] == "stopped; the same command goes on"
        assert "Traceback" not in stopped.stderr
    goes_on(ld3m, tmp_path, "-S", f"end={end}")


@pytest.mark.parametrize("content", ["a file", "a folder", "a finished prior", "a training of another kind"])
def test_what_is_there_is_refused_and_kept(family, greedy, ld3m, tmp_path, content):
    out = tmp_path / "prior"
    if content == "a file":
        out.write_text("years of work")
    elif content == "a folder":
        out.mkdir()
        (out / "thesis.txt").write_text("years of work")
    elif content == "a finished prior":
        assert ld3m(*TRAIN).code == 0
    else:
        family.add("ld3m-greedy", {"greedy": greedy})
        assert ld3m("prior", "train", "greedy", *TRAIN[3:], "-S", "end=error").code == 1
    before = contents(tmp_path)
    outcome = ld3m(*TRAIN)
    assert outcome.code == 2
    assert "prior is not empty" in outcome.error
    assert "--out" in outcome.error
    assert contents(tmp_path) == before


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and "site" not in path.relative_to(folder).parts)
    return {str(path): path.read_bytes() for path in files}


def test_a_training_that_failed_before_it_wrote_leaves_nothing(family, tmp_path):
    with pytest.raises(PluginFailedError, match=r"prior 'means' of ld3m-family 1\.0 failed in train: AssertionError"):
        there(train_prior, "means", tiny_task(test=0), tmp_path / "deep" / "prior", registry=registry_now())
    assert not (tmp_path / "deep").exists()


# convert --------------------------------------------------------------------------------------------------------------


def test_convert_finds_the_kind_and_sets_its_options(family, ld3m, tmp_path, published):
    outcome = ld3m("prior", "convert", published, "prior", "-S", "scale=3")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == "prior of kind means: prior (`ld3m prior info prior` describes it)\n"
    assert means_of(tmp_path / "prior") == [1.5, 6.0]
    assert here(tmp_path) == {"prior", "published.means"}


def test_convert_takes_an_empty_folder_and_makes_the_ones_above(family, ld3m, tmp_path, published):
    (tmp_path / "empty").mkdir()
    for out in ("empty", "new/and/deep"):
        assert ld3m("prior", "convert", published, out).code == 0
        assert means_of(tmp_path / out) == [0.5, 2.0]


def test_a_file_of_no_kind_or_of_several_asks_for_kind(family, greedy, ld3m, tmp_path, published):
    (tmp_path / "model.bin").write_text("MEANS 4")
    nobodys = ld3m("prior", "convert", "model.bin", "prior")
    assert nobodys.code == 1
    assert re.search(r"no kind of prior recognises model.bin: name one with --kind \(known: .*means\)$", nobodys.error)
    family.add("ld3m-greedy", {"greedy": greedy})
    several = ld3m("prior", "convert", published, "prior")
    assert several.code == 1
    assert re.search(
        r"published.means is recognised by (means and greedy|greedy and means): choose with --kind", several.error
    )
    assert not (tmp_path / "prior").exists()
    assert ld3m("prior", "convert", "model.bin", "prior", "--kind", "means").code == 0
    assert means_of(tmp_path / "prior") == [4.0]


def test_a_kind_that_raises_or_does_not_import_stops_no_other(family, greedy, ld3m, tmp_path, published):
    broken = greedy.replace('"greedy", Greedy', '"raises", Raises').replace(
        "(register):", "(register):\n    register('late', 'no:No')"
    )
    family.add("ld3m-broken", {"broken": broken})
    assert ld3m("prior", "convert", published, "prior").code == 0
    (tmp_path / "model.bin").write_text("MEANS 4")
    error = ld3m("prior", "info", "model.bin").error
    assert "prior 'late' (plugin 'broken' of ld3m-broken 1.0) does not import: ModuleNotFoundError" in error
    assert error.endswith("raises raised ValueError: not even a path")


CONVERT_REFUSED = {
    "missing": (["nowhere.means", "prior"], 2, "nowhere.means does not exist"),
    "kind": (["published.means", "prior", "--kind", "meens"], 2, "unknown prior 'meens': did you mean 'means'"),
    "option": (
        ["published.means", "prior", "-S", "scael=2"],
        2,
        "conversion to prior 'means' has no option 'scael'; did",
    ),
    "value": (["published.means", "prior", "-S", "scale=0"], 2, "conversion to prior 'means': scale = 0"),
    "onto itself": (["published.means", "published.means"], 2, "published.means is not empty: choose another folder"),
    "not empty": (["published.means", "full"], 2, "full is not empty: choose another folder"),
    "no name": (["published.means", "."], 2, ". is not the name of a folder"),
    "damaged": (["damaged.means", "prior"], 1, "damaged.means is damaged: fetch it again"),
}


@pytest.mark.parametrize(("arguments", "code", "message"), CONVERT_REFUSED.values(), ids=CONVERT_REFUSED)
def test_convert_refuses_in_one_line_and_changes_nothing(family, ld3m, tmp_path, published, arguments, code, message):
    (tmp_path / "damaged.means").write_text("MEANS 1 ?")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    before = contents(tmp_path)
    outcome = ld3m("prior", "convert", *arguments)
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.error.startswith(f"error: {message}")
    assert contents(tmp_path) == before
    assert not (tmp_path / "prior").exists()


def test_a_prior_in_the_place_of_a_deleted_training_is_not_trained_over(family, tmp_path, published):
    registry = registry_now()
    with pytest.raises(PriorError, match="went wrong"):
        there(train_prior, "means", tiny_task(), tmp_path / "prior", {"end": "error"}, registry=registry)
    (tmp_path / "prior" / "state.json").unlink()
    there(convert_prior, published, tmp_path / "prior", registry=registry)
    with pytest.raises(UsageError, match="not empty"):
        there(train_prior, "means", tiny_task(), tmp_path / "prior", registry=registry)
    assert there(describe_prior, tmp_path / "prior", registry=registry)["all means"] == "0.5\n2.0"


# info and help --------------------------------------------------------------------------------------------------------


def test_info_is_aligned_text_or_json(family, ld3m, published):
    assert ld3m("prior", "convert", published, "prior").code == 0
    text = ld3m("prior", "info", "prior")
    assert (text.code, text.err) == (0, "")
    assert text.out == "kind       means\nsteps      2\nall means  0.5\n           2.0\n"
    shown = ld3m("prior", "info", "prior", "--json")
    assert list(json.loads(shown.out).items()) == [("kind", "means"), ("steps", "2"), ("all means", "0.5\n2.0")]


def test_info_of_what_a_kind_cannot_describe_is_one_line(family, ld3m, published, tmp_path):
    assert ld3m("prior", "info", "nowhere").error == "error: nowhere does not exist: name the file or folder of a prior"
    (tmp_path / "empty").mkdir()
    assert "no kind of prior recognises empty" in ld3m("prior", "info", "empty").error
    outcome = ld3m("prior", "info", "empty", "--kind", "means")
    assert (outcome.code, outcome.error) == (1, "error: empty has no means.json: it is no prior of means")


def test_plugins_show_lists_the_options_of_both_commands(family, ld3m):
    text = ld3m("plugins", "show", "means").out
    training, conversion = text.split("ld3m prior convert:\n")
    assert training.startswith(
        "means (prior, plugin 'family' of ld3m-family 1.0)\n  Mean pixels.\n\n  ld3m prior train:\n"
    )
    assert "  steps: int, >= 1 = 3\n      batches of 4 images\n" in training
    assert conversion == "  scale: float, > 0 = 1.0\n      factor on every mean\n"
    (entry,) = json.loads(ld3m("plugins", "show", "means", "--json").out)
    assert [option["name"] for option in entry["options"]] == ["steps", "end"]
    assert [option["name"] for option in entry["conversion_options"]] == ["scale"]


@pytest.mark.parametrize("command", [[], ["train"], ["convert"], ["info"]], ids=" ".join)
def test_help_imports_neither_torch_nor_a_kind(family, new_process, command):
    program = f"""
import sys
sys.argv = ["ld3m", "prior", *{command!r}, "--help"]
from ld3m_plugin.cli import main
try:
    main()
except SystemExit as left:
    assert not left.code, left.code
print("IMPORTED", sorted({{"torch", "numpy", "yaml", "family"}} & set(sys.modules)))
"""
    done = new_process("-c", program)
    assert done.stdout.splitlines()[-1] == "IMPORTED []", done.stderr
    if command in (["train"], ["convert"]):
        assert "ld3m plugins show KIND" in " ".join(done.stdout.split())


def test_a_prior_that_goes_by_a_name_is_described_by_it(ld3m):
    result = ld3m("prior", "info", "embedded")
    assert result.code == 0
    assert "UNet2DConditionModel" in result.out
