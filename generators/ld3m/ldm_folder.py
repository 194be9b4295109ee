"""Layout of a latent diffusion prior on disk: a diffusers folder of safetensors and JSON files.

    model_index.json               class of each part, as diffusers' pipelines write it
    unet/ or transformer/            config.json and diffusion_pytorch_model.safetensors
    vae/ or vqvae/, scheduler/
    class_embedding.safetensors    `weight` (rows, d): one row a class, and the null class; absent when unconditional
    prior.json                     class names and WordNet ids in row order, the null row, source, licence

A folder that another program wrote may lack the last two: it is then an unconditional prior, or that of a transformer, which has
a class embedding of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ld3m_plugin.priors import prior_json as facts_files
from ld3m_plugin.priors.prior_json import FACTS as FACTS
from ld3m_plugin.priors.prior_json import PriorClass as PriorClass
from ld3m_plugin.priors.prior_json import PriorFacts as PriorFacts
from ld3m_plugin.priors.prior_json import read_json as read_json
from ld3m_plugin.priors.prior_json import write_facts
from ld3m_plugin.storage import complete_folder, write_json, write_tensors

if TYPE_CHECKING:  # the kind of prior reads the names below without torch
    from torch import Tensor

INDEX, CLASS_EMBEDDING = "model_index.json", "class_embedding.safetensors"
#: Folder names of an autoencoder; a prior has one of them.
AUTOENCODERS = ("vqvae", "vae")
#: Folder names of the network that denoises; a prior has one of them.
NETWORKS = ("unet", "transformer")
_PARTS = (*NETWORKS, *AUTOENCODERS, "scheduler")
_KIND = "ldm"

EMBEDDED = Path(__file__).parent / "embedded"
#: Priors that are shipped, by name.
SHIPPED = {"embedded": EMBEDDED / "fashion-mnist", "embedded-emoji": EMBEDDED / "emoji"}


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
        write_facts(folder, facts, _KIND)


def autoencoder_part(class_name: str) -> str:
    """Folder name of an autoencoder, as in diffusers' pipelines."""
    return "vqvae" if class_name == "VQModel" else "vae"


def read_facts(folder: Path) -> PriorFacts:
    """Read `prior.json`; a missing file gives empty facts. Raises the errors of `priors.prior_json.read_facts`."""
    return facts_files.read_facts(folder, _KIND)


def digest(folder: Path) -> str:
    """SHA-256 over the names and bytes of the files that make the prior, in the order of their names, without reports."""
    inside = (path for part in _PARTS for path in (folder / part).glob("*") if path.suffix in (".json", ".safetensors"))
    return facts_files.digest(folder, (*inside, folder / INDEX, folder / FACTS, folder / CLASS_EMBEDDING))
