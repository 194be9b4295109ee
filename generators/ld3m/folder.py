"""What a prior is on disk: a folder in diffusers' layout, safetensors and JSON alone.

    model_index.json               which class each part is, as diffusers' pipelines write it
    unet/ vae/ or vqvae/ scheduler/  config.json and diffusion_pytorch_model.safetensors
    class_embedding.safetensors    `weight` (rows, d): one row a class, and the null class; absent when unconditional
    prior.json                     class names and WordNet ids in row order, the null row, source, licence

A folder that diffusers or somebody else wrote may lack the last two: it is then an unconditional prior.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ld3m_plugin.errors import PriorError
from ld3m_plugin.storage import complete_folder, write_json, write_tensors

INDEX, FACTS, CLASS_EMBEDDING = "model_index.json", "prior.json", "class_embedding.safetensors"
#: Folders an autoencoder may be in: a prior has one of them.
AUTOENCODERS = ("vqvae", "vae")
_PARTS = ("unet", *AUTOENCODERS, "scheduler")
_FORMAT, _KIND = 1, "ldm"


@dataclass(frozen=True)
class PriorClass:
    """One class a prior was trained on."""

    name: str
    wordnet_id: str | None = None


@dataclass(frozen=True)
class PriorFacts:
    """What the tensors do not say.

    Attributes:
        classes: in the order of the rows of the class embedding; empty when unconditional or unknown.
        null_class: row of the class embedding that stands for "no class", or None.
        source: where the weights come from.
        licence: of the weights, or None when it is not stated.
    """

    classes: tuple[PriorClass, ...] = ()
    null_class: int | None = None
    source: str = "unknown"
    licence: str | None = None


def save_prior(
    out: Path,
    *,
    unet: Any,
    autoencoder: Any,
    scheduler: Any,
    facts: PriorFacts,
    class_embedding: Tensor | None = None,
    half: bool = False,
) -> None:
    """Write a prior folder, complete or not at all.

    Args:
        unet: a diffusers UNet2DModel or UNet2DConditionModel.
        autoencoder: a diffusers VQModel or AutoencoderKL.
        scheduler: a diffusers scheduler; its class and configuration are written.
        class_embedding: (rows, d), or None for an unconditional prior.
        half: store weights in half precision (they are read back into float32).
    """
    from diffusers import __version__

    part = autoencoder_part(type(autoencoder).__name__)
    with complete_folder(out) as folder:
        for name, model in (("unet", unet), (part, autoencoder)):
            (folder / name).mkdir()
            model.save_config(folder / name)
            tensors = {key: value.half() if half else value for key, value in model.state_dict().items()}
            write_tensors(folder / name / "diffusion_pytorch_model.safetensors", tensors, {"format": "pt"})
        scheduler.save_pretrained(folder / "scheduler")
        if class_embedding is not None:
            stored = class_embedding.half() if half else class_embedding
            write_tensors(folder / CLASS_EMBEDDING, {"weight": stored})
        parts = {"unet": unet, part: autoencoder, "scheduler": scheduler}
        index = {"_class_name": "LatentDiffusionPrior", "_diffusers_version": __version__}
        write_json(folder / INDEX, {**index, **{name: ["diffusers", type(p).__name__] for name, p in parts.items()}})
        write_json(folder / FACTS, {"format": _FORMAT, "kind": _KIND, **asdict(facts)})


def autoencoder_part(class_name: str) -> str:
    """The folder's name of an autoencoder, as diffusers' pipelines call it."""
    return "vqvae" if class_name == "VQModel" else "vae"


def read_facts(folder: Path) -> PriorFacts:
    """What `prior.json` says; without the file nothing is known.

    Raises:
        PriorError: the file is not what `save_prior` writes.
    """
    path = folder / FACTS
    if not path.exists():
        return PriorFacts()
    content = read_json(path)
    try:
        if content["format"] != _FORMAT:
            raise PriorError(f"{path} has format {content['format']!r}, this version reads {_FORMAT}")
        if content["kind"] != _KIND:
            raise PriorError(f"{path} is of a prior of kind {content['kind']!r}, not {_KIND!r}")
        null = content["null_class"]
        if null is not None and (not isinstance(null, int) or isinstance(null, bool)):
            raise ValueError(f"null_class {null!r} is not a row number")
        source, licence = _text(content, "source"), _text(content, "licence", optional=True)
        return PriorFacts(_classes(content["classes"]), null, source or "unknown", licence)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PriorError(f"{path} is damaged ({error!r}): write the prior again") from error


def _classes(listed: Any) -> tuple[PriorClass, ...]:
    if listed is not None and not isinstance(listed, list):
        raise ValueError("classes is not a list")
    return tuple(PriorClass(str(_text(row, "name")), _text(row, "wordnet_id", optional=True)) for row in listed or ())


def _text(content: Any, key: str, *, optional: bool = False) -> str | None:
    value = content.get(key) if optional else content[key]
    if isinstance(value, str) or (optional and value is None):
        return value
    raise ValueError(f"{key} {value!r} is not text")


def read_json(path: Path) -> Any:
    """The mapping in a JSON file.

    Raises:
        PriorError: it is missing or not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PriorError(f"{path} is missing: {path.parent} is not a complete prior folder") from error
    except (ValueError, OSError, RecursionError) as error:
        raise PriorError(f"{path} is not readable JSON ({error}): write the prior again") from error
    if not isinstance(content, Mapping):
        raise PriorError(f"{path} must hold a JSON object, not {type(content).__name__}")
    return content


def digest(folder: Path) -> str:
    """SHA-256 over the names and bytes of the files that make the prior, in the order of their names; reports do not count."""
    total = hashlib.sha256()
    inside = (path for part in _PARTS for path in (folder / part).glob("*") if path.suffix in (".json", ".safetensors"))
    files = [path for path in (*inside, folder / INDEX, folder / FACTS, folder / CLASS_EMBEDDING) if path.is_file()]
    for path in sorted(files, key=lambda path: path.relative_to(folder).as_posix()):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0")
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
