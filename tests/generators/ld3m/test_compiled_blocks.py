"""Compiled blocks against the same blocks as they are written, and what `compile=blocks` refuses.

Compiling takes a second for each kernel: the prior has one level, so that its blocks share three kinds of code, and the tests one
cache.
"""

import pytest
import torch

from ld3m_plugin.backends import get_generator
from ld3m_plugin.distillation.rendering import render, render_with_pull_back
from ld3m_plugin.errors import ArtefactError, HostError, InvalidOptionError, UsageError
from ld3m_plugin.generators.ld3m import compiled_blocks
from ld3m_plugin.generators.ld3m.compile_cache import cache_folder
from ld3m_plugin.generators.ld3m.ldm_folder import PriorClass, PriorFacts, save_prior
from ld3m_plugin.generators.ld3m.ldm_prior import load_prior
from ld3m_plugin.randomness import lent_to_global, stream
from ld3m_plugin.runs import run
from ld3m_plugin.runs.folder import read_config
from ld3m_plugin.testing import tiny_task

#: Bound of the relative difference of images and gradients in float32: fused operations are rounded in another order.
BOUND = 2e-5
TASK = {"image_size": 8}


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    import diffusers

    size = {"layers_per_block": 1, "norm_num_groups": 4, "block_out_channels": (8,)}
    unet = {"down_block_types": ("CrossAttnDownBlock2D",), "up_block_types": ("CrossAttnUpBlock2D",)}
    stage = {"down_block_types": ("DownEncoderBlock2D",), "up_block_types": ("UpDecoderBlock2D",)}
    names = tuple(PriorClass(f"class {row}") for row in range(3))
    with lent_to_global(stream(0, "one level")):
        parts = {
            "unet": diffusers.UNet2DConditionModel(
                sample_size=8,
                in_channels=3,
                out_channels=3,
                cross_attention_dim=6,
                attention_head_dim=2,
                **unet,
                **size,
            ),
            "autoencoder": diffusers.AutoencoderKL(
                in_channels=1, out_channels=1, latent_channels=3, mid_block_add_attention=False, **stage, **size
            ),
            "scheduler": diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
            "class_embedding": torch.randn(4, 6),
        }
    folder = tmp_path_factory.mktemp("one level") / "prior"
    save_prior(folder, facts=PriorFacts(names, 3, "random weights"), **parts)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache of this module's own, shared by its tests."""
    patch = pytest.MonkeyPatch()
    home = tmp_path_factory.mktemp("cache")
    patch.setenv("XDG_CACHE_HOME", str(home))
    yield home
    patch.undo()


@pytest.fixture
def made(prior, cache):
    """`made(**options)`: a generator with compiled blocks unless they say otherwise, and its latents."""

    def make(name="ld3m", **options):
        chain = {"steps": 2, "guidance_scale": 3.0} if name == "ld3m" else {}
        generator = get_generator(name, prior=str(prior), **{"compile": "blocks", **chain, **options})
        task = tiny_task(**TASK).for_training()
        generator.prepare(task)
        return generator, generator.initial_latents(task, torch.arange(3).repeat_interleave(2), stream(0, "latents"))

    return make


def images_and_gradients(generator, latents, chunk=None):
    rendering = render_with_pull_back(generator, latents, chunk)
    direction = torch.randn(rendering.images.shape, generator=stream(0, "direction"))
    return rendering.images.detach(), *rendering.pull_back(direction).values()


