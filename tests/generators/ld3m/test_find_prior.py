"""Finding a prior: shipped, in a folder, in the hub's cache. Neither finding nor loading prints anything."""

import os
import shutil
from pathlib import Path

import pytest

from ld3m_plugin.errors import InvalidOptionError, PriorError, visible
from ld3m_plugin.generators.ld3m.ldm_folder import digest
from ld3m_plugin.generators.ld3m.ldm_prior import EMBEDDED, find_prior, load_prior

UNET = "unet/diffusion_pytorch_model.safetensors"


def test_a_folder_named_like_a_hub_id_wins(tmp_path, monkeypatch):
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert find_prior("owner/name") == Path("owner/name")
    assert find_prior("embedded") == EMBEDDED / "fashion-mnist"


def test_a_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "prior").mkdir()
    assert find_prior("~/prior") == tmp_path / "prior"


@pytest.mark.parametrize("name", ["prior", "a/b/c", "./prior", "/a", "~nobody-has-this-name/prior", "x" * 5000, "\0"])
def test_a_prior_that_is_nowhere_is_one_line(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PriorError) as caught:
        find_prior(name)
    assert "\n" not in str(caught.value)
    assert visible(name) in str(caught.value)


@pytest.mark.parametrize("name", ["model.ckpt", "owner/model.ckpt"])
def test_a_checkpoint_is_to_be_converted_first(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner").mkdir()
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(PriorError, match=f"ld3m prior convert {name} FOLDER"):
        load_prior(find_prior(name))


def test_a_revision_of_a_folder_here_is_refused(priors):
    with pytest.raises(InvalidOptionError, match="revision 'main'"):
        find_prior(str(priors()), "main")


COMMIT = "0123456789abcdef0123456789abcdef01234567"
FIND = """
import sys
from ld3m_plugin.errors import HostError
from ld3m_plugin.generators.ld3m.ldm_folder import digest
from ld3m_plugin.generators.ld3m.ldm_prior import find_prior, load_prior
for name in sys.argv[1:]:
    try:
        folder = find_prior(*name.split("@"))
        load_prior(folder)
        print(folder, digest(folder))
    except HostError as error:
        print(type(error).__name__, error)
"""


@pytest.fixture
def cached(priors, tmp_path):
    """A prior in the hub's cache: blobs by their hash, links to them in a snapshot of a commit, names of commits."""
    cache = tmp_path / "models--owner--name"
    snapshot = cache / "snapshots" / COMMIT
    for number, path in enumerate(path for path in priors().rglob("*") if path.is_file()):
        blob, link = cache / "blobs" / f"{number:040x}", snapshot / path.relative_to(priors())
        blob.parent.mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, blob)
        link.symlink_to(os.path.relpath(blob, link.parent))
    (cache / "refs").mkdir()
    for name in ("main", "v1"):
        (cache / "refs" / name).write_text(COMMIT)
    return snapshot


def test_the_hubs_cache_comes_first(cached, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert find_prior("owner/name") == find_prior("owner/name", "v1") == cached


@pytest.mark.slow
def test_the_hubs_cache_is_read_offline(priors, tmp_path, cached, new_process):
    snapshot, cache = cached, cached.parents[1]
    stopped = shutil.copytree(cache, tmp_path / "models--owner--stopped", symlinks=True)
    (stopped / "snapshots" / COMMIT / UNET).unlink()
    names = ["owner/name", "owner/name@v1", f"owner/name@{COMMIT}"]
    missing = ["owner/name@v2", "owner/nowhere", "no owner/-name-", "owner/stopped"]
    done = new_process("-c", FIND, *names, *missing, HF_HUB_CACHE=str(tmp_path), HF_HUB_OFFLINE="1")
    lines = done.stdout.splitlines()
    assert lines[:3] == [f"{snapshot} {digest(priors())}"] * 3
    assert len(lines) == len(names) + len(missing), done.stdout
    for name, line in zip(missing[:3], lines[3:6], strict=True):
        asked = name.split("@")[0]
        assert line.startswith("PriorError "), line
        assert repr(asked) in line
    assert lines[6].startswith("PriorError ")  # the client's versions differ in what they give offline
    assert done.stderr == ""


def test_loading_prints_nothing(priors, capfd):
    load_prior(priors())
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_neither_loading_nor_a_refusal_prints_anything(priors, copied, edit_tensors, new_process):
    folder = copied()
    edit_tensors(folder / UNET, lambda tensors: tensors.update(other=tensors.pop("conv_in.weight")))
    named_otherwise = shutil.copytree(priors(), folder.parent / "variant")
    (named_otherwise / UNET).rename(named_otherwise / "unet" / "model.safetensors")
    good = [priors(), priors(vq=True), priors(conditional=False), priors(flow=True)]
    bad = [folder, named_otherwise]
    done = new_process("-c", FIND, *good, *bad)
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [*map(str, good), "PriorError", "PriorError"]
    assert done.stderr == ""
