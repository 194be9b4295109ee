"""The LD3M generator on tiny priors: the contract for every option, exactness, and what it refuses."""

import pytest
import torch

from ld3m_plugin.backends import get_generator
from ld3m_plugin.errors import InvalidOptionError
from ld3m_plugin.generators.imaging import PictureSpace
from ld3m_plugin.generators.ld3m.prior import load_prior
from ld3m_plugin.randomness import stream
from ld3m_plugin.rendering import render, render_with_pull_back
from ld3m_plugin.testing import check_generator, tiny_task

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


@pytest.mark.parametrize("what", VARIANTS, ids=str)
def test_contract_for_every_kind_of_prior(priors, what):
    folder = priors(**what)
    check_generator(lambda: ld3m(folder))


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
        {"guidance_scale": 3.0},
        {"eta": 1.0},
        {"steps": 1},
        {"steps": 7},
        {"spacing": "trailing"},
        {"memory": "checkpoint"},
        {"memory": "graph"},
        {"gradient": "last-1"},
    ],
    ids=str,
)
def test_contract_for_every_option(priors, options):
    folder = priors(vq=True)
    check_generator(lambda: ld3m(folder, **options), tiny_task(classes=2, channels=3))


@pytest.mark.parametrize("what", [{}, {"vq": True}], ids=str)
@pytest.mark.parametrize("clamp", ["straight-through", "none"])
def test_autoencoder_keeps_the_contract(priors, what, clamp):
    folder = priors(**what)
    check_generator(lambda: get_generator("autoencoder", prior=str(folder), clamp=clamp))


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


def test_auto_keeps_activations_until_the_budget_is_spent(priors, started):
    evaluations = []
    for budget in (4.0, 1e-6):
        generator = ld3m(priors(), memory_budget=budget)
        latents = started(generator)
        inner, count = generator._prior.unet.forward, []
        generator._prior.unet.forward = lambda *a, inner=inner, count=count, **k: (count.append(1), inner(*a, **k))[1]
        rendering = render_with_pull_back(generator, latents)
        rendering.pull_back(torch.ones_like(rendering.images))
        evaluations.append(len(count))
    assert evaluations == [1 + 2, 1 + 2 + 2]  # one to measure, the steps, and with checkpoints the steps again


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
        ({}, {}, {"image_size": 20}, "a multiple of 8: give -D image_size=24"),
        ({"conditional": False}, {"learn": "class_embedding"}, {}, "this prior is unconditional"),
        ({"null": False}, {"guidance_scale": 2.0}, {}, "no null class to guide away from"),
        ({}, {"steps": 1001}, {}, "trained on 1000 timesteps"),
        ({}, {"gradient": "last-0"}, {}, "gradient"),
        ({}, {}, {"classes": 4}, "the prior has no class 'class 3' .did you mean 'class 2'"),
    ],
    ids=str,
)
def test_refusals(priors, started, what, options, task, message):
    with pytest.raises(InvalidOptionError, match=message):
        started(ld3m(priors(**what), **options), tiny_task(**task))


def test_published_defaults_can_be_composed():
    # What the published code does, in this project's words; the preset gives it.
    from ld3m_plugin.config import resolve

    options = resolve((), ("ld3m-2024/imagenet-128-ipc1-dm",), []).generator.options
    built = get_generator("ld3m", **options).options
    assert (built.residual, built.residual_quantized, built.guidance_scale, built.steps) == ("x0", True, 3.0, 10)