def assert_close(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype
        assert (one - other).norm() <= BOUND * other.norm()


@pytest.mark.slow
@pytest.mark.compiles
@pytest.mark.parametrize("memory", ["graph", "checkpoint", "auto"])
def test_same_images_and_gradients_as_the_written_blocks(made, memory):
    compiled, latents = made(memory=memory)
    written, same = made(memory=memory, compile="none")
    found = images_and_gradients(compiled, latents)
    assert_close(found, images_and_gradients(written, same))
    codes = list(cache_folder().rglob("*.so"))
    assert codes
    again = images_and_gradients(compiled, latents)
    assert all(map(torch.equal, again, found))
    assert list(cache_folder().rglob("*.so")) == codes  # nothing was compiled again


@pytest.mark.slow
@pytest.mark.compiles
def test_the_code_of_a_former_process_gives_the_same_bits(made):
    found = images_and_gradients(*made(memory="graph"))
    codes = {path: path.stat().st_mtime_ns for path in cache_folder().rglob("*.so")}
    torch.compiler.reset()
    assert all(map(torch.equal, images_and_gradients(*made(memory="graph")), found))
    assert {path: path.stat().st_mtime_ns for path in cache_folder().rglob("*.so")} == codes


@pytest.mark.slow
@pytest.mark.compiles
def test_the_autoencoder_alone(made):
    found, wanted = (images_and_gradients(*made("autoencoder", compile=kind)) for kind in ("blocks", "none"))
    assert_close(found, wanted)


@pytest.mark.slow
@pytest.mark.compiles
def test_a_second_derivative_is_refused(made):
    generator, latents = made(memory="graph")
    for function in (generator.render, generator.denoise):
        leaves = latents.detach(requires_grad=True)
        with pytest.raises(UsageError, match="create_graph"):
            torch.autograd.grad(function(leaves).sum(), leaves["latent"], create_graph=True)


@pytest.mark.slow
@pytest.mark.compiles
def test_a_run_records_it_and_goes_on_with_it_alone(prior, cache, tmp_path):
    task, folder = tiny_task(**TASK), tmp_path / "run"
    config = {
        "steps": 1,
        "generator": {"name": "ld3m", "options": {"prior": str(prior), "steps": 1, "compile": "blocks"}},
        "objective": {"name": "dm", "options": {"batch_real": 2, "network_settings": {"width": 4, "depth": 1}}},
        "evaluation": {"final": False},
    }
    run.start(run.RunConfig(**config), folder, task=task)
    assert read_config(folder).generator.options["compile"] == "blocks"
    run.resume(folder, task=task)
    with pytest.raises(UsageError, match="-G compile"):
        run.resume(folder, task=task, places=[("generator.options.compile", "none")])
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("compile: blocks", "compile: none"))
    with pytest.raises(ArtefactError) as caught:
        run.resume(folder, task=task)
    assert str(folder) in str(caught.value)


@pytest.mark.slow
@pytest.mark.compiles
def test_a_library_that_was_cut_off_is_named(made):
    images_and_gradients(*made(memory="graph"))
    library = next(cache_folder().rglob("*.so"))
    content = library.read_bytes()
    library.write_bytes(content[: len(content) // 2])
    try:
        with pytest.raises(ArtefactError) as caught:
            images_and_gradients(*made(memory="graph"))
        assert str(library) in str(caught.value)
        assert f"delete {cache_folder()}" in str(caught.value)
    finally:
        library.write_bytes(content)


@pytest.mark.slow
@pytest.mark.compiles
def test_more_forms_than_the_limit_never_run_as_written(made, monkeypatch):
    monkeypatch.setattr(compiled_blocks, "_MOST_FORMS", 1)
    generator, latents = made("autoencoder")
    images_and_gradients(generator, latents)
    with pytest.raises(HostError, match="compile=none"):
        images_and_gradients(generator, latents.rows(slice(0, 1)))


@pytest.mark.slow
@pytest.mark.compiles
def test_what_the_compiler_raises_is_one_line(made, monkeypatch):
    def fail(*_, **__):
        raise OSError("libx.so: invalid ELF header\nmore")

    generator, latents = made("autoencoder")
    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    with pytest.raises(HostError) as caught:
        images_and_gradients(generator, latents)
    assert "invalid ELF header" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_a_compiler_nothing_is_loaded(made, monkeypatch):
    monkeypatch.setenv("CXX", "/nowhere/c++")
    for name in ("ld3m", "autoencoder"):
        with pytest.raises(InvalidOptionError, match="/nowhere/c"):
            made(name)
    made(compile="none")


def test_passes_without_a_gradient_and_the_plan_compile_nothing(made, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled, latents = made()
    written, same = made(compile="none")
    assert torch.equal(render(compiled, latents), render(written, same))
    assert compiled.plan(latents, None) == written.plan(same, None)
    assert not list(tmp_path.iterdir())


def test_the_record_of_a_run_without_it_stays_as_it_was(made):
    assert "compile" not in made(compile="none")[0].options.model_dump()
    assert made()[0].options.model_dump()["compile"] == "blocks"


@pytest.mark.slow
@pytest.mark.compiles
def test_blocks_of_a_transformer(dits, cache):
    compiled, written = (load_prior(dits()) for _ in range(2))
    compiled_blocks.CompiledBlocks(compiled.denoiser)
    found, wanted = ([] for _ in range(2))
    for prior, kept in ((compiled, found), (written, wanted)):
        state = torch.randn(2, 3, 4, 4, generator=stream(0, "state")).requires_grad_()
        vectors = prior.class_embedding[[0, 1]][:, None].clone().requires_grad_()
        output = prior.predict(state, 7.0, vectors)
        kept += [output.detach(), *torch.autograd.grad(output.square().sum(), (state, vectors))]
    assert_close(found, wanted)
