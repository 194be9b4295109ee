"""The LD3M generator on tiny priors: the contract for every option, exactness, and what it refuses."""

from contextlib import nullcontext
from functools import partial

import pytest
import torch

from ld3m_plugin.backends import get_generator
from ld3m_plugin.budgets import saved_bytes
from ld3m_plugin.config import changed, resolve
from ld3m_plugin.contracts import Generator, RenderPlan
from ld3m_plugin.distillation.loop import distill
from ld3m_plugin.distillation.rendering import render, render_with_pull_back
from ld3m_plugin.errors import ArtefactError, InvalidOptionError
from ld3m_plugin.generators.imaging import PictureSpace
from ld3m_plugin.generators.ld3m.ld3m_generator import LD3MGenerator
from ld3m_plugin.generators.ld3m.ldm_prior import load_prior
from ld3m_plugin.randomness import stream
from ld3m_plugin.runs import run
from ld3m_plugin.runs.folder import read_config
from ld3m_plugin.testing import check_generator, tiny_task

bf16 = partial(torch.autocast, "cpu", torch.bfloat16)
VARIANTS = [
    {},
    {"vq": True},
    {"conditional": False},
    {"conditional": False, "vq": True},
    {"prediction": "v_prediction"},
    {"prediction": "sample"},
    {"flow": True},
    {"channels": 3},
]


def ld3m(folder, **options):
    return get_generator("ld3m", prior=str(folder), **{"steps": 2, **options})


@pytest.mark.slow
@pytest.mark.parametrize("what", VARIANTS, ids=str)
def test_contract_for_every_kind_of_prior(priors, what):
    folder = priors(**what)
    check_generator(lambda: ld3m(folder))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"residual": "mean"},
        {"residual": "none"},
        {"residual_quantized": False},
        {"learn": "latent"},
        {"learn": "class_embedding"},
        {"init": "gaussian"},
        {"noise": "redrawn"},
        {"clamp": "none"},
        {"clamp": "hard"},
        {"guidance_scale": 3.0},
        {"eta": 1.0},
        {"steps": 1},
        {"steps": 3},
        {"spacing": "trailing"},
        {"memory": "checkpoint"},
        {"memory": "graph"},
        {"gradient": "last-1"},
    ],
    ids=str,
)
def test_contract_for_every_option(priors, options):
    folder = priors(vq=True)
    check_generator(lambda: ld3m(folder, mismatch="allow", **options), tiny_task(classes=2, channels=3))


@pytest.mark.parametrize("what", [{}, {"vq": True}], ids=str)
@pytest.mark.parametrize("clamp", ["straight-through", "none"])
def test_autoencoder_keeps_the_contract(priors, what, clamp):
    folder = priors(**what)
    check_generator(lambda: get_generator("autoencoder", prior=str(folder), clamp=clamp))


@pytest.mark.slow
@pytest.mark.parametrize("vq", [False, True])
@pytest.mark.parametrize("steps", [2, 10])
def test_with_a_denoiser_of_zero_it_is_the_autoencoder(own_prior, started, edit_tensors, vq, steps):
    # The control of the paper's Table 6, and REFERENCE 4.2: the x0 residual alone is left.
    folder = own_prior(vq=vq)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    edit_tensors(weights, lambda t: [t[name].zero_() for name in ("conv_out.weight", "conv_out.bias")])
    diffusion = ld3m(folder, steps=steps)
    latents = started(diffusion)
    plain = get_generator("autoencoder", prior=str(folder))
    of_plain = started(plain)
    assert torch.equal(latents["latent"], of_plain["latent"])
    torch.testing.assert_close(render(diffusion, latents), render(plain, of_plain), rtol=1e-5, atol=1e-5)
    image_grad = torch.randn(6, 1, 16, 16, generator=stream(0, "grad"))
    mine = render_with_pull_back(diffusion, latents)
    theirs = render_with_pull_back(plain, of_plain)
    torch.testing.assert_close(
        mine.pull_back(image_grad)["latent"], theirs.pull_back(image_grad)["latent"], rtol=1e-4, atol=1e-4
    )


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["graph", "checkpoint", "auto"])
def test_memory_policies_and_chunks_change_no_gradient(priors, started, relative_error, memory):
    expected_way = ld3m(priors(), memory="graph", guidance_scale=2.0)
    latents = started(expected_way)
    image_grad = torch.randn(6, 1, 16, 16, generator=stream(0, "grad"))
    expected = render_with_pull_back(expected_way, latents).pull_back(image_grad)
    way = ld3m(priors(), memory=memory, guidance_scale=2.0)
    started(way)
    found = render_with_pull_back(way, latents).pull_back(image_grad)
    for name in expected:
        assert torch.equal(found[name], expected[name])
    for chunk in (1, 4):
        chunked = render_with_pull_back(way, latents, chunk).pull_back(image_grad)
        for name in expected:
            assert relative_error(chunked[name], expected[name]) < 1e-4  # float32 sums in another order


