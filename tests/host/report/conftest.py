"""Folders of runs and comparisons as the library leaves them, without the training, and pages as parsed HTML."""

import json
from dataclasses import asdict, dataclass, field
from html.parser import HTMLParser

import pytest
import torch

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.comparison.manifest import Manifest, ManifestRow
from ld3m_plugin.config import RunConfig, dump
from ld3m_plugin.evaluation import Evaluation
from ld3m_plugin.evaluation.protocols import get_protocol
from ld3m_plugin.evaluation.table import Row
from ld3m_plugin.storage import write_json, write_tensors

#: What a file may say where it should name a class.
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; alert(1) //",
    "right\u202eleft\u2066",
    "bell\x07 zero\x00 line\nbreak",
    "mark \u200f of direction",
    "{{ 7 * 7 }}{% raw %}",
    "</title></style></svg>",
    "javascript:alert(1)",
    "w" * 3000,
]
VOID = {"meta", "img", "br", "link"}


@dataclass
class Tag:
    """An element: its attributes, and all text in it."""

    name: str
    attributes: dict[str, str]
    text: str = ""


@dataclass
class Page(HTMLParser):
    """All elements of a page in order; every one must be closed in order."""

    source: str
    tags: list[Tag] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def __post_init__(self):
        super().__init__(convert_charrefs=True)
        self.open = []
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"{tag} has an attribute twice: {names}"
        self.tags.append(Tag(tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(self.tags[-1])

    def handle_startendtag(self, tag, attrs):
        self.tags.append(Tag(tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop().name == tag

    def handle_data(self, data):
        self.texts.append(data)
        for tag in self.open:
            tag.text += data

    def all(self, name):
        return [tag for tag in self.tags if tag.name == name]


@pytest.fixture(scope="session")
def parsed():
    """Parses a page that was written."""
    return lambda path: Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def hostile():
    """Ten names of classes that a stranger wrote."""
    return HOSTILE


def distilled_set(seed, names, per_class=1, side=8, channels=1, accuracies=None, **metadata):
    """A distilled set of random images with the record of an evaluation."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(names)).repeat_interleave(per_class)
    images = torch.rand(len(labels), channels, side, side, generator=rng)
    found = {
        "class_names": list(names),
        "mean": [0.0] * channels,
        "std": [1.0] * channels,
        "data": {"name": "tiny", "source": "a test"},
        "seen_networks": ["ConvNet"],
        "start": "real images",
        "steps": 3,
        "seed": seed,
        "storage": {"numbers_per_class": 64, "latent_bytes": 2560, "fixed_bytes": 0, "prior_bytes": 7},
        "versions": {"torch": "2"},
        "config": RunConfig(seed=seed).model_dump(mode="json"),
        "generator": {"name": "pixel", "options": {}, "prior_licence": "CC BY 4.0"},
        **metadata,
    }
    if accuracies:
        rows = tuple(Row(images, network, tuple(values)) for (images, network), values in accuracies.items())
        found["results"] = {"final": {"step": 3, **Evaluation(get_protocol("quick"), rows, 20, seed, 1.0).record()}}
    return DistilledSet(images, labels, found)


def write_run(folder, distilled, start=False):
    """A run folder around a distilled set."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "distilled").mkdir()
    write_tensors(folder / "distilled" / "images.safetensors", {"images": distilled.images, "labels": distilled.labels})
    write_json(folder / "distilled" / "metadata.json", {"format": 1, **distilled.metadata})
    (folder / "config.yaml").write_text(dump(RunConfig()), encoding="utf-8")
    records = [{"step": s, "loss": 1000.0 / s, "gradient_norm/pixels": 1.0 / s, "seconds": 0.1} for s in (1, 2, 3)]
    for step in (1, 3):
        for network in ("ConvNet", "AlexNet"):
            records.append({"step": step, "images": "distilled", "network": network, "accuracies": [50.0, 52.0 + step]})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    write_json(folder / "environment.json", {"python": "3.11", "device": {"type": "cpu"}, "threads": 1})
    if start:
        count = min(100, len(distilled))
        pictures = torch.zeros(count, *distilled.images.shape[1:], dtype=torch.uint8)
        write_tensors(folder / "start.safetensors", {"pictures": pictures, "indices": torch.arange(count)})
    return folder


def row(generator, objective, seed, **changes):
    """A row of a manifest."""
    kind = "run" if objective else "random real"
    label = f"{generator.replace(' ', '-')}-{objective}-seed{seed}"
    settings = RunConfig(seed=seed).model_dump(mode="json")
    settings["generator"]["name"] = generator
    facts = {"id": label, "label": label, "kind": kind, "generator": generator, "objective": objective, "data": "tiny"}
    facts |= {"images_per_class": 1, "seed": seed, "varied": {}, "start": "", "threads": 1, "settings": settings}
    return ManifestRow(**{**facts, **changes})


def write_comparison(folder, names, rows=None):
    """A comparison of two generators and random real images at three seeds, and a row that failed."""
    if rows is None:
        rows = [row(generator, "dm", seed) for generator in ("pixel", "glad") for seed in (0, 1, 2)]
        rows += [row("random real", "", seed) for seed in (0, 1, 2)] + [row("glad", "mtt", 0)]
    folder.mkdir(parents=True)
    manifest = Manifest(folder, tuple(rows), {"generators": ["pixel", "glad"], "baseline": "glad"})
    manifest.write()
    for place, one in enumerate(rows):
        if one.objective == "mtt":
            manifest.update(one, progress="failed", starts=1, line="no experts: <b>make</b> them", exit_code=1)
            continue
        at = {network: [40.0 + 3 * place % 7 + 5 * one.seed] for network in ("ConvNet", "AlexNet")}
        target = manifest.run_folder(one)
        if one.kind == "run":
            accuracies = {("distilled", network): values for network, values in at.items()}
            write_run(target, distilled_set(one.seed, names, accuracies=accuracies), start=one.generator == "pixel")
        else:
            found = tuple(Row("random real", network, tuple(values)) for network, values in at.items())
            target.mkdir(parents=True)
            write_json(target / "evaluation.json", Evaluation(get_protocol("quick"), found, 20, one.seed, 1.0).record())
        manifest.update(one, progress="finished", starts=1, seconds=6.0 + place, steps=3, peak_mib=100.0 * place)
    manifest.write()
    return folder


ACCURACIES = {
    ("distilled", "ConvNet"): [68.0, 70.0],
    ("random real", "ConvNet"): [50.0, 51.0],
    ("distilled", "AlexNet"): [58.0, 60.0],
    ("random real", "AlexNet"): [48.0, 49.0],
}


@pytest.fixture
def run_folder(tmp_path):
    """Writes the folder of a run; arguments as for `distilled_set`."""

    def make(names=("cat", "dog"), start=True, **options):
        options.setdefault("accuracies", ACCURACIES)
        return write_run(tmp_path / "run", distilled_set(0, names, **options), start)

    return make


@pytest.fixture
def comparison_folder(tmp_path):
    """Writes the folder of a comparison; `changed` are fields of its first row."""

    def make(names=("cat", "dog"), **changed):
        rows = None
        if changed:
            first = row("pixel", "dm", 0)
            rows = [ManifestRow(**{**asdict(first), **changed}), row("glad", "dm", 0)]
        return write_comparison(tmp_path / "comparison", names, rows)

    return make
