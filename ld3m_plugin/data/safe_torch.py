"""Read the files of `torch.save`, which are pickles, without running code in them."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ld3m_plugin.errors import HostError


def load_tensors(
    path: Path,
    error: type[HostError],
    *,
    what: str,
    needed_for: str,
    stand_ins: Sequence[Any] = (),
    mapped: bool = False,
) -> Any:
    """Read the tensors and plain containers in a file of `torch.save`, onto the CPU.

    Args:
        error: class of the errors to raise.
        what: a word for the file, such as "checkpoint".
        needed_for: its expected content, such as "a model's weights".
        stand_ins: further classes that the file may name; the modules in their names are not imported.
        mapped: map tensors from disk until they are used, where the format allows.

    Raises:
        HostError: of the class `error`: the file names other classes or functions, or is damaged.
    """
    try:
        with torch.serialization.safe_globals(list(stand_ins)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of pickles of other protocols
            mmap = mapped and zipfile.is_zipfile(path)  # the format before torch 1.6 cannot be mapped
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except MemoryError as problem:
        raise error(
            f"{path} needs more memory than there is: it is damaged, or too large for this machine"
        ) from problem
    except Exception as problem:  # a damaged pickle can make the unpickler raise nearly anything
        raise error(_one_line(path, problem, what, needed_for)) from problem


def _one_line(path: Path, problem: Exception, what: str, needed_for: str) -> str:
    trusted = f"Get the {what} from a source you trust"
    asked = re.search(r"(?:GLOBAL|class) ([\w.]+)", str(problem)) if "nsupported" in str(problem) else None
    if asked is not None:
        return f"{path} asks for {asked[1]}, which {needed_for} do not need: nothing in it was run. {trusted}"
    if isinstance(problem, pickle.UnpicklingError):
        return f"{path} is a pickle of something else than {needed_for}: nothing in it was run. {trusted}"
    reason = f"{type(problem).__name__}: {str(problem).strip()}".split("\n")[0]
    return f"{path} is not a readable {what} ({reason}): it is truncated or damaged, get it again"