@pytest.mark.slow
def test_auto_keeps_activations_until_the_budget_is_spent(priors, started):
    evaluations = []
    for budget in (4.0, 1e-6):
        generator = ld3m(priors(), memory_budget=budget)
        latents = started(generator)
        inner, count = generator._prior.denoiser.forward, []
        generator._prior.denoiser.forward = lambda *a, inner=inner, count=count, **k: (count.append(1), inner(*a, **k))[
            1
        ]
        rendering = render_with_pull_back(generator, latents)
        rendering.pull_back(torch.ones_like(rendering.images))
        evaluations.append(len(count))
    assert evaluations == [2 + 2, 2 + 2 + 2]  # two to measure, the steps, and with checkpoints the steps again


@pytest.mark.parametrize("precision", [nullcontext, bf16])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_the_estimate_of_auto_is_what_the_chain_keeps(priors, started, precision, guidance):
    generator = ld3m(priors(), memory="graph", guidance_scale=guidance, steps=3)
    latents = started(generator)
    leaves = latents.detach(requires_grad=True)
    with precision():
        generator._chosen(latents, None)  # measures
        estimate = 3 * generator._kept[0].of(len(latents))
        kept = saved_bytes(lambda: generator.denoise(leaves), generator._prior.denoiser.parameters())
    assert estimate == pytest.approx(kept, rel=0.1)


@pytest.mark.slow
def test_with_checkpoints_what_is_kept_does_not_grow_by_activations(priors, started):
    kept = {}
    for memory in ("graph", "checkpoint"):
        for steps in (4, 16):
            generator = ld3m(priors(), memory=memory, steps=steps)
            leaves = started(generator).detach(requires_grad=True)
            generator.denoise(leaves)  # what is measured once a run is over
            kept[memory, steps] = saved_bytes(
                partial(generator.denoise, leaves), generator._prior.denoiser.parameters()
            )
    assert kept["graph", 16] > 3.5 * kept["graph", 4]
    # States between steps are kept: 3 of 16 numbers a step and row, and class embeddings.
    assert kept["checkpoint", 16] - kept["checkpoint", 4] < 0.02 * kept["graph", 16]


@pytest.mark.slow
@pytest.mark.parametrize(("chunk", "times"), [(None, 2), (3, 4), (1, 12)])
def test_checkpointed_chunks_take_two_forwards(priors, started, chunk, times):
    # Two steps, each evaluated once for the images and once in the backward pass, whatever the chunks.
    generator = ld3m(priors(), memory="checkpoint", guidance_scale=2.0)
    latents = started(generator)
    inner, rows = generator._prior.predict, []
    generator._prior.predict = lambda state, *others: (rows.append(len(state)), inner(state, *others))[1]
    rendering = render_with_pull_back(generator, latents, chunk)
    assert len(rows) == times
    rendering.pull_back(torch.ones_like(rendering.images))
    assert len(rows) == 2 * times


