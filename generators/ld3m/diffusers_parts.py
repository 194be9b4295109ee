"""The parts of a prior folder, each from its configuration and its tensors.

Safetensors and JSON alone: nothing that is read can execute. Every tensor is accounted for: diffusers would fill a missing
one with random numbers and a warning, and would read pickled weights where an index of shards names them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.ld3m import ldm_folder as files
from ld3m_plugin.generators.ld3m.schedule import NoiseLevels, noise_levels
from ld3m_plugin.randomness import lent_to_global, stream

_WEIGHTS = "diffusion_pytorch_model.safetensors"
_FLOATS = ("F64", "F32", "F16", "BF16")
_CODE_BOOK = "quantize.embedding.weight"
#: What a configuration gives as one whole number above zero, where it gives anything.
_COUNTS = (
    *("in_channels", "out_channels", "latent_channels", "norm_num_groups", "cross_attention_dim"),
    *("num_vq_embeddings", "vq_embed_dim", "num_train_timesteps"),
)
#: Settings of a U-Net that wants to be told more than time and class embedding.
_OTHER_INPUTS = ("class_embed_type", "num_class_embeds", "encoder_hid_dim_type", "addition_embed_type")


def load_model(folder: Path, known: Sequence[str], device: torch.device | str = "cpu") -> Any:
    """The diffusers model of a part; its weights become float32, frozen, in evaluation mode.

    Args:
        known: names of the classes that it may be of.

    Raises:
        PriorError: it is missing, damaged, of another class, or its tensors do not fit its configuration.
    """
    import diffusers

    path = folder / "config.json"
    config = files.read_json(path)
    name = config.get("_class_name")
    if name not in known:
        raise PriorError(f"{path} is of a {name!r}; known here: {', '.join(known)}")
    _check_config(path, config)
    _check_tensors(folder, name)
    try:
        with lent_to_global(stream(0, "overwritten")), _silent_loading():  # modules draw weights before they are filled
            model, report = getattr(diffusers, name).from_pretrained(
                folder,
                use_safetensors=True,
                local_files_only=True,
                torch_dtype=torch.float32,
                low_cpu_mem_usage=False,
                output_loading_info=True,
            )
    except Exception as error:  # a configuration may say anything, and what its class raises then is anything too
        raise PriorError(f"{folder} is damaged or does not fit its configuration: {one_line(error)}") from error
    wrong = {key: report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys") if report.get(key)}
    if wrong:
        listed = "; ".join(f"{key.replace('_', ' ')}: {some(wrong[key])}" for key in wrong)
        raise PriorError(f"{folder}: the tensors are not those of its configuration ({listed})")
    for key, value in model.state_dict().items():
        _check_finite(folder, key, value)
    if name == "VQModel" and "scaling_factor" not in config:
        # Folders from before diffusers had the setting: their latents are not scaled, and its default is another model's.
        model.register_to_config(scaling_factor=1.0)
    return model.to(device).eval().requires_grad_(False)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a part: the one, or the shards that diffusers' index lists.

    Raises:
        PriorError: one of them is missing, or the index names anything else.
    """
    index, shards = folder / f"{_WEIGHTS}.index.json", [_WEIGHTS]
    if index.is_file():
        listed = files.read_json(index).get("weight_map")
        if not isinstance(listed, Mapping) or not listed or not all(isinstance(v, str) for v in listed.values()):
            raise PriorError(f"{index} is damaged: it has no weight_map of tensor names to files")
        shards = sorted(set(listed.values()))
    for shard in shards:
        if Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise PriorError(f"{index} names {shard!r}: shards are .safetensors files beside it, nothing else is read")
        if not (folder / shard).is_file():
            raise PriorError(
                f"{folder} has no {shard}: pickled weights (.bin, .pt) and files of other names are not read"
            )
    return [folder / shard for shard in shards]


def load_levels(folder: Path) -> NoiseLevels:
    """The noise levels that a scheduler's configuration describes.

    Raises:
        PriorError: see `load_scheduler`; or the levels are none that a model can be trained on.
    """
    path = folder / "scheduler_config.json"
    try:
        levels = noise_levels(load_scheduler(folder))
        both = torch.stack([levels.signal, levels.noise])
        if not ((both >= 0) & (both <= 1)).all() or levels.noise[-1] == 0:  # NaN is not in the range either
            raise ValueError("signal and noise must lie between 0 and 1, with some noise at the last timestep")
    except (PriorError, ValueError, IndexError) as error:
        line = one_line(error)
        raise PriorError(line if str(path) in line else f"{path} describes no noise levels: {line}") from error
    if levels.prediction == "epsilon" and not levels.signal[-1] > 0:
        raise PriorError(
            f"{path}: a model that predicts epsilon needs some signal at the last timestep, and there is none"
        )
    return levels


