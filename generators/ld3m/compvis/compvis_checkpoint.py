"""Reads a checkpoint file without running anything in it."""

from __future__ import annotations

import collections
import typing
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ld3m_plugin.data.safe_torch import load_tensors
from ld3m_plugin.errors import PriorError
from ld3m_plugin.storage import read_tensors


class _Inert:
    """Stand-in for a class of a trainer in a checkpoint: accepts any arguments, keeps nothing, does nothing."""

    def __new__(cls, *_arguments: object, **_named: object) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *_arguments: object, **_named: object) -> None: ...

    def __setstate__(self, _state: object) -> None: ...


#: Classes of PyTorch Lightning (keys of the callbacks' states) and of OmegaConf (hyper-parameters) in published checkpoints. They
#: are never imported.
_LEFTOVERS = (
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
    "pytorch_lightning.callbacks.lr_monitor.LearningRateMonitor",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.nodes.AnyNode",
)
#: Classes that OmegaConf's metadata refer to.
_PLAIN = (bool, dict, float, int, list, str, tuple, collections.defaultdict, typing.Any)


def _stand_in(path: str) -> type:
    module, name = path.rsplit(".", 1)
    return type(name, (_Inert,), {"__module__": module, "__qualname__": name})


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint by name, on the CPU: `state_dict` of a .ckpt or .pt file, or a .safetensors file.

    Raises:
        PriorError: the file is missing, damaged, asks for code, or holds no tensors.
    """
    if not path.is_file():
        raise PriorError(f"{path} is not a file: give the file of the checkpoint")
    if path.suffix == ".safetensors":
        content, _ = read_tensors(path, PriorError)
    else:
        known = (*_PLAIN, *map(_stand_in, _LEFTOVERS))
        content = load_tensors(path, PriorError, what="checkpoint", needed_for="a model's weights", stand_ins=known)
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not state:
        raise PriorError(f"{path} has no state_dict: give the checkpoint of a model")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise PriorError(f"{path}: {name!r} in the state_dict is of type {type(value).__name__}, not a tensor")
    return dict(state)