@pytest.mark.slow
@pytest.mark.parametrize("vq", [False, True])
def test_a_checkpointed_decoder_keeps_what_lies_between_its_blocks(priors, vq):
    codec = load_prior(priors(vq=vq)).codec
    latents = torch.randn(2, 3, 4, 4, generator=stream(0, "z"), requires_grad=True)
    kept, pictures, gradients = [], [], []
    for checkpointed in (False, True):
        kept.append(saved_bytes(partial(codec.decode, latents, checkpointed), codec.model.parameters()))
        pictures.append(codec.decode(latents, checkpointed))
        gradients += torch.autograd.grad(pictures[-1].square().sum(), latents)
    assert kept[1] < 0.4 * kept[0]
    assert torch.equal(*pictures)
    assert torch.equal(*gradients)


def test_a_plan_comes_from_sizes_alone_and_holds(priors, started):
    few, many = ({"memory_budget": budget} for budget in (1e-6, 4.0))
    for options, rows, expected in (
        (many, None, RenderPlan({"memory": "graph"})),
        (few, None, RenderPlan({"memory": "checkpoint"}, 1)),
        (few, 2, RenderPlan({"memory": "checkpoint"})),
        (many, 2, RenderPlan({"memory": "checkpoint"})),
        ({"memory": "graph", **few}, None, RenderPlan()),
    ):
        generator = ld3m(priors(), **options)
        latents = started(generator)
        assert generator.plan(latents, rows) == expected
        one = latents.rows(slice(0, 1))
        assert generator.recomputes(one) == (expected.options.get("memory") == "checkpoint")


@pytest.mark.slow
def test_a_run_records_what_auto_chose_and_goes_on_with_it(priors, tmp_path):
    options = {"prior": str(priors()), "steps": 2, "memory_budget": 1e-6}
    config = resolve(
        settings=[
            ("generator", {"name": "ld3m", "options": options}),
            ("objective", {"name": "dm", "options": {"batch_real": 4, "network_settings": {"width": 8}}}),
            ("steps", 2),
            ("evaluation.final", False),
        ]
    )
    run.start(config, tmp_path / "run", task=tiny_task())
    recorded = read_config(tmp_path / "run")
    assert (recorded.generator.options["memory"], recorded.render_batch) == ("checkpoint", 1)
    # Settings from before the choice was recorded, as a comparison also gives them.
    undecided = changed(recorded, "generator", options={**recorded.generator.options, "memory": "auto"})
    longer = undecided.model_copy(update={"render_batch": None, "steps": 3})
    run.resume(tmp_path / "run", config=longer, task=tiny_task())
    assert read_config(tmp_path / "run") == recorded.model_copy(update={"steps": 3})
    run.resume(tmp_path / "run", task=tiny_task())


@pytest.mark.slow
def test_a_run_from_before_the_choice_was_recorded_goes_on(priors, tmp_path, monkeypatch):
    config = resolve(
        settings=[
            ("generator", {"name": "ld3m", "options": {"prior": str(priors()), "steps": 2}}),
            ("objective", {"name": "dm", "options": {"batch_real": 4, "network_settings": {"width": 8}}}),
            ("steps", 1),
            ("evaluation.final", False),
        ]
    )
    with monkeypatch.context() as before:
        before.setattr(LD3MGenerator, "plan", Generator.plan)
        run.start(config, tmp_path / "run", task=tiny_task())
    former = read_config(tmp_path / "run")
    assert former.generator.options["memory"] == "auto"
    for steps in (2, 3):
        more = read_config(tmp_path / "run").model_copy(update={"steps": steps})
        run.resume(tmp_path / "run", config=more, task=tiny_task())
        assert read_config(tmp_path / "run").generator.options["memory"] == "graph"