def load_scheduler(folder: Path) -> Any:
    """The diffusers scheduler whose configuration is in the folder.

    Raises:
        PriorError: the configuration is missing or damaged, or is not of diffusion by betas or of flow matching.
    """
    import diffusers

    path = folder / "scheduler_config.json"
    config = files.read_json(path)
    name = str(config.get("_class_name"))
    if not name.endswith("Scheduler"):
        raise PriorError(f"{path} names no scheduler in _class_name")
    flow = name.startswith("FlowMatch")
    if not flow and not config.get("trained_betas") and not {"beta_start", "beta_end", "beta_schedule"} <= set(config):
        raise PriorError(
            f"{path} is of a {name} without betas; one of diffusion by betas or of flow matching is needed"
        )
    _check_config(path, config)
    # Any scheduler of diffusion by betas describes the same noise levels by the same names.
    known = diffusers.FlowMatchEulerDiscreteScheduler if flow else diffusers.DDIMScheduler
    allowed = set(known.__init__.__annotations__) - {"return"}
    try:
        return known(**{key: value for key, value in config.items() if key in allowed})
    except Exception as error:  # as in `load_model`
        raise PriorError(f"{path} makes no {known.__name__}: {one_line(error)}") from error


def load_embedding(
    folder: Path, unet: Any, facts: files.PriorFacts, device: torch.device | str = "cpu"
) -> Tensor | None:
    """The class embedding (rows, d) of a conditional U-Net, float32; None for an unconditional one.

    Raises:
        PriorError: it is missing or damaged, or fits neither the U-Net nor `prior.json`.
    """
    path = folder / files.CLASS_EMBEDDING
    other = [key for key in _OTHER_INPUTS if unet.config.get(key) is not None]
    if other:
        raise PriorError(
            f"{folder / 'unet'} is conditioned by {', '.join(other)}: only class embeddings for cross-attention are read"
        )
    if type(unet).__name__ != "UNet2DConditionModel":
        if path.is_file():
            raise PriorError(f"{path} lies beside an unconditional U-Net: they are not of one model")
        return None
    if not path.is_file():
        raise PriorError(f"{folder} has no {files.CLASS_EMBEDDING}: text-conditioned models are not class-conditional")
    names = _float_tensors(path)
    if names != ["weight"]:
        raise PriorError(f"{path} must hold the tensor 'weight' alone, it has: {some(names)}")
    weight = load_file(path)["weight"].float()
    expected = unet.config.cross_attention_dim
    rows = len(facts.classes) + (facts.null_class is not None)
    if weight.ndim != 2 or weight.shape[1] != expected or (facts.classes and len(weight) != rows):
        raise PriorError(
            f"{path} has shape {tuple(weight.shape)}; ({rows if facts.classes else 'rows'}, {expected}) is needed"
        )
    if facts.null_class is not None and not len(facts.classes) <= facts.null_class < len(weight):
        raise PriorError(
            f"{folder / files.FACTS}: null_class = {facts.null_class} is not a row of the class embedding after those of the "
            f"{len(facts.classes)} classes; it has {len(weight)} rows, counted from 0"
        )
    _check_finite(path, "weight", weight)
    return weight.to(device)


def one_line(error: Exception, length: int = 300) -> str:
    """What the error says in one line, cut where it gets long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= length else text[:length].rstrip() + " ..."


def _check_config(path: Path, config: Mapping[str, Any]) -> None:
    # diffusers builds modules from some impossible values, which then fail far from here.
    for key in _COUNTS:
        value = config.get(key)
        if value is not None and not _is_count(value):
            raise PriorError(f"{path}: {key} = {value!r} must be a whole number above 0")
    size = config.get("sample_size")
    sides = size if isinstance(size, list) and len(size) == 2 else [size]
    if size is not None and not all(map(_is_count, sides)):
        raise PriorError(f"{path}: sample_size = {size!r} must be a whole number above 0, or two of them")
    if config.get("quantization_config") is not None:
        raise PriorError(f"{path} describes quantised weights: a prior of floating-point weights is needed")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _check_tensors(folder: Path, name: str) -> None:
    tensors = [tensor for path in weight_files(folder) for tensor in _float_tensors(path)]
    if name in ("AutoencoderKL", "VQModel") and (name == "VQModel") != (_CODE_BOOK in tensors):
        has = "a" if _CODE_BOOK in tensors else "no"
        raise PriorError(f"{folder}: config.json describes {name}, but the weights have {has} code book ({_CODE_BOOK})")


def _float_tensors(path: Path) -> list[str]:
    """Names of the tensors in a safetensors file; its length is checked against them."""
    try:
        with safe_open(path, framework="pt") as file:
            types = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise PriorError(f"{path} is damaged ({one_line(error)}): fetch or write it again") from error
    other = [f"{name} ({kind})" for name, kind in types.items() if kind not in _FLOATS]
    if other:
        raise PriorError(f"{path} holds tensors that are not floating-point numbers: {some(other)}")
    return list(types)


def _check_finite(path: Path, name: str, tensor: Tensor) -> None:
    if not tensor.isfinite().all():
        raise PriorError(f"{path}: tensor {name} has values that are not finite: fetch or write it again")


def some(names: Iterable[Any], count: int = 5) -> str:
    """The first `count` names in alphabetical order, and how many more there are."""
    listed = sorted(map(str, names))
    more = f" and {len(listed) - count} more" if len(listed) > count else ""
    return (", ".join(listed[:count]) or "none") + more


@contextmanager
def _silent_loading() -> Iterator[None]:
    """Without diffusers' log of weights that do not fit: they are an error here, which says it in one line."""
    logger = logging.getLogger("diffusers.models.modeling_utils")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
