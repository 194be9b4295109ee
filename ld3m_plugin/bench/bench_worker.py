"""Prepare one case of a benchmark, and run it each time a line arrives on standard input.

usage: python -P bench_worker.py < LINES

The first line is JSON: `case` (see `cases.yaml`), `tree` (a folder with another version of this project, or null for the one
that is installed), `scratch` (a folder that workers of one benchmark share) and `threads`. Each further line runs the case
once. Every answer is a line of JSON: `ready` with the memory, `round` with seconds and `memory`, or `refused` with a reason.

This file imports nothing of the project at its top, and uses what every measured version has: with `tree`, its packages come
from that folder. Where versions differ, `HOMES` lists the modules that have a name, the newest first.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import inspect
import json
import os
import resource
import sys
import time
import tomllib
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

#: A name -> the modules that have it in one version or another.
HOMES = {
    "Distillation": ("ld3m_plugin.distillation.loop", "ld3m_plugin.loop"),
    "HostError": ("ld3m_plugin.errors",),
    "MemoryExperts": ("ld3m_plugin.objectives.mtt.experts",),
    "PriorClass": ("ld3m_plugin.priors.prior_json", "ld3m_plugin.generators.priors.facts"),
    "PriorFacts": ("ld3m_plugin.priors.prior_json", "ld3m_plugin.generators.priors.facts"),
    "SynthesisNetwork": ("ld3m_plugin.generators.glad.stylegan_network", "ld3m_plugin.generators.glad.network"),
    "TrainingOptions": (
        "ld3m_plugin.objectives.mtt.store.expert_settings",
        "ld3m_plugin.objectives.mtt.store.settings",
    ),
    "cin256_modules": (
        "ld3m_plugin.generators.ld3m.compvis.compvis_convert",
        "ld3m_plugin.generators.ld3m.compvis.convert",
    ),
    "flat": ("ld3m_plugin.objectives.mtt.experts",),
    "imagenet_classes": ("ld3m_plugin.priors.classes", "ld3m_plugin.generators.priors.classes"),
    "keep_freed_memory": ("ld3m_plugin.allocator", "ld3m_plugin.memory"),
    "make_shape": ("ld3m_plugin.generators.glad.stylegan_shape", "ld3m_plugin.generators.glad.shape"),
    "random_network": ("ld3m_plugin.objectives.matching",),
    "save_prior": ("ld3m_plugin.generators.ld3m.ldm_folder", "ld3m_plugin.generators.ld3m.folder"),
    "train_experts": (
        "ld3m_plugin.objectives.mtt.store.train_experts",
        "ld3m_plugin.objectives.mtt.store.training",
    ),
}
_MIB = 2**20
Work = Callable[[], object]


def find(name: str) -> Any:
    """Import what this version calls `name`."""
    for module in HOMES[name]:
        try:
            return getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            if not module.startswith(str(error.name)):
                raise
    raise ModuleNotFoundError(f"none of {', '.join(HOMES[name])} has {name}")


def use_tree(tree: Path, scratch: Path) -> None:
    """Import the project from `tree`, and find the backends that its own entry points register."""
    project = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    sys.path.insert(0, str(tree))
    # An editable installation finds what the tree lacks, in the sources that it was made from.
    sys.meta_path[:] = [finder for finder in sys.meta_path if "ld3m_plugin" not in getattr(finder, "__module__", "")]
    # Entry points are read from the first distribution of a name: this one stands before the installed one.
    site = scratch / f"entry-points-{os.getpid()}"
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    facts = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(facts, encoding="utf-8")
    groups = [
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in points.items())
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(groups), encoding="utf-8")
    sys.path.insert(0, str(site))
    import ld3m_plugin

    # `generators/` and `objectives/` lie beside the package in the sources, and inside of it when imported.
    ld3m_plugin.__path__.append(str(tree))


def check_origin(tree: Path) -> None:
    """Raise `RuntimeError` if a module of the project came from anywhere else."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if (name == "ld3m_plugin" or name.startswith("ld3m_plugin.")) and file and not Path(file).is_relative_to(tree):
            raise RuntimeError(f"{name} was imported from {file}, not from {tree}")


# What a case does: each function prepares it and returns the work of one round. ----------------------------------------


def step(case: Mapping[str, Any], scratch: Path) -> Work:
    """One step of a distillation: render, match, pull back, update."""
    work: Work = _distillation(case, scratch).step
    return work


def chain(case: Mapping[str, Any], scratch: Path) -> Work:
    """Render and pull back a given gradient: one step whose objective costs nothing."""
    import torch

    from ld3m_plugin.contracts import Match
    from ld3m_plugin.randomness import stream

    state = _distillation(case, scratch)

    def match(images: Any, labels: Any, step: int) -> Any:
        gradient = torch.randn(images.shape, generator=stream(0, "gradient")).to(images.device)
        return Match(float(labels.sum() + step), gradient)

    state.objective.match = match
    work: Work = state.step
    return work