@pytest.mark.slow
def test_under_bf16_all_memory_policies_give_the_same_bits(priors, started):
    results = []
    for memory, chunk in (("graph", None), ("checkpoint", None), ("checkpoint", 6)):
        generator = ld3m(priors(), memory=memory, guidance_scale=2.0)
        rendering = render_with_pull_back(generator, started(generator), chunk, bf16)
        results.append(rendering.pull_back(torch.ones_like(rendering.images)))
    for other in results[1:]:
        assert all(torch.equal(other[name], results[0][name]) for name in other)


@pytest.mark.slow
def test_what_is_learned(priors, started):
    assert started(ld3m(priors())).learned == {"latent", "class_embedding"}
    assert started(ld3m(priors(), learn="latent")).learned == {"latent"}
    assert started(ld3m(priors(), learn="class_embedding")).learned == {"class_embedding"}
    unconditional = started(ld3m(priors(conditional=False)))
    assert unconditional.learned == {"latent"}
    assert list(unconditional) == ["latent", "noise"]


def test_shapes_and_start(priors, started):
    folder = priors()
    latents = started(ld3m(folder, eta=0.5))
    shapes = {name: tuple(tensor.shape) for name, tensor in latents.tensors().items()}
    assert shapes == {
        "latent": (6, 3, 4, 4),
        "class_embedding": (6, 1, 6),
        "noise": (6, 3, 4, 4),
        "step_noise": (6, 2, 3, 4, 4),
    }
    table = load_prior(folder).class_embedding
    torch.testing.assert_close(latents["class_embedding"][:, 0], table[[0, 0, 1, 1, 2, 2]])
    assert not torch.equal(latents["latent"][0], latents["latent"][1])  # distinct images within a class


def test_encoder_is_given_pictures_between_minus_one_and_one(priors, started):
    # The published code gave it normalised images, of another range and contrast.
    generator = ld3m(priors())
    seen = []
    started(generator)
    encode = generator._prior.codec.model.encode
    generator._prior.codec.model.encode = lambda x: (seen.append(x), encode(x))[1]
    generator.initial_latents(tiny_task(), torch.tensor([0, 1, 2]), stream(0, "x"))
    assert -1 <= float(seen[0].min()) < -0.5
    assert 0.5 < float(seen[0].max()) <= 1


def test_latents_are_normalised_by_channel(priors):
    codec = load_prior(priors()).codec
    pictures = torch.rand(2, 1, 16, 16, generator=stream(0, "p")) * 2 - 1
    code = codec.model.encode(pictures).latent_dist.mode()
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ([0.1, -0.2, 0.3], [0.5, 1.0, 2.0]))
    torch.testing.assert_close(codec.encode(pictures), (code - mean) / std)
    torch.testing.assert_close(codec.decode(codec.encode(pictures)), codec.model.decode(code).sample)


def test_quantise_gives_entries_of_the_code_book_and_passes_the_gradient_on(priors):
    codec = load_prior(priors(vq=True)).codec
    latents = torch.randn(2, 3, 4, 4, generator=stream(0, "z"), requires_grad=True)
    quantised = codec.quantise(latents)
    book = codec.model.quantize.embedding.weight
    distances = torch.cdist(quantised.detach().movedim(1, -1).reshape(-1, 3), book).min(1).values
    assert float(distances.max()) < 1e-4  # z + (q − z) in float32
    (gradient,) = torch.autograd.grad(quantised.sum(), latents)
    torch.testing.assert_close(gradient, torch.ones_like(gradient))


@pytest.mark.slow
def test_quantised_residual_differs_for_vq_alone(priors, started):
    for vq, equal in ((True, False), (False, True)):
        images = []
        for quantised in (True, False):
            generator = ld3m(priors(vq=vq), residual_quantized=quantised)
            images.append(render(generator, started(generator)))
        assert torch.equal(*images) == equal


