"""The strategy: draws, their random streams, and repeated application."""

import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ld3m_plugin.augmentation import DSA, DSADraw
from ld3m_plugin.errors import InvalidOptionError

NAMES = ("color", "crop", "cutout", "flip", "scale", "rotate")
#: golden operation -> strategy, and the parameters; None stands for the neutral value
GOLDEN = {
    "brightness": ("color", {"brightness_offset": "offset", "saturation_factor": 1.0, "contrast_factor": 1.0}),
    "saturation": ("color", {"brightness_offset": 0.0, "saturation_factor": "factor", "contrast_factor": 1.0}),
    "contrast": ("color", {"brightness_offset": 0.0, "saturation_factor": 1.0, "contrast_factor": "factor"}),
    "crop": ("crop", {"shift_rows": "shift_rows", "shift_cols": "shift_cols"}),
    "cutout": ("cutout", {"centre_rows": "centre_row", "centre_cols": "centre_col"}),
    "flip": ("flip", {"flipped": "flipped"}),
    "scale": ("scale", {"scale_x": "sx", "scale_y": "sy"}),
    "rotate": ("rotate", {"radians": "radians"}),
}

every_name = pytest.mark.parametrize("name", NAMES)


def noise(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("name", GOLDEN)
def test_values_are_those_of_the_published_code(name, golden, relative_error):
    operation, keys = GOLDEN[name]
    params = {
        ours: golden[f"{name}.{theirs}"] if isinstance(theirs, str) else torch.full((6,), theirs)
        for ours, theirs in keys.items()
    }
    images, expected = golden["images"], golden[f"{name}.out"]
    out = DSA().apply(images, DSADraw(operation, (20, 20), 6, params))
    assert relative_error(out, expected) < 1e-5
    for row in range(6):
        siamese = DSADraw(operation, (20, 20), None, {key: value[row : row + 1] for key, value in params.items()})
        assert relative_error(DSA().apply(images, siamese)[row], expected[row]) < 1e-5


@every_name
def test_a_siamese_draw_on_two_batches_is_one_draw_on_both(name, rng):
    dsa = DSA(name)
    real, synthetic = noise(25, 3, 16, 16), noise(4, 3, 16, 16, seed=1)
    for _ in range(5):
        draw = dsa.draw(real.shape, rng, siamese=True)
        assert draw.siamese
        assert all(value.shape == (1,) for value in draw.parameters.values())
        together = dsa.apply(torch.cat((real, synthetic)), draw)
        apart = torch.cat((dsa.apply(real, draw), dsa.apply(synthetic, draw)))
        torch.testing.assert_close(apart, together, rtol=1e-6, atol=1e-6)


@every_name
def test_siamese_treats_equal_images_equally_and_per_image_does_not(name, rng):
    dsa, images = DSA(name), noise(1, 3, 16, 16).repeat(40, 1, 1, 1)
    siamese = dsa(images, rng=rng, siamese=True)
    torch.testing.assert_close(siamese, siamese[:1].expand_as(siamese), rtol=1e-6, atol=1e-6)
    apart = dsa(images, rng=rng)
    assert (apart - apart[:1]).abs().max() > 0.1


@every_name
def test_a_siamese_draw_equals_the_same_numbers_once_an_image(name, rng):
    dsa, images = DSA(name), noise(5, 3, 16, 16)
    draw = dsa.draw(images.shape, rng, siamese=True)
    params = {key: value.repeat(5) for key, value in draw.parameters.items()}
    torch.testing.assert_close(
        dsa.apply(images, DSADraw(name, (16, 16), 5, params)), dsa.apply(images, draw), rtol=1e-6, atol=1e-6
    )


@pytest.mark.usefixtures("global_stream_untouched")
@pytest.mark.parametrize("siamese", [False, True])
def test_draws_come_from_the_given_stream_alone(siamese):
    dsa, images = DSA(), noise(6, 3, 16, 16)
    first, second = (torch.Generator().manual_seed(5) for _ in range(2))
    operations = set()
    for _ in range(30):
        before = first.get_state()
        draw = dsa.draw(images.shape, first, siamese=siamese)
        again = dsa.draw(images.shape, second, siamese=siamese)
        assert not torch.equal(first.get_state(), before)
        assert draw.operation == again.operation
        assert draw.parameters.keys() == again.parameters.keys()
        assert all(torch.equal(draw.parameters[key], again.parameters[key]) for key in draw.parameters)
        assert torch.equal(dsa.apply(images, draw), dsa.apply(images, again))
        operations.add(draw.operation)
    assert operations == set(NAMES)


def test_calls_differ_from_one_another(rng):
    dsa, images = DSA("scale"), noise(2, 1, 8, 8)
    assert not torch.equal(dsa(images, rng=rng), dsa(images, rng=rng))


@settings(max_examples=25)
@given(names=st.permutations(NAMES).flatmap(lambda order: st.integers(1, 6).map(lambda n: order[:n])))
def test_any_choice_of_names_draws_these_and_no_others(names):
    """30 draws for each name miss one with a probability below 6 * (5/6)**180."""
    dsa, rng = DSA("_".join(names)), torch.Generator().manual_seed(0)
    assert dsa.names == tuple(names)
    drawn = {dsa.draw((2, 1, 8, 8), rng, siamese=True).operation for _ in range(30 * len(names))}
    assert drawn == set(names)


def test_the_operation_is_uniform_over_the_names(rng):
    dsa, count = DSA("flip_crop_color"), 3000
    drawn = [dsa.draw((1, 1, 4, 4), rng, siamese=True).operation for _ in range(count)]
    for name in dsa.names:
        assert abs(drawn.count(name) / count - 1 / 3) < 5 * math.sqrt(2 / 9 / count)


@pytest.mark.parametrize("strategy", ["", "none"])
def test_no_strategy_is_the_identity(strategy, rng):
    dsa, images, before = DSA(strategy), noise(3, 1, 8, 8), rng.get_state()
    assert dsa(images, rng=rng) is images
    assert dsa(images, rng=rng, siamese=True) is images
    assert torch.equal(rng.get_state(), before)


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ("colour_crop", ["'colour'", "did you mean 'color'", "cutout"]),
        ("crop_cutuot", ["'cutuot'", "did you mean 'cutout'"]),
        ("Flip", ["'Flip'", "did you mean 'flip'"]),
        ("color-crop", ["'color-crop'", "known: color, crop, cutout, flip, rotate, scale"]),
        ("crop_", ["''", "known:"]),
        ("crop_none", ["'none'", "known:"]),
        ("crop_flip_crop", ["'crop_flip_crop'", "'crop'"]),
    ],
)
def test_wrong_names_are_refused_in_one_line(strategy, words):
    with pytest.raises(InvalidOptionError) as caught:
        DSA(strategy)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@every_name
