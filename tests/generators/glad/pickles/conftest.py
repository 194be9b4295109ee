"""Official files read once, and files written as the official code writes them: with names that need not exist here."""

import collections
import pickle
import sys
import types
from pathlib import Path

import pytest
import torch

from ld3m_plugin.generators.glad.pickles.arrays import NumberArray
from ld3m_plugin.generators.glad.pickles.records import Record
from ld3m_plugin.generators.glad.pickles.storages import StoredTensor
from ld3m_plugin.generators.glad.pickles.unpickler import read_network_pickle

DATA = Path(__file__).parents[3] / "data"
SOURCE = "raise RuntimeError('source embedded in a network pickle was executed')"


@pytest.fixture
def golden():
    return lambda size: DATA / f"stylegan_xl_{size}.pkl"


@pytest.fixture
def entries(golden):
    """Entries of a golden file, which a test may change."""
    return lambda size=16: read_network_pickle(golden(size))


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write entries (records and all) the way the official code does, in any protocol."""
    module = types.ModuleType("torch_utils.persistence")

    def _reconstruct_persistent_obj(meta):
        raise RuntimeError("the official hook was imported")

    _reconstruct_persistent_obj.__module__ = module.__name__
    _reconstruct_persistent_obj.__qualname__ = "_reconstruct_persistent_obj"
    module._reconstruct_persistent_obj = _reconstruct_persistent_obj

    class Persistent:
        def __init__(self, record):
            self.record = record

        def __reduce__(self):
            meta = {"type": "class", "version": 6, "module_src": SOURCE, "class_name": self.record.class_name}
            return _reconstruct_persistent_obj, (meta | {"state": plain(self.record.state)},)

    def plain(value):
        if isinstance(value, Record) and value.class_name == "torch.nn.modules.sparse.Embedding":
            embedding = torch.nn.Embedding(value.state["num_embeddings"], value.state["embedding_dim"])
            embedding.weight.data.copy_(value.state["_parameters"]["weight"].load())
            return embedding
        if isinstance(value, Record):
            return Persistent(value)
        if isinstance(value, StoredTensor):
            return torch.nn.Parameter(value.load().clone())
        if isinstance(value, NumberArray):
            return value.values
        if isinstance(value, dict):
            return collections.OrderedDict((name, plain(item)) for name, item in value.items())
        return value

    def write_entries(content, protocol=4, name="network.pkl"):
        path = tmp_path / name
        with monkeypatch.context() as context:
            context.setitem(sys.modules, module.__name__, module)
            context.setitem(sys.modules, "torch_utils", types.ModuleType("torch_utils"))
            path.write_bytes(pickle.dumps(plain(dict(content)), protocol))
        return path

    return write_entries
