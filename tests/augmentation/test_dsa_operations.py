"""The operations as Kornia augmentations: values, gradients, independence of rows, ranges, composition."""

import copy
import math
import pickle

import kornia.augmentation as K
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ld3m_plugin.augmentation import (
    DSABrightness,
    DSAColor,
    DSAContrast,
    DSACrop,
    DSACutout,
    DSAFlip,
    DSARotate,
    DSASaturation,
    DSAScale,
)

OPERATIONS = {
    "brightness": DSABrightness,
    "saturation": DSASaturation,
    "contrast": DSAContrast,
    "color": DSAColor,
    "crop": DSACrop,
    "cutout": DSACutout,
    "flip": DSAFlip,
    "scale": DSAScale,
    "rotate": DSARotate,
}
#: operation -> its parameter -> the golden file's name for it
RECORDED = {
    "brightness": {"brightness_offset": "offset"},
    "saturation": {"saturation_factor": "factor"},
    "contrast": {"contrast_factor": "factor"},
    "crop": {"shift_rows": "shift_rows", "shift_cols": "shift_cols"},
    "cutout": {"centre_rows": "centre_row", "centre_cols": "centre_col"},
    "flip": {"flipped": "flipped"},
    "scale": {"scale_x": "sx", "scale_y": "sy"},
    "rotate": {"radians": "radians"},
}
#: settings that change nothing
NEUTRAL = {
    "brightness": {"brightness_offset": 0.0},
    "saturation": {"saturation_factor": 1.0},
    "contrast": {"contrast_factor": 1.0},
    "color": {"brightness_offset": 0.0, "saturation_factor": 1.0, "contrast_factor": 1.0},
    "crop": {"shift_rows": 0, "shift_cols": 0},
    "flip": {"flipped": 0},
    "scale": {"scale_x": 1.0, "scale_y": 1.0},
    "rotate": {"radians": 0.0},
}
#: bilinear sampling at whole pixels hits them to a rounding error only; everything else is bit for bit
SAMPLED = {"scale": 2e-5, "rotate": 2e-5}

every_operation = pytest.mark.parametrize("name", OPERATIONS)


