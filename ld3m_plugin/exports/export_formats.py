"""`export`: a distilled set in the format of another tool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.artefact.picture_folder import save_pictures
from ld3m_plugin.errors import UsageError, nearest
from ld3m_plugin.exports.hub_parquet import write_parquet
from ld3m_plugin.exports.latent_file import write_latents
from ld3m_plugin.exports.plain_tensors import write_npz, write_tensor_pickles
from ld3m_plugin.exports.tar_shards import PER_SHARD, write_shards
from ld3m_plugin.storage import complete_file, complete_folder


@dataclass(frozen=True)
class ExportOptions:
    """Options that some formats take.

    Attributes:
        half: keep latents as numbers of 16 bits.
        per_shard: images in a shard.
    """

    half: bool = False
    per_shard: int = PER_SHARD


@dataclass(frozen=True)
class Format:
    """A format that sets are exported to.

    Attributes:
        write: takes the set, the path of a file or of an empty folder, and the options.
        suffix: ending of the file; "" for a folder.
        takes: the options that have an effect.
    """

    name: str
    summary: str
    write: Callable[[DistilledSet, Path, ExportOptions], None]
    suffix: str = ""
    takes: frozenset[str] = frozenset()


FORMATS = (
    Format(
        "imagefolder",
        "a folder of PNG files for each class",
        lambda distilled, out, _: save_pictures(distilled.denormalised(), distilled.labels, distilled.class_names, out),
    ),
    Format(
        "hf", "Parquet with named labels and a card, for 🤗 Datasets", lambda made, out, _: write_parquet(made, out)
    ),
    Format(
        "webdataset",
        "tar files of PNG and label",
        lambda distilled, out, options: write_shards(distilled, out, options.per_shard),
        takes=frozenset({"per_shard"}),
    ),
    Format(
        "glad",
        "images_best.pt and labels_best.pt, as DC, MTT and GLaD save them",
        lambda distilled, out, _: write_tensor_pickles(distilled, out),
    ),
    Format("npz", "arrays of numpy", lambda distilled, out, _: write_npz(distilled, out), ".npz"),
    Format(
        "latents",
        "the learned numbers alone, to be rendered again with `ld3m import`",
        lambda distilled, out, options: write_latents(distilled, out, half=options.half),
        ".safetensors",
        frozenset({"half"}),
    ),
)


def get_format(name: str) -> Format:
    """The format of that name.

    Raises:
        UsageError: there is none.
    """
    for form in FORMATS:
        if form.name == name:
            return form
    raise UsageError(f"there is no format {name!r}; {nearest(name, [form.name for form in FORMATS])}")


def export(
    distilled: DistilledSet, form: str, out: Path | str, *, half: bool = False, per_shard: int = PER_SHARD
) -> Path:
    """Write a distilled set in another format; all of it or nothing.

    Args:
        form: `imagefolder`, `hf`, `webdataset`, `glad`, `npz` or `latents`.
        out: a new file, or a new or empty folder; the format's ending is added to the name of a file.
        half: keep latents as numbers of 16 bits (`latents` alone).
        per_shard: images in a shard (`webdataset` alone).

    Returns:
        The path that was written.

    Raises:
        UsageError: an unknown format, an option that has no effect on it, a missing extra, or something is at `out`.
        ArtefactError: the set does not have what the format holds.
    """
    chosen, out = get_format(form), Path(out)
    given = {"half": half, "per_shard": per_shard != PER_SHARD}
    for name in (name for name, is_given in given.items() if is_given and name not in chosen.takes):
        raise UsageError(f"{name} has no effect on the format {form!r}: leave it out")
    if per_shard < 1:
        raise UsageError(f"per_shard = {per_shard}: it must be at least 1")
    if chosen.suffix and out.suffix != chosen.suffix:
        out = out.with_name(out.name + chosen.suffix)
    if out.exists() and (chosen.suffix or not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already: choose another --out, or remove it")
    options = ExportOptions(half, per_shard)
    if chosen.suffix:
        _write_file(chosen, distilled, out, options)
    else:
        with complete_folder(out) as folder:
            chosen.write(distilled, folder, options)
    return out


def _write_file(form: Format, distilled: DistilledSet, out: Path, options: ExportOptions) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with complete_file(out) as temporary:
        form.write(distilled, temporary, options)