def evaluation(case: Mapping[str, Any], scratch: Path) -> Work:  # noqa: ARG001 (all kinds take both)
    """Train and test the networks of one row on random images."""
    import torch

    from ld3m_plugin.evaluation import evaluate
    from ld3m_plugin.evaluation.protocols import get_protocol
    from ld3m_plugin.randomness import stream

    task = _task(case).to(torch.device(case["device"]))
    recipe = get_protocol(case["protocol"]).model_copy(update={"epochs": case["epochs"]})
    count = task.num_classes * case["ipc"]
    shape = (count, task.channels, task.image_size, task.image_size)
    images = torch.randn(shape, generator=stream(0, "images")).to(task.device)
    distilled = SimpleNamespace(images=images, labels=torch.arange(count) // case["ipc"], metadata={}, learned={})
    chosen = {name: case[name] for name in ("networks", "repeats", "test_per_class")}
    if "together" in case and "together" in inspect.signature(evaluate).parameters:  # older versions train one by one
        chosen["together"] = case["together"]
    return lambda: evaluate(distilled, task, protocol=recipe, random_real=False, **chosen)


def experts(case: Mapping[str, Any], scratch: Path) -> Work:
    """Train new experts on random images, and write them."""
    import torch

    task, options = _task(case).to(torch.device(case["device"])), find("TrainingOptions")(**case["options"])
    train, made = find("train_experts"), iter(range(10**6))
    return lambda: train(scratch / f"experts-{os.getpid()}-{next(made)}", task, options)


def synthesis(case: Mapping[str, Any], scratch: Path) -> Work:  # noqa: ARG001 (all kinds take both)
    """Forward of a synthesis network with random weights, and backward to its styles."""
    import torch

    from ld3m_plugin.randomness import lent_to_global, stream

    with lent_to_global(stream(0, "network")):
        network = find("SynthesisNetwork")(find("make_shape")(**case["shape"])).eval().requires_grad_(False)
    network.to(case["device"])
    shape = (case["images"], network.shape.num_ws, network.shape.w_dim)
    styles = torch.randn(shape, generator=stream(0, "styles")).to(case["device"])

    def work() -> None:
        leaves = styles.clone().requires_grad_()
        torch.autograd.grad(network(leaves).square().sum(), leaves)

    return work


def prior(case: Mapping[str, Any], scratch: Path) -> Work:
    """Write the prior that later cases name, so that no measured process holds the memory of making it."""
    PRIORS[case["prior"]](scratch / case["prior"], case)
    return lambda: None


KINDS: dict[str, Callable[[Mapping[str, Any], Path], Work]] = {
    kind.__name__: kind for kind in (step, chain, evaluation, experts, synthesis, prior)
}


def _distillation(case: Mapping[str, Any], scratch: Path) -> Any:
    """A run that is ready for its first step."""
    from ld3m_plugin.config import resolve

    settings = _with_priors(case["settings"], scratch)
    config = resolve(settings=[*settings.items(), ("device", case["device"]), ("steps", 10**6)])
    task = _task(case)
    if case.get("random_experts"):
        _set_random_experts(config.objective, task)
    return find("Distillation")(config, task=task)


def _with_priors(value: Any, scratch: Path) -> Any:
    """Settings in which `{NAME}` is the folder of a prior that was made for this benchmark."""
    if isinstance(value, Mapping):
        return {key: _with_priors(part, scratch) for key, part in value.items()}
    if isinstance(value, str) and value[:1] == "{" and value[1:-1] in PRIORS:
        return str(scratch / value[1:-1])
    return value


def _task(case: Mapping[str, Any]) -> Any:
    """The data: a data set by name, or random images; `imagenet: N` gives them the names of its first N classes."""
    from ld3m_plugin.data.load import load_task
    from ld3m_plugin.testing import tiny_task

    if isinstance(case["data"], str):
        return load_task(case["data"])
    given = dict(case["data"])
    if count := given.pop("imagenet", 0):
        given["class_names"] = tuple(known.name for known in find("imagenet_classes")()[:count])
    return tiny_task(**given)


def _set_random_experts(choice: Any, task: Any) -> None:
    """Give the objective's class one expert: a random network that walks a little each epoch. No cost depends on its weights."""
    import torch

    from ld3m_plugin.backends import create
    from ld3m_plugin.randomness import stream

    objective = create("objective", choice.name, choice.options)
    start = find("flat")(find("random_network")(objective.options, task, stream(0, "network")))
    end = start + 0.01 * torch.randn(start.shape, generator=stream(0, "end"))
    last = objective.options.max_start_epoch + objective.options.expert_epochs
    path = {epoch: start.lerp(end, epoch / last) for epoch in range(last + 1)}
    type(objective).experts = find("MemoryExperts")([path])


# Priors with random weights: what they cost does not depend on the weights. --------------------------------------------


def _small_ldm(folder: Path, case: Mapping[str, Any]) -> None:
    """A U-Net of 4.8 million parameters and a VQ-f4 autoencoder for 32x32 images, with the classes of the data."""
    import torch
    from diffusers import DDIMScheduler, UNet2DConditionModel, VQModel

    from ld3m_plugin.randomness import lent_to_global, stream

    names = _task(case).class_names
    unet = {
        "sample_size": 8,
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": (64, 128),
        "layers_per_block": 1,
    }
    attention = {"cross_attention_dim": 512, "attention_head_dim": 1, "norm_num_groups": 32}
    kinds = {"down_block_types": ("CrossAttnDownBlock2D",) * 2, "up_block_types": ("CrossAttnUpBlock2D",) * 2}
    stage = {"in_channels": 3, "out_channels": 3, "block_out_channels": (32, 64, 128), "layers_per_block": 2}
    codes = {
        "latent_channels": 3,
        "num_vq_embeddings": 8192,
        "vq_embed_dim": 3,
        "sample_size": 32,
        "scaling_factor": 1.0,
    }
    levels = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
    schedule = {"beta_start": 0.0015, "beta_end": 0.0195, "beta_schedule": "scaled_linear", "clip_sample": False}
    with lent_to_global(stream(0, "small prior")):
        parts = {
            "unet": UNet2DConditionModel(**unet, **attention, **kinds),
            "autoencoder": VQModel(**stage, **codes, **levels),
            "scheduler": DDIMScheduler(**schedule, set_alpha_to_one=False, steps_offset=1),
            "class_embedding": torch.randn(len(names) + 1, 512),
        }
    classes = tuple(find("PriorClass")(name) for name in names)
    facts = find("PriorFacts")(classes, len(names), "random weights")
    find("save_prior")(folder, facts=facts, **parts)


def _cin256(folder: Path, case: Mapping[str, Any]) -> None:  # noqa: ARG001 (all priors take both)
    """The layout of `cin256-v2`: a U-Net of 400 million parameters and a VQ-f4 autoencoder."""
    from ld3m_plugin.randomness import stream

    parts = vars(find("cin256_modules")(stream(0, "cin256")))
    find("save_prior")(folder, facts=find("PriorFacts")(find("imagenet_classes")(), 1000, "random weights"), **parts)


PRIORS = {"small_ldm": _small_ldm, "cin256": _cin256}

# Clocks and memory. ------------------------------------------------------------------------------------------------------


def measured(work: Work, cuda: bool) -> dict[str, float]:
    """Wall, user and system seconds of one call of `work`."""
    _wait(cuda)
    used, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    work()
    _wait(cuda)
    wall, now = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    return {"wall": wall, "user": now.ru_utime - used.ru_utime, "system": now.ru_stime - used.ru_stime}


def memory(cuda: bool) -> dict[str, float]:
    """Memory of the process in MiB: now, and the most since `forget_peak`; on CUDA also that of torch's tensors."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**10 if sys.platform != "darwin" else _MIB)
    now = peak
    with contextlib.suppress(OSError):  # Linux alone
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        sizes = {
            name: float(rest.split()[0]) / 2**10 for name, _, rest in (x.partition(":") for x in lines) if "kB" in rest
        }
        now, peak = sizes["VmRSS"], sizes["VmHWM"]
    found = {"now": now, "peak": peak}
    if cuda:
        import torch

        found |= {
            "device_now": torch.cuda.memory_allocated() / _MIB,
            "device_peak": torch.cuda.max_memory_allocated() / _MIB,
        }
    return found


def forget_peak(cuda: bool) -> None:
    """Start peaks anew, where the system can."""
    gc.collect()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    if cuda:
        import torch

        torch.cuda.reset_peak_memory_stats()


def _wait(cuda: bool) -> None:
    if cuda:
        import torch

        torch.cuda.synchronize()


def answers(lines: TextIO) -> Iterator[dict[str, Any]]:
    """Prepare the case of the first line, then run it for each further line."""
    given = json.loads(next(lines))
    scratch, case = Path(given["scratch"]), given["case"]
    if given["tree"] is not None:
        use_tree(Path(given["tree"]), scratch)
    import torch

    torch.set_num_threads(given["threads"])
    find("keep_freed_memory")()
    cuda = torch.device(case["device"]).type == "cuda"
    try:
        work = KINDS[case["kind"]](case, scratch)
        if given["tree"] is not None:
            check_origin(Path(given["tree"]))
        forget_peak(cuda)
        yield {"ready": memory(cuda)}
        for _ in lines:
            yield {"round": measured(work, cuda), "memory": memory(cuda)}
    except find("HostError") as error:
        yield {"refused": str(error)}


def main() -> None:
    """Answer on standard output; whatever else is printed goes to standard error."""
    warnings.simplefilter("ignore")
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for answer in answers(sys.stdin):
        channel.write(json.dumps(answer) + "\n")
        channel.flush()


if __name__ == "__main__":
    main()
