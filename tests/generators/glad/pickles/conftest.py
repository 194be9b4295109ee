"""Official files read once, and files written as the official code writes them: with names that need not exist here."""

import collections
import io
import pickle
import sys
import types
import warnings
from pathlib import Path

import numpy
import pytest
import torch

from ld3m_plugin.generators.glad.pickles.stand_ins import Record, read_network_pickle
from ld3m_plugin.generators.glad.pickles.values import StoredTensor, number_of, read_storage

DATA = Path(__file__).parents[3] / "data"
SOURCE = "raise RuntimeError('source embedded in a network pickle was executed')"


def storage_record(values):
    """Record of a storage as a file has it."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(values.flatten().clone().storage(), stream, _use_new_zipfile_serialization=False)
    return Record("torch.storage._load_from_bytes", arguments=(stream.getvalue(),))


def tensor_record(values, storage=None, **changed):
    """Record of a tensor as a file has it; `shape`, `stride` and `offset` may be false."""
    values = values.contiguous()
    view = {"offset": 0, "shape": tuple(values.shape), "stride": values.stride()} | changed
    arguments = (storage or storage_record(values), *view.values(), False, {})
    return Record("torch._utils._rebuild_tensor_v2", arguments=arguments)


def array_record(values):
    """Record of a numpy array as a file has it."""
    dtype = Record("numpy.dtype", (3, "<", None, None, None, -1, -1, 0), (values.dtype.str[1:], False, True))
    state = (1, values.shape, dtype, False, values.tobytes())
    return Record("numpy._core.multiarray._reconstruct", state)


def loaded(record):
    """Values of a tensor's record."""
    tensor = StoredTensor.of(record)
    return tensor.view(read_storage(tensor.storage))


@pytest.fixture
def as_record():
    """Record of a tensor, of a numpy array, or of the values of another tensor's record after `change`."""

    def make(value, change=None, **changed):
        if isinstance(value, numpy.ndarray):
            return array_record(value)
        value = loaded(value) if isinstance(value, Record) else value
        return tensor_record(change(value) if change else value, **changed)

    return make


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
            embedding.weight.data.copy_(loaded(value.state["_parameters"]["weight"]))
            return embedding
        if isinstance(value, Record) and value.class_name.startswith("torch._utils."):
            return torch.nn.Parameter(loaded(value).clone())
        if isinstance(value, Record) and value.class_name.endswith("multiarray._reconstruct"):
            return numpy.full(value.state[1], number_of(value))
        if isinstance(value, Record) and value.class_name.endswith("multiarray.scalar"):
            return numpy.float64(number_of(value))
        if isinstance(value, Record):
            return Persistent(value)
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