def recorded(golden: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {ours: golden[f"{name}.{theirs}"] for ours, theirs in RECORDED[name].items()}


def noise(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def drawn(name: str, shape: tuple[int, ...], seed: int = 0) -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return OPERATIONS[name]().generate_parameters(shape)


def applied(name: str, images: Tensor, params: dict[str, Tensor]) -> Tensor:
    return OPERATIONS[name]().augment(images, params)


@pytest.mark.parametrize("name", RECORDED)
def test_values_are_those_of_the_published_code(name, golden, relative_error):
    out = OPERATIONS[name]()(golden["images"], params=recorded(golden, name))
    assert relative_error(out, golden[f"{name}.out"]) < 1e-5


@pytest.mark.parametrize("name", RECORDED)
def test_one_row_of_parameters_holds_for_every_image(name, golden, relative_error):
    """The faster code for a single row (a slice for crop, one grid for scale and rotate) computes the same."""
    for row in range(6):
        params = {key: value[row : row + 1] for key, value in recorded(golden, name).items()}
        out = applied(name, golden["images"], params)
        assert relative_error(out[row], golden[f"{name}.out"][row]) < 1e-5


def test_color_is_brightness_then_saturation_then_contrast():
    images = noise(4, 3, 8, 8)
    params = drawn("color", images.shape)
    expected = images
    for name in ("brightness", "saturation", "contrast"):
        expected = applied(name, expected, params)
    assert torch.equal(applied("color", images, params), expected)
    assert not torch.equal(applied("contrast", applied("brightness", images, params), params), expected)


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_numbers_are_in_the_range_of_the_draws(name, golden):
    many = drawn(name, (4000, 3, 20, 20))
    for key, value in recorded(golden, name).items():
        assert many[key].min() <= value.min()
        assert value.max() <= many[key].max()


@pytest.mark.parametrize(
    ("name", "key", "low", "high"),
    [
        ("brightness", "brightness_offset", -0.5, 0.5),
        ("saturation", "saturation_factor", 0.0, 2.0),
        ("contrast", "contrast_factor", 0.5, 1.5),
        ("color", "brightness_offset", -0.5, 0.5),
        ("color", "saturation_factor", 0.0, 2.0),
        ("color", "contrast_factor", 0.5, 1.5),
        ("scale", "scale_x", 1 / 1.2, 1.2),
        ("scale", "scale_y", 1 / 1.2, 1.2),
        ("rotate", "radians", -math.pi / 12, math.pi / 12),
    ],
)
def test_uniform_ranges(name, key, low, high):
    """Of 20000 uniform numbers the mean and the deviation are within 5 standard errors of those of the range."""
    values = drawn(name, (20000, 3, 20, 20))[key].double()
    width = high - low
    assert low - 1e-6 <= values.min() < low + 0.01 * width
    assert high - 0.01 * width < values.max() <= high + 1e-6
    assert abs(values.mean() - (low + high) / 2) < 5 * width / math.sqrt(12 * 20000)
    assert abs(values.std() - width / math.sqrt(12)) < 0.01 * width


@pytest.mark.parametrize(
    ("size", "shift", "last_centre"),
    [(20, 3, 20), (32, 4, 32), (28, 4, 28), (5, 1, 4), (6, 1, 5), (64, 8, 64), (2, 0, 1)],
)
def test_integer_ranges(size, shift, last_centre):
    """Half a pixel rounds up; a square of even side may be centred one past the image, as published."""
    crop = drawn("crop", (6000, 1, size, size))
    cutout = drawn("cutout", (6000, 1, size, size))
    for name in ("rows", "cols"):
        assert sorted(set(crop[f"shift_{name}"].tolist())) == list(range(-shift, shift + 1))
        assert sorted(set(cutout[f"centre_{name}"].tolist())) == list(range(last_centre + 1))


def test_rows_and_columns_are_drawn_apart():
    for name in ("crop", "cutout", "scale"):
        first, second = drawn(name, (1000, 1, 32, 32)).values()
        assert not torch.equal(first, second)


def test_half_of_the_images_are_flipped():
    flipped = drawn("flip", (10000, 1, 8, 8))["flipped"].double()
    assert abs(float(flipped.mean()) - 0.5) < 5 * 0.5 / math.sqrt(10000)


@every_operation
def test_same_on_batch_repeats_one_draw(name):
    for value in OPERATIONS[name](same_on_batch=True).generate_parameters((5, 3, 8, 8)).values():
        assert value.shape == (5,)
        assert (value == value[0]).all()


@pytest.mark.parametrize("name", NEUTRAL)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("rows", [1, 4])
def test_neutral_settings_change_nothing(name, channels, rows):
    images = 2 * noise(4, channels, 9, 9)
    params = {key: torch.full((rows,), value) for key, value in NEUTRAL[name].items()}
    out = applied(name, images, params)
    torch.testing.assert_close(out, images, rtol=0, atol=SAMPLED.get(name, 0.0))


@every_operation
def test_nothing_clips(name):
    """An image of 5 and -5: values far from [0, 1] survive, and every kept pixel has a gradient."""
    images = torch.full((6, 3, 12, 12), 5.0)
    images[:, :, ::2] = -5.0
    images.requires_grad_()
    out = OPERATIONS[name]()(images, params=drawn(name, images.shape))
    assert out.max() > 2
    assert out.min() < -2
    (gradient,) = torch.autograd.grad(out.square().sum(), images)
    assert (gradient != 0).float().mean() > 0.5


@pytest.mark.slow
@every_operation
@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 3, 5, 5), (1, 3, 4, 4)])
def test_gradient(name, shape):
    images = noise(*shape, dtype=torch.float64).requires_grad_()
    params = drawn(name, shape, seed=3)
    assert torch.autograd.gradcheck(lambda x: applied(name, x, params), images)
    assert torch.autograd.gradcheck(lambda x: OPERATIONS[name]()(x, params=dict(params)), images)