def test_fixed_noise_stays_and_redrawn_noise_changes(priors, started):
    fixed, redrawn = ld3m(priors()), ld3m(priors(), noise="redrawn", eta=0.5)
    latents = started(fixed)
    assert fixed.on_step(latents, 1, stream(0, "step")) is latents
    latents = started(redrawn)
    after = redrawn.on_step(latents, 1, stream(0, "step"))
    assert after["latent"] is latents["latent"]
    for name in ("noise", "step_noise"):
        assert not torch.equal(after[name], latents[name])
        assert float(after[name].std()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("clamp", "values", "gradients"),
    [
        ("straight-through", [0.0, 0.5, 1.0], [1.0, 1.0, 1.0]),
        ("hard", [0.0, 0.5, 1.0], [0.0, 1.0, 0.0]),
        ("none", [-0.5, 0.5, 1.5], [1.0, 1.0, 1.0]),
    ],
)
def test_clamps(clamp, values, gradients):
    space = PictureSpace(tiny_task(), 1, clamp)
    pictures = torch.tensor([-2.0, 0.0, 2.0]).view(1, 1, 1, 3).requires_grad_()
    images = space.images(pictures)
    torch.testing.assert_close(images.flatten() * 0.25 + 0.5, torch.tensor(values))
    (gradient,) = torch.autograd.grad(images.sum(), pictures)
    torch.testing.assert_close(gradient.flatten(), torch.tensor(gradients) / 2 / 0.25)


def test_pictures_and_images_are_inverse_and_change_channels():
    task = tiny_task(channels=3)
    images = torch.randn(2, 3, 4, 4, generator=stream(0, "i")).clamp(-1, 1)
    same = PictureSpace(task, 3)
    torch.testing.assert_close(same.images(same.pictures(images)), images)
    gray = PictureSpace(task, 1).pictures(images)
    torch.testing.assert_close(gray, same.pictures(images).mean(1, keepdim=True))
    assert PictureSpace(tiny_task(), 3).pictures(images[:, :1]).shape == (2, 3, 4, 4)


@pytest.mark.parametrize(
    ("what", "options", "task", "message"),
    [
        ({}, {}, {"image_size": 20}, r"\b8\b.*image_size=24"),
        ({"conditional": False}, {"learn": "class_embedding"}, {}, "learn=class_embedding"),
        ({"conditional": False}, {"guidance_scale": 2.0}, {}, "guidance_scale=2.0"),
        ({"conditional": False}, {"unmatched": "unconditional"}, {}, "unmatched=unconditional"),
        ({"conditional": False}, {"class_map": "map.yaml"}, {}, "class_map=map.yaml"),
        ({"flow": True}, {"spacing": "trailing", "residual": "none"}, {}, "residual=none"),
        ({"channels": 4}, {}, {}, r"\b4 channels\b.*\b1\b"),
        ({"null": False}, {"guidance_scale": 2.0}, {}, "guidance_scale=2.0"),
        ({}, {"steps": 1001}, {}, r"steps = 1001\b.*\b1000\b"),
        ({}, {"gradient": "last-0"}, {}, "gradient"),
        ({}, {}, {"classes": 4}, "'class 3'"),
    ],
    ids=str,
)
def test_refusals(priors, started, what, options, task, message):
    with pytest.raises(InvalidOptionError, match=message):
        started(ld3m(priors(**what), **options), tiny_task(**task))


@pytest.mark.slow
@pytest.mark.parametrize("what", [{}, {"conditional": False}], ids=str)
@pytest.mark.parametrize("optimizer", [{}, {"name": "sgd", "learning_rates": {"latent": 0.1, "class_embedding": 0.1}}])
def test_a_run_with_and_without_classes(priors, what, optimizer):
    config = {
        "steps": 2,
        "generator": {"name": "ld3m", "options": {"prior": str(priors(**what)), "steps": 2}},
        "objective": {"name": "dm", "options": {"batch_real": 4, "network_settings": {"width": 8}}},
        "optimizer": optimizer,
    }
    *_, last = distill(config, task=tiny_task())
    assert last.iteration == 2