def test_a_draw_for_each_image_fits_its_batch_only(name, rng):
    dsa = DSA(name)
    for count in (1, 3):
        draw = dsa.draw((count, 3, 8, 8), rng, siamese=False)
        with pytest.raises(ValueError, match=rf"\b{count}\b.*\b4\b"):
            dsa.apply(noise(4, 3, 8, 8), draw)


def test_a_draw_fits_its_image_size_and_strategy_only(rng):
    draw = DSA("crop").draw((3, 3, 8, 8), rng, siamese=True)
    with pytest.raises(ValueError, match=r"\(8, 8\).*9, 9"):
        DSA("crop").apply(noise(3, 3, 9, 9), draw)
    with pytest.raises(ValueError, match=r"'crop'.*'flip'"):
        DSA("flip").apply(noise(3, 3, 8, 8), draw)


@every_name
@pytest.mark.parametrize("siamese", [False, True])
def test_gradient(name, siamese, rng):
    images = noise(3, 2, 6, 6, dtype=torch.float64).requires_grad_()
    dsa = DSA(name)
    draw = dsa.draw(images.shape, rng, siamese=siamese)
    assert torch.autograd.gradcheck(lambda x: dsa.apply(x, draw), images)


@every_name
def test_the_gradient_of_a_gradient_matching_loss_passes_through(name, rng):
    """DC differentiates a function of parameter gradients: second order in the network, first in the augmentation."""
    images = noise(3, 1, 8, 8).requires_grad_()
    weight = noise(64, seed=1).requires_grad_()
    value = (DSA(name)(images, rng=rng, siamese=True).flatten(1) @ weight).square().sum()
    (gradient,) = torch.autograd.grad(value, weight, create_graph=True)
    (result,) = torch.autograd.grad(gradient.square().sum(), images)
    assert torch.isfinite(result).all()
    assert result.abs().sum() > 0


@every_name
def test_the_fast_way_is_what_the_kornia_class_computes(name, rng):
    dsa, images = DSA(name), noise(4, 3, 16, 16)
    draw = dsa.draw(images.shape, rng, siamese=False)
    assert torch.equal(dsa.operations[name](images, params=dict(draw.parameters)), dsa.apply(images, draw))


def test_a_strategy_has_no_state_and_can_be_sent_to_workers(rng):
    dsa = DSA("scale_rotate")
    assert not dsa.state_dict()
    assert not list(dsa.parameters())
    images = noise(2, 1, 8, 8)
    draw = dsa.draw(images.shape, rng, siamese=True)
    twin, again = pickle.loads(pickle.dumps((dsa, draw)))  # noqa: S301 (our own)
    assert torch.equal(twin.apply(images, again), dsa.apply(images, draw))
    assert "scale_rotate" in repr(dsa)


@pytest.mark.parametrize("operation", ["color", "crop", "cutout", "flip", "scale", "rotate"])
def test_autocast_does_not_touch_the_geometry(operation):
    images = torch.linspace(-1, 1, 128).expand(2, 1, 128, 128).contiguous()
    dsa = DSA(operation)
    draw = dsa.draw(images.shape, torch.Generator().manual_seed(0), siamese=True)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = dsa.apply(images, draw)
    assert torch.equal(mixed, dsa.apply(images, draw))
