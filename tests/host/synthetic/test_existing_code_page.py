"""docs/existing-code.md: its blocks run in their order, its diffs are of the loops here, and both sides of them run."""

import logging
from pathlib import Path

import pytest
import torch

from ld3m_plugin import DistilledSet

LOOPS = Path(__file__).parent / "own_loops"
STYLES = ["dm", "dc", "mtt"]
LINE = 'syn = ld3m.Synthetic("ld3m", task, steps=2)'


@pytest.mark.parametrize("style", STYLES)
def test_the_page_shows_the_change_of_the_loop_that_lies_here(style, existing_code):
    assert existing_code.before(style) == (LOOPS / f"{style}_loop.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("style", STYLES)
def test_the_change_is_three_lines_and_one_more_for_an_inner_loop(style, existing_code):
    lines = existing_code.diffs[style].splitlines()
    assert sum(line[0] == "+" for line in lines) == (4 if style == "dc" else 3)
    assert sum(line[0] == "-" for line in lines) == 2


@pytest.fixture
def levels_kept():
    """The page sets levels of loggers, which later tests must not have."""
    loggers = [logging.getLogger(name) for name in ("", "ld3m_plugin", "ld3m_plugin.evaluation")]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.mark.slow
def test_the_page_runs_as_it_stands(existing_code, tmp_path, monkeypatch, levels_kept):
    monkeypatch.chdir(tmp_path)
    setup, rest = existing_code.blocks[:2], existing_code.blocks[2:]
    found = existing_code.run(*setup, *map(existing_code.after, STYLES), *rest)
    distilled = DistilledSet.load("my-set")
    assert torch.equal(distilled.images, found["images"])
    assert distilled.metadata["generator"]["name"] == "ld3m"
    assert len(distilled.metadata["generator"]["prior_sha256"]) == 64
    assert all(Path("my-set", name).is_file() for name in ("grid.png", "README.md", "latents.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_the_loops_before_the_change_run(style, existing_code):
    found = existing_code.run(*existing_code.setup, existing_code.before(style))
    assert torch.isfinite(found["loss"])


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_with_the_pixels_generator_the_change_changes_nothing(style, existing_code):
    # The same start in place of its own: then both sides compute the same, bit for bit.
    before = existing_code.run(*existing_code.setup, existing_code.before(style))
    identity = (
        "start = torch.stack([real(c, 1)[0] for c in range(10)])\n"
        'own = ld3m.ModuleGenerator(torch.nn.Identity(), {"pixels": start}, learning_rates={"pixels": 0.05})\n'
        "syn = ld3m.Synthetic(own, task)\n"
    )
    source = existing_code.after(style).replace(LINE + "\n", identity)
    assert identity in source
    after = existing_code.run(*existing_code.setup, source)
    assert torch.equal(after["loss"], before["loss"])
    assert torch.equal(after["syn"]().detach(), before["image_syn"].detach())


GENERATORS = {"ld3m": {"steps": 2}, "autoencoder": {}, "pixel": {}, "glad": {}}


@pytest.mark.slow
@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("style", STYLES)
def test_every_style_runs_with_every_generator_in_chunks(style, generator, existing_code):
    line = "syn = ld3m.Synthetic(generator, task, render_batch=4, **options)"
    source = existing_code.after(style).replace(LINE, line)
    assert line in source
    found = existing_code.run(*existing_code.setup, source, generator=generator, options=GENERATORS[generator])
    with torch.no_grad():
        images = found["syn"]()
    assert found["syn"].iteration == 2
    assert torch.isfinite(images).all()
    assert torch.isfinite(found["loss"])
