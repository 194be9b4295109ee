"""Exports, and the artefact itself, as the libraries open them that they are made for."""

import importlib
import warnings

import pytest

from ld3m_plugin.exports import export

pytestmark = pytest.mark.slow


def library(name):
    """Import a library, or skip; what it warns of while it is imported is its own business."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip(name, exc_type=ImportError)
        return importlib.import_module(name)


@pytest.fixture
def load_dataset(tmp_path, monkeypatch):
    """`datasets.load_dataset` without network, with a cache of its own; warnings of the library are not ours."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = library("datasets")

    def load(folder):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))

    return load


def check(read, exported_set, hard, same_picture):
    assert list(read) == ["train"]
    rows = read["train"]
    assert rows.features["label"].names == exported_set.class_names
    assert rows["label"][:] == hard.tolist()
    assert all(same_picture(rows[index]["image"], index) for index in range(len(hard)))
    if exported_set.labels.ndim == 2:
        assert rows["probabilities"][:] == exported_set.labels.tolist()


def test_datasets_opens_the_artefact(exported_set, hard, same_picture, load_dataset, tmp_path):
    exported_set.save(tmp_path / "set")
    check(load_dataset(tmp_path / "set"), exported_set, hard, same_picture)


def test_datasets_opens_parquet(exported_set, hard, same_picture, load_dataset, tmp_path):
    pytest.importorskip("pyarrow")
    check(load_dataset(export(exported_set, "hf", tmp_path / "out")), exported_set, hard, same_picture)


def test_webdataset_opens_the_shards(exported_set, hard, same_picture, tmp_path):
    webdataset = library("webdataset")
    out = export(exported_set, "webdataset", tmp_path / "out", per_shard=10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shards = webdataset.WebDataset(str(out / "set-{000000..000002}.tar"), shardshuffle=False)
        rows = list(shards.decode("pil").to_tuple("png", "cls", "json"))  # RGB, gray ones as well
    assert [label for _, label, _ in rows] == hard.tolist()
    assert [facts["class_name"] for _, _, facts in rows] == [exported_set.class_names[label] for label in hard]
    if exported_set.labels.ndim == 2:
        assert [facts["probabilities"] for _, _, facts in rows] == exported_set.labels.tolist()
    mode = "L" if exported_set.images.shape[1] == 1 else "RGB"
    assert all(same_picture(row[0].convert(mode), index) for index, row in enumerate(rows))