@pytest.mark.parametrize("name", ["crop", "scale", "rotate", "flip", "cutout", "color"])
def test_gradient_of_one_row_for_all(name):
    images = noise(3, 2, 8, 8, dtype=torch.float64).requires_grad_()
    params = {key: value[:1] for key, value in drawn(name, images.shape, seed=3).items()}
    assert torch.autograd.gradcheck(lambda x: applied(name, x, params), images)


@every_operation
@pytest.mark.parametrize("shape", [(3, 1, 32, 32), (2, 3, 7, 7), (1, 3, 2, 2), (2, 4, 6, 10)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_dtype_are_kept(name, shape, dtype):
    images = noise(*shape, dtype=dtype)
    out = OPERATIONS[name]()(images)
    assert out.shape == images.shape
    assert out.dtype == dtype
    assert torch.isfinite(out).all()


@every_operation
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_costs_no_more_than_the_rounding_of_the_images(name, dtype, rounding, rows, autocast):
    images = torch.nn.functional.avg_pool2d(noise(4, 3, 128, 128), 9, 1, 4).to(dtype).requires_grad_()
    params = {key: value[:rows] for key, value in drawn(name, images.shape, seed=3).items()}
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        out = applied(name, images, params)
    exact = applied(name, images.detach().double(), params)
    assert out.dtype == dtype
    assert (out.double() - exact).abs().mean() <= 3 * rounding * exact.abs().mean()
    (gradient,) = torch.autograd.grad(out.float().square().sum(), images)
    assert gradient.dtype == dtype


@every_operation
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_empty_batch_passes(name, channels, dtype):
    images = torch.zeros(0, channels, 8, 6, dtype=dtype, requires_grad=True)
    for rows in (0, 1):
        out = applied(name, images, drawn(name, (rows, channels, 8, 6)))
        assert (out.shape, out.dtype) == (images.shape, dtype)
        (gradient,) = torch.autograd.grad(out.sum(), images)
        assert gradient.shape == images.shape
    with pytest.raises(ValueError, match=r"\(3,\).*\b0\b"):
        applied(name, images, drawn(name, (3, channels, 8, 6)))


@pytest.mark.slow
@settings(max_examples=40)
@given(
    name=st.sampled_from(sorted(OPERATIONS)),
    batch=st.integers(2, 6),
    channels=st.sampled_from([1, 3]),
    size=st.integers(2, 17),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_a_row_depends_on_its_own_row_alone(name, batch, channels, size, seed, data):
    row = data.draw(st.integers(0, batch - 1))
    images = noise(batch, channels, size, size, seed=seed)
    params = drawn(name, images.shape, seed=seed)
    others = noise(batch, channels, size, size, seed=seed + 1)
    others[row] = images[row]
    out = applied(name, images, params)
    assert torch.equal(applied(name, others, params)[row], out[row])
    alone = applied(name, images[row : row + 1], {key: value[row : row + 1] for key, value in params.items()})
    torch.testing.assert_close(alone[0], out[row], rtol=1e-5, atol=1e-5)


@settings(max_examples=40)
@given(size=st.integers(2, 15), seed=st.integers(0, 2**31), largest=st.integers(0, 20))
def test_crop_and_cutout_equal_loops(size, seed, largest):
    """A second implementation, pixel by pixel, from the published description; also for shifts beyond the image."""
    images = noise(3, 2, size, size, seed=seed) + 10
    generator = torch.Generator().manual_seed(seed)
    shifts = torch.randint(-largest, largest + 1, (2, 3), generator=generator)
    cropped = applied("crop", images, {"shift_rows": shifts[0], "shift_cols": shifts[1]})
    centres = torch.randint(0, size, (2, 3), generator=generator)
    cut = applied("cutout", images, {"centre_rows": centres[0], "centre_cols": centres[1]})
    side = int(size / 2 + 0.5)
    for i in range(3):
        expected = images[i].clone()
        for a in range(side):
            for b in range(side):
                r, c = (int(centres[k, i]) - side // 2 + j for k, j in ((0, a), (1, b)))
                expected[:, min(max(r, 0), size - 1), min(max(c, 0), size - 1)] = 0
        assert torch.equal(cut[i], expected)
        for r in range(size):
            for c in range(size):
                y, x = r + int(shifts[0, i]), c + int(shifts[1, i])
                inside = 0 <= y < size and 0 <= x < size
                assert torch.equal(cropped[i, :, r, c], images[i, :, y, x] if inside else torch.zeros(2))


@every_operation
def test_parameters_of_another_batch_size_are_refused(name):
    params = drawn(name, (3, 3, 8, 8))
    with pytest.raises(ValueError, match=r"\(3,\).*\b4\b"):
        applied(name, noise(4, 3, 8, 8), params)


@every_operation
def test_replay_gives_the_same_result(name):
    images, operation = noise(4, 3, 16, 16), OPERATIONS[name]()
    out = operation(images)
    assert torch.equal(operation(images, params=operation._params), out)


@every_operation
@pytest.mark.parametrize("same_on_batch", [False, True])
def test_inside_a_kornia_sequence_with_other_augmentations(name, same_on_batch):
    """Shape, replay and gradients next to Kornia's own augmentations."""
    images = noise(4, 3, 16, 16).requires_grad_()
    sequence = K.AugmentationSequential(
        OPERATIONS[name](same_on_batch=same_on_batch),
        K.RandomGaussianBlur((3, 3), (0.5, 1.5), p=1.0),
        K.RandomHorizontalFlip(p=0.5),
        data_keys=["input"],
    )
    out = sequence(images)
    assert out.shape == images.shape
    assert torch.equal(sequence(images, params=sequence._params), out)
    (gradient,) = torch.autograd.grad(out.square().sum(), images)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0


@every_operation
def test_probability_of_application_is_kornias(name):
    images = noise(64, 3, 8, 8)
    assert torch.equal(OPERATIONS[name](p=0.0)(images), images)
    operation = OPERATIONS[name](p=0.5)
    out = operation(images)
    skipped = operation._params["batch_prob"] < 0.5
    assert 0 < int(skipped.sum()) < 64
    assert torch.equal(out[skipped], images[skipped])
    assert not torch.equal(out[~skipped], images[~skipped])


@every_operation
def test_one_image_without_a_batch(name):
    image = noise(3, 8, 8)
    assert OPERATIONS[name](keepdim=True)(image).shape == image.shape


@every_operation
def test_only_images_are_augmented(name):
    """A mask that stays where it was would be wrong without a warning."""
    operation = OPERATIONS[name]()
    with pytest.raises(NotImplementedError):
        K.AugmentationSequential(operation, data_keys=["input", "mask"])(noise(2, 1, 8, 8), noise(2, 1, 8, 8))
    assert operation.transform_matrix.isnan().all()


@every_operation
def test_copies_and_pickles(name):
    images, operation = noise(3, 3, 8, 8), OPERATIONS[name]()
    out = operation(images)
    for twin in (copy.deepcopy(operation), pickle.loads(pickle.dumps(operation))):  # noqa: S301 (our own)
        assert torch.equal(twin(images, params=operation._params), out)
    assert not operation.state_dict()


def test_repr_states_the_ranges():
    assert "brightness_offset=(-0.5, 0.5)" in repr(DSABrightness())
    assert "ratio=0.125" in repr(DSACrop())
    assert "ratio=0.5" in repr(DSACutout())
    assert "probability=0.5" in repr(DSAFlip())
