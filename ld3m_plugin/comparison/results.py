"""Finished rows of a comparison as results for statistics, tables and pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.artefact.pictures import Names, save_grid
from ld3m_plugin.comparison.cells import of_generator
from ld3m_plugin.comparison.made_rows import MadeRow, read_made
from ld3m_plugin.comparison.manifest import Manifest, ManifestRow
from ld3m_plugin.comparison.seed_results import SeedResult
from ld3m_plugin.data.data_settings import SELECT_ON
from ld3m_plugin.errors import ArtefactError
from ld3m_plugin.evaluation.predictions import PREDICTIONS, Predictions, read_predictions
from ld3m_plugin.evaluation.table import RANDOM_REAL
from ld3m_plugin.images.hard_labels import hard_labels
from ld3m_plugin.runs.folder import DISTILLED

PICTURES = "comparison.png"
_MOST_PICTURES = 10  # in a row


def results(manifest: Manifest, rows: Sequence[ManifestRow]) -> list[SeedResult]:
    """Read finished rows.

    Raises:
        ArtefactError: one is missing or damaged.
    """
    made = [read_made(manifest.run_folder(row)) for row in rows]
    # Initialisers and random real images were matched with no network: theirs are sorted as those of the runs beside them.
    try:
        seen = frozenset(network for one in made for network in one.facts.get("seen_networks", ()))
    except TypeError as error:
        raise ArtefactError(f"a row in {manifest.folder} has damaged metadata: seen_networks is no list") from error
    names = short_data_names({row.data for row in rows})
    found = [_checked_result(manifest, row, one, seen) for row, one in zip(rows, made, strict=True)]
    return [replace(result, data=names[result.data] + _tested_on(row)) for row, result in zip(rows, found, strict=True)]


def _tested_on(row: ManifestRow) -> str:
    """What a table says behind the data set if accuracies are not of its test set."""
    return ", held out" if row.settings["data"]["options"].get(SELECT_ON) == "validation" else ""


def short_data_names(data: Collection[str]) -> dict[str, str]:
    """Name data sets for a table: of a path its end, where that still tells one from the others.

    >>> short_data_names(["imagefolder:/home/me/birds", "fashion-mnist"])
    {'imagefolder:/home/me/birds': 'imagefolder:birds', 'fashion-mnist': 'fashion-mnist'}
    """
    parts = {name: name.partition(":") for name in data}
    return _where_unlike({name: base + colon + Path(argument).name for name, (base, colon, argument) in parts.items()})


def ends_of_paths(values: Collection[str]) -> dict[str, str]:
    """Name values for a picture: of a path its end, where that still tells one from the others.

    >>> ends_of_paths(["/home/me/priors/birds", "embedded"])
    {'/home/me/priors/birds': 'birds', 'embedded': 'embedded'}
    >>> ends_of_paths(["mine/birds", "yours/birds"])
    {'mine/birds': 'mine/birds', 'yours/birds': 'yours/birds'}
    """
    return _where_unlike({value: value.rstrip("/").rpartition("/")[2] or value for value in values})


def _where_unlike(short: Mapping[str, str]) -> dict[str, str]:
    """The short form of each name that shares it with no other, else the name itself."""
    taken = Counter(short.values())
    return {name: found if taken[found] == 1 else name for name, found in short.items()}


def baseline(manifest: Manifest, found: Sequence[SeedResult]) -> Mapping[str, Any] | str | None:
    """Choose what the others are compared with: the grid's generator or control, else the first generator; None where
    there is one alone.

    A generator with several settings of its own is the baseline with those that a row shares; where a row shares none, with its
    first.
    """
    runs = [result for result in found if result.objective]
    compared, named = [result.generator for result in runs], manifest.grid.get("baseline")
    if named is not None and named in {result.generator for result in found} - {*compared, RANDOM_REAL}:
        return str(named)
    if len(set(compared)) < 2:
        return None
    name: str = named if named in compared else compared[0]
    its = [of_generator(result) for result in runs if result.generator == name]
    # Several settings, and a row that has none of them: one must be chosen.
    chosen = any(one != its[0] for one in its) and any(of_generator(result) not in its for result in runs)
    return {"generator": name, **its[0]} if chosen else name


def _checked_result(manifest: Manifest, row: ManifestRow, made: MadeRow, seen: frozenset[str]) -> SeedResult:
    try:
        return _result(manifest, row, made, seen)
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # files that do not belong together, other types
        folder = manifest.run_folder(row)
        raise ArtefactError(f"the results in {folder} are damaged: delete {folder} to make the row again") from error


def _result(manifest: Manifest, row: ManifestRow, made: MadeRow, seen: frozenset[str]) -> SeedResult:
    state = manifest.state(row)
    images = RANDOM_REAL if row.kind == "random real" else "distilled"
    predictions = _predictions(manifest.run_folder(row))
    right = {} if predictions is None else predictions.correct(images)
    groups = None if predictions is None or predictions.groups is None else predictions.groups.numpy()
    return SeedResult(
        generator=row.generator,
        objective=row.objective,
        data=row.data,
        images_per_class=row.images_per_class,
        seed=row.seed,
        accuracies={r.network: r.accuracies for r in made.evaluation.rows if r.images == images},
        seen=frozenset(made.facts.get("seen_networks", seen)),
        settings=row.varied,
        correct={network: found.numpy() for network, found in right.items()},
        test_groups=groups,
        numbers_per_class=made.facts.get("storage", {}).get("numbers_per_class"),
        start=row.start or None,
        seconds_per_step=state.seconds / state.steps if state.steps else None,
        seconds=state.seconds if row.kind == "run" else None,
        peak_memory=state.peak_mib or None,
        asked=row.asked,
        diverged={r.network: len(r.diverged) for r in made.evaluation.rows if r.images == images and r.diverged},
    )


def _predictions(folder: Path) -> Predictions | None:
    """What each network said of each test image; None where a version before did not keep it."""
    found = [path for path in (folder / DISTILLED / PREDICTIONS, folder / PREDICTIONS) if path.is_file()]
    return read_predictions(found[0]) if found else None


def write_pictures(manifest: Manifest, rows: Sequence[ManifestRow]) -> list[str]:
    """Write the distilled images of one seed as a picture: a named line for each row of the table, below the classes' names.

    Returns:
        The name of each line; none where no run is finished.
    """
    first: dict[tuple[str, ...], ManifestRow] = {}
    for row in rows:
        if row.kind != "random real":
            first.setdefault((row.generator, row.objective, row.data, str(row.images_per_class), str(row.varied)), row)
    sets = [read_made(manifest.run_folder(row)).distilled for row in first.values()]
    there = [index for index, distilled in enumerate(sets) if distilled is not None]
    found = [distilled for distilled in sets if distilled is not None]
    shown = [pictures(distilled) for distilled in found]
    # Rows of other sizes or colours do not fit under the first.
    alike = [index for index, images in enumerate(shown) if images.shape == shown[0].shape]
    if not alike:
        return []
    partial = manifest.folder / f".partial.{PICTURES}"
    lines = list(first.values())
    named = [_line_name(lines[there[index]], lines) for index in alike]
    # Other data has other classes, whose names would be wrong above the first ones.
    same = all(found[index].class_names == found[0].class_names for index in alike)
    columns = [found[0].class_names[k] for k in shown_classes(found[0])] if same else []
    save_grid(torch.cat([shown[index] for index in alike]), partial, len(shown[0]), Names(rows=named, columns=columns))
    partial.replace(manifest.folder / PICTURES)
    return named


def _line_name(row: ManifestRow, rows: Sequence[ManifestRow]) -> str:
    """Generator and objective, and what else tells this row from the others."""
    parts = ["+".join(filter(None, (row.generator, row.objective)))]
    if len({other.data for other in rows}) > 1:
        parts.append(short_data_names({other.data for other in rows})[row.data])
    if len({other.images_per_class for other in rows}) > 1:
        parts.append(f"{row.images_per_class} a class")
    for path, value in row.varied.items():
        ends = ends_of_paths({str(other.varied.get(path)) for other in rows})
        parts.append(f"{path.rpartition('.')[2]}={ends[str(value)]}")
    return " ".join(parts)


def pictures(distilled: DistilledSet) -> Tensor:
    """Choose up to ten images (n, C, H, W) in [0, 1], ordered by class: as many of each as fit, or one of the first ten."""
    labels = hard_labels(distilled.labels)
    every, classes = distilled.denormalised(), shown_classes(distilled)
    return torch.cat([every[labels == k][: classes.count(k)] for k in dict.fromkeys(classes)])


def shown_classes(distilled: DistilledSet) -> list[int]:
    """The class of each of the images that `pictures` chooses."""
    labels = hard_labels(distilled.labels)
    classes = range(min(len(distilled.class_names), _MOST_PICTURES))
    each = _MOST_PICTURES // len(classes)
    return [k for k in classes for _ in range(min(each, int((labels == k).sum())))]
