"""Read the parts of a prior folder, each from its configuration and its tensors.

Only safetensors and JSON are read, so nothing can execute. Every tensor is accounted for: diffusers fills a missing tensor with
random numbers and warns, and reads pickled weights if an index of shards names them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ld3m_plugin import errors
from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.ld3m import ldm_folder as files
from ld3m_plugin.generators.ld3m.model_settings import check_model_fields, class_name
from ld3m_plugin.generators.ld3m.schedule import NoiseLevels, noise_levels
from ld3m_plugin.generators.ld3m.scheduler_settings import OF_BETAS, OF_FLOWS, check_fields, followed, shifted
from ld3m_plugin.randomness import lent_to_global, stream
from ld3m_plugin.storage import open_tensors

_WEIGHTS = "diffusion_pytorch_model.safetensors"
_FLOATS = ("F64", "F32", "F16", "BF16")
_CODE_BOOK = "quantize.embedding.weight"
#: Settings that say how often something is built, also in lists.
_LAYERS = ("num_layers", "layers_per_block", "transformer_layers_per_block", "reverse_transformer_layers_per_block")
_MOST_TIMESTEPS = 1_000_000
_SLACK = 2**20  # numbers that are not stored, such as positions
#: Settings that must be a whole number above 0 if they are given.
_COUNTS = (
    *("in_channels", "out_channels", "latent_channels", "norm_num_groups", "cross_attention_dim"),
    *("num_vq_embeddings", "vq_embed_dim", "num_train_timesteps", "num_layers", "patch_size", "num_embeds_ada_norm"),
)

#: Settings that are added to a variance: a layer takes anything, and fails or gives NaN when it is used.
_SMALL = ("norm_eps",)


def load_model(folder: Path, known: Sequence[str], device: torch.device | str = "cpu") -> Any:
    """Load the diffusers model of a part: float32, frozen, in evaluation mode.

    Args:
        known: accepted class names.

    Raises:
        PriorError: it is missing, damaged, of another class, or its tensors do not fit its configuration.
    """
    import diffusers

    path = folder / "config.json"
    config = files.read_json(path)
    name = class_name(config)
    if name not in known:
        raise PriorError(f"{path}: _class_name is {name!r}; known: {', '.join(known)}")
    _check_config(path, config)
    check_model_fields(path, name, config)
    stored = _check_tensors(folder, name)
    _check_layers(path, config, len(stored))
    try:
        with lent_to_global(stream(0, "overwritten")), _silent_loading():  # modules draw random weights before loading
            _check_size(getattr(diffusers, name), config, sum(stored.values()))
            model, report = getattr(diffusers, name).from_pretrained(
                folder,
                use_safetensors=True,
                local_files_only=True,
                torch_dtype=torch.float32,
                low_cpu_mem_usage=False,
                output_loading_info=True,
            )
    except Exception as error:  # any setting may be wrong, and may raise anything
        raise PriorError(f"{folder} is damaged or does not fit its configuration: {one_line(error)}") from error
    wrong = [key for key in ("missing_keys", "unexpected_keys", "mismatched_keys") if report.get(key)]
    if wrong:
        listed = "; ".join(f"{key.replace('_', ' ')}: {some(report[key])}" for key in wrong)
        raise PriorError(f"{folder}: the tensors do not fit config.json ({listed})")
    for key, value in model.state_dict().items():
        _check_finite(folder, key, value)
    if name == "VQModel" and "scaling_factor" not in config:
        # Folders older than the setting do not scale latents; diffusers' default is that of Stable Diffusion.
        model.register_to_config(scaling_factor=1.0)
    return model.to(device).eval().requires_grad_(False)


def weight_files(folder: Path) -> list[Path]:
    """List the safetensors files of a part: one file, or the shards in diffusers' index.

    Raises:
        PriorError: a file is missing, or the index names a file of another kind or folder.
    """
    index, shards = folder / f"{_WEIGHTS}.index.json", [_WEIGHTS]
    if index.is_file():
        listed = files.read_json(index).get("weight_map")
        if not isinstance(listed, Mapping) or not listed or not all(isinstance(v, str) for v in listed.values()):
            raise PriorError(f"{index} is damaged: it has no weight_map of tensor names to files")
        shards = sorted(set(listed.values()))
    for shard in shards:
        if Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise PriorError(f"{index} names {shard!r}: a shard must be a .safetensors file in the same folder")
        if not (folder / shard).is_file():
            raise PriorError(
                f"{folder} has no {shard}: pickled weights (.bin, .pt) and files of other names are not read"
            )
    return [folder / shard for shard in shards]


def load_levels(folder: Path) -> NoiseLevels:
    """Read the noise levels of a prior from its scheduler's configuration.

    Raises:
        PriorError: see `load_scheduler`; or no model can be trained on these levels.
    """
    path = folder / "scheduler_config.json"
    scheduler = load_scheduler(folder)
    try:
        levels = noise_levels(scheduler)
        if levels.prediction == "v_prediction" and _is_continuous(folder):
            # EulerDiscreteScheduler: a quarter of log sigma, where sigma is noise over signal.
            levels = replace(levels, model_times=(levels.noise / levels.signal).log() / 4)
            if not levels.model_times.isfinite().all():
                raise PriorError("timestep_type = 'continuous' needs some signal at the last timestep")
        both = torch.stack([levels.signal, levels.noise])
        if not ((both >= 0) & (both <= 1)).all() or levels.noise[-1] == 0:  # false for NaN too
            raise PriorError("signal and noise must lie between 0 and 1, with some noise at the last timestep")
    except (PriorError, ValueError, IndexError) as error:
        raise PriorError(f"{path} does not describe valid noise levels: {one_line(error)}") from error
    if levels.prediction == "epsilon" and not levels.signal[-1] > 0:
        raise PriorError(f"{path}: the last timestep has no signal, which a model that predicts epsilon needs")
    return levels


def load_scheduler(folder: Path) -> Any:
    """Build the diffusers scheduler whose configuration is in the folder.

    Raises:
        PriorError: the configuration is missing or damaged, or has neither betas nor flow matching.
    """
    import diffusers

    path = folder / "scheduler_config.json"
    config = files.read_json(path)
    name = str(config.get("_class_name"))
    if not name.endswith("Scheduler"):
        raise PriorError(f"{path}: _class_name must name a diffusers scheduler")
    flow = name.startswith("FlowMatch")
    if not flow and not config.get("trained_betas") and not {"beta_start", "beta_end", "beta_schedule"} <= set(config):
        raise PriorError(f"{path}: this {name} has no betas; use a scheduler with betas or of flow matching")
    if name.removeprefix("Flax").removesuffix("Scheduler") not in OF_BETAS + OF_FLOWS:
        raise PriorError(f"{path}: {name} is not supported: use a DDIM, DDPM or FlowMatch scheduler")
    _check_config(path, config)
    check_fields(path, name, config)
    config, flow = followed(path, name, config)
    # All schedulers with betas describe the same noise levels by the same names.
    known = diffusers.FlowMatchEulerDiscreteScheduler if flow else diffusers.DDIMScheduler
    allowed = set(known.__init__.__annotations__) - {"return"}
    try:
        scheduler = known(**{key: value for key, value in config.items() if key in allowed})
        return shifted(scheduler, config.get("snr_shift_scale"))
    except Exception as error:  # as in `load_model`
        raise PriorError(f"{path} does not fit {known.__name__}: {one_line(error)}") from error


def _is_continuous(folder: Path) -> bool:
    return bool(files.read_json(folder / "scheduler_config.json").get("timestep_type") == "continuous")


def load_embedding(
    folder: Path, unet: Any, facts: files.PriorFacts, device: torch.device | str = "cpu"
) -> Tensor | None:
    """Read the class embedding (rows, d) of a conditional U-Net, float32; None for an unconditional U-Net.

    Raises:
        PriorError: it is missing or damaged, or fits neither the U-Net nor `prior.json`.
    """
    path = folder / files.CLASS_EMBEDDING
    if type(unet).__name__ != "UNet2DConditionModel":
        if path.is_file():
            raise PriorError(f"{path} does not belong to the U-Net beside it, which is unconditional")
        return None
    if not path.is_file():
        raise PriorError(
            f"{folder} has no {files.CLASS_EMBEDDING}: models that are conditioned on text are not supported"
        )
    names = _float_tensors(path)
    if list(names) != ["weight"]:
        raise PriorError(f"{path} must hold only the tensor 'weight', it has: {some(names)}")
    weight = load_file(path)["weight"].float()
    expected = unet.config.cross_attention_dim
    rows = len(facts.classes) + (facts.null_class is not None)
    if weight.ndim != 2 or weight.shape[1] != expected or (facts.classes and len(weight) != rows):
        raise PriorError(
            f"{path} has shape {tuple(weight.shape)}, expected ({rows if facts.classes else 'rows'}, {expected})"
        )
    if facts.null_class is not None and not len(facts.classes) <= facts.null_class < len(weight):
        raise PriorError(
            f"{folder / files.FACTS}: null_class = {facts.null_class} must be a row of the class embedding after the "
            f"{len(facts.classes)} classes; it has {len(weight)} rows, counted from 0"
        )
    _check_finite(path, "weight", weight)
    return weight.to(device)


def one_line(error: Exception, length: int = 300) -> str:
    """The message of an error as one line of about `length` characters."""
    return errors.one_line(str(error).strip() or type(error).__name__, length)


def _check_config(path: Path, config: Mapping[str, Any]) -> None:
    # diffusers builds modules from some impossible values, and they fail much later.
    for key in (*_COUNTS, "sample_size"):
        value = config.get(key, 1)
        sides = value if key == "sample_size" and isinstance(value, list) and len(value) == 2 else [value]
        if value is not None and not all(type(side) is int and side > 0 for side in sides):
            raise PriorError(f"{path}: {key} = {value!r} must be a whole number above 0")
    for key in _SMALL:
        value = config.get(key, 1e-5)
        if type(value) not in (int, float) or not 0 < value < 1:
            raise PriorError(f"{path}: {key} = {errors.one_line(repr(value), 60)} must be a number between 0 and 1")
    if (config.get("num_train_timesteps") or 0) > _MOST_TIMESTEPS:
        raise PriorError(
            f"{path}: num_train_timesteps = {config['num_train_timesteps']} is more than {_MOST_TIMESTEPS:,}"
        )
    if config.get("quantization_config") is not None:
        raise PriorError(f"{path} describes quantised weights: use a prior with floating-point weights")


def _check_tensors(folder: Path, name: str) -> dict[str, int]:
    """Check the kinds of the tensors of a part; return how many numbers each has."""
    tensors = {tensor: size for path in weight_files(folder) for tensor, size in _float_tensors(path).items()}
    if name in ("AutoencoderKL", "VQModel") and (name == "VQModel") != (_CODE_BOOK in tensors):
        has = "a" if _CODE_BOOK in tensors else "no"
        raise PriorError(f"{folder}: config.json describes {name}, but the weights have {has} code book ({_CODE_BOOK})")
    return tensors


def _check_layers(path: Path, config: Mapping[str, Any], tensors: int) -> None:
    """Reject more layers than tensors: building them would take hours."""
    for key in _LAYERS:
        left = [config.get(key)]
        while left:
            value = left.pop()
            if isinstance(value, list):
                left += value
            elif isinstance(value, int | float) and value > tensors:
                raise PriorError(f"{path}: {key} = {value!r} is more than the {tensors} tensors of the weights")


def _check_size(kind: Any, config: Mapping[str, Any], stored: int) -> None:
    """Reject a model that is much larger than its weights, before memory is taken for it."""
    with torch.device("meta"):
        model = kind.from_config(config)
    described = sum(tensor.numel() for part in (model.parameters(), model.buffers()) for tensor in part)
    if described > 2 * stored + _SLACK:
        raise ValueError(f"config.json describes a model of {described:,} numbers, and the weights have {stored:,}")


def _float_tensors(path: Path) -> dict[str, int]:
    """How many numbers each tensor of a safetensors file has; rejects a damaged file and tensors that are not floating point."""
    try:
        with open_tensors(path) as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            types = {name: found.get_dtype() for name, found in slices.items()}
            sizes = {name: math.prod(found.get_shape()) for name, found in slices.items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise PriorError(f"{path} is damaged ({one_line(error)}): download or write it again") from error
    other = [f"{name} ({kind})" for name, kind in types.items() if kind not in _FLOATS]
    if other:
        raise PriorError(f"{path} has tensors that are not floating point: {some(other)}")
    return sizes


def _check_finite(path: Path, name: str, tensor: Tensor) -> None:
    if not tensor.isfinite().all():
        raise PriorError(f"{path}: tensor {name} has values that are not finite: download or write it again")


def some(names: Iterable[Any], count: int = 5) -> str:
    """The first `count` names in alphabetical order, and how many more there are."""
    listed = sorted(map(str, names))
    more = f" and {len(listed) - count} more" if len(listed) > count else ""
    return (", ".join(listed[:count]) or "none") + more


@contextmanager
def _silent_loading() -> Iterator[None]:
    """Silence diffusers' log about weights and settings that do not fit: `load_model` raises one line about them."""
    loggers = [logging.getLogger(f"diffusers.{name}") for name in ("models.modeling_utils", "configuration_utils")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