@pytest.mark.slow
@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_a_run_with_redrawn_noise_goes_on_bit_for_bit(priors, eta):
    options = {"prior": str(priors()), "steps": 2, "noise": "redrawn", "eta": eta}
    config = {
        "steps": 4,
        "generator": {"name": "ld3m", "options": options},
        "objective": {"name": "dm", "options": {"batch_real": 4, "network_settings": {"width": 8}}},
    }
    states = []
    for step in distill(config, task=tiny_task()):
        states.append(step.state.state_dict() if step.iteration == 2 else None)
    straight = step.state.latents
    *_, last = distill(config, task=tiny_task(), resume=states[1])
    for name in straight:
        assert torch.equal(last.state.latents[name], straight[name]), name


@pytest.mark.slow
def test_a_run_does_not_go_on_with_another_prior(own_prior, edit_tensors, tmp_path):
    folder = own_prior()
    config = resolve(
        settings=[
            ("generator", {"name": "ld3m", "options": {"prior": str(folder), "steps": 2}}),
            ("objective", {"name": "dm", "options": {"batch_real": 4, "network_settings": {"width": 8}}}),
            ("steps", 2),
            ("evaluation.final", False),
        ]
    )
    run.start(config, tmp_path / "run", task=tiny_task())
    run.resume(tmp_path / "run", task=tiny_task())
    edit_tensors(folder / "vae" / "diffusion_pytorch_model.safetensors", lambda t: next(iter(t.values())).mul_(0.9))
    with pytest.raises(ArtefactError, match="prior_sha256"):
        run.resume(tmp_path / "run", task=tiny_task())


def test_the_artefact_says_what_each_class_started_from(priors, started, tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text("class 1: class 2\n")
    generator = ld3m(priors(), class_map=path, unmatched="unconditional")
    started(generator, tiny_task(class_names=("class 0", "class 1", "other")))
    assert generator.provenance()["class_embedding_from"] == "class 0: class 0, class 1: class 2, other: unconditional"


PUBLISHED = {"residual": "x0", "residual_quantized": True, "guidance_scale": 3.0, "eta": 0.0, "clamp": "hard"} | {
    "noise": "redrawn",
    "learn": "both",
    "init": "real",
}


@pytest.mark.parametrize(
    ("preset", "size", "images", "depth", "expected"),
    [
        ("imagenet-128-ipc1-dm", 128, 1, 5, {**PUBLISHED, "steps": 10}),
        ("imagenet-128-ipc10-dm", 128, 10, 5, {**PUBLISHED, "steps": 10}),
        ("imagenet-256-ipc1-dm", 256, 1, 6, {**PUBLISHED, "steps": 20}),
        ("imagenet-256-ipc10-dm", 256, 10, 6, {**PUBLISHED, "steps": 20}),
        ("paper-imagenet-128-ipc1-dm", 128, 1, 5, {"residual": "mean", "eta": 1.0, "guidance_scale": 3.0, "steps": 10}),
    ],
)
def test_presets_hold_the_published_settings(preset, size, images, depth, expected):
    # SGD with momentum 0.5 and rate 1 for both latents with DM, 256 real images, ConvNet-5 or -6, 10,000 iterations.
    config = resolve((), (f"ld3m-2024/{preset}",), [])
    built = get_generator("ld3m", **config.generator.options).options
    assert {name: getattr(built, name) for name in expected} == expected
    assert config.optimizer.model_dump(include={"name", "momentum", "learning_rates"}) == {
        "name": "sgd",
        "momentum": 0.5,
        "learning_rates": {"latent": 1.0, "class_embedding": 1.0},
    }
    assert (config.images_per_class, config.data.options["image_size"], config.steps) == (images, size, 10_000)
    assert config.objective.options["network_settings"]["depth"] == depth
    assert config.objective.options["batch_real"] == 256
