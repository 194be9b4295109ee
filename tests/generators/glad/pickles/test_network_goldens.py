"""Official files are read to the last number, whoever wrote them and in whatever protocol."""

import json
import math
import pickletools
from pathlib import Path

import numpy
import pytest
import torch

from ld3m_plugin.generators.glad.pickles.network import expected_tensors, network_of, read_network
from ld3m_plugin.generators.glad.pickles.stand_ins import Record, read_network_pickle
from ld3m_plugin.generators.glad.stylegan_shape import make_shape

STEM = {"stem_layers": 7, "classes": 12, "z_dim": 16, "w_dim": 24, "embed_dim": 20, "margin": 4}
CHANNELS = {"channel_base": 512, "channel_max": 32}


def facts(golden, size):
    return json.loads(golden(size).with_suffix(".json").read_text())


def equal(first, second):
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


def swapped(data, old, new):
    """Short texts of a pickle replaced, with the lengths of the texts and of the frames around them."""
    return pickletools.optimize(data.replace(bytes([0x8C, len(old)]) + old, bytes([0x8C, len(new)]) + new))


@pytest.mark.parametrize("size", [16, 64])
def test_names_and_shapes_are_those_of_the_golden(golden, size):
    shape, tensors = read_network(golden(size))
    known = facts(golden, size)
    expected = {name: tuple(sides) for name, sides in (known["parameters"] | known["buffers"]).items()}
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == expected
    assert expected_tensors(shape) == expected
    assert [layer.name for layer in shape.layers] == known["layer_names"]
    assert (shape.num_ws, shape.image_size) == (known["num_ws"], known["img_resolution"])
    for name, tensor in tensors.items():
        assert tensor.dtype == torch.float32, name
        assert tensor.isfinite().all(), name
        assert not tensor.requires_grad, name


@pytest.mark.parametrize(("size", "resolutions", "head"), [(16, (16,), 0), (64, (16, 32, 64), 4)])
def test_numbers_are_those_of_the_rules(golden, size, resolutions, head):
    shape, _ = read_network(golden(size))
    by_rule = make_shape(resolutions=resolutions, head_layers=head, **STEM, **CHANNELS)
    for layer, other in zip(shape.layers, by_rule.layers, strict=True):
        for name, value in vars(layer).items():
            if isinstance(value, float):
                assert math.isclose(value, getattr(other, name), rel_tol=1e-12), (layer.name, name)
            else:
                assert value == getattr(other, name), (layer.name, name)
    for name in ("z_dim", "w_dim", "classes", "embed_dim", "mapping_layers", "mapping_rate", "output_scale"):
        assert getattr(shape, name) == getattr(by_rule, name)
    for name in ("image_size", "image_channels", "input_channels", "input_size", "input_rate", "bandwidth"):
        assert getattr(shape, name) == getattr(by_rule, name)


def test_values_are_the_bytes_in_the_file(golden):
    """The floats at the end of each storage, found without reading the pickle as one."""
    data = golden(16).read_bytes()
    blobs = [argument for _, argument, _ in pickletools.genops(data) if isinstance(argument, bytes)]
    blobs = {blob for blob in blobs if b"FloatStorage" in blob}
    _, tensors = read_network(golden(16))
    for name, tensor in tensors.items():
        count = tensor.numel()
        found = tensor.numpy().tobytes()
        assert any(blob[-4 * count :] == found for blob in blobs), name
    assert numpy.allclose(tensors["synthesis.L0_24_32.up_filter"].sum(), 1)


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol(entries, golden, write, protocol):
    path = write(entries(), protocol)
    shape, tensors = read_network(path)
    expected_shape, expected = read_network(golden(16))
    assert shape == expected_shape
    assert equal(tensors, expected)


def test_names_of_numpy_1(golden, tmp_path):
    path = tmp_path / "old.pkl"
    path.write_bytes(swapped(golden(64).read_bytes(), b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert b"numpy._core" not in path.read_bytes()
    assert equal(read_network(path)[1], read_network(golden(64))[1])


def test_a_discriminator_written_by_dill_is_read_over(entries):
    """By dill 0.3.6, as the released code uses it: hooks with code objects, bound methods, layers of torch, a class written
    out whole because a function hides its module (as torch's spectral norm, which those discriminators have)."""
    dilled = read_network_pickle(Path(__file__).with_name("dill_discriminator.pkl"))
    assert dilled["G_ema"].class_name == "Generator"
    model = dilled["D"].state["_modules"]["model"].state
    (hook,) = model["_modules"]["0"].state["_forward_hooks"].values()
    assert type(hook) is Record
    assert hook.class_name == "dill._dill._create_function"
    (hook,) = dilled["D"].state["_modules"]["extra"].state["_forward_pre_hooks"].values()
    assert hook.class_name == "builtins.object"
    assert hook.state == {"name": "weight", "power": 1}
    shape, tensors = network_of({**entries(), "D": dilled["D"]}, "network.pkl")
    assert tensors.keys() == expected_tensors(shape).keys()


def test_the_network_is_found_in_g_without_an_average(entries, golden):
    changed = {**entries(), "G_ema": None}
    assert equal(network_of(changed, "network.pkl")[1], read_network(golden(16))[1])
    # The average comes first where there are both.
    changed = {**entries(), "G": Record("Other", {})}
    assert equal(network_of(changed, "network.pkl")[1], read_network(golden(16))[1])


def unconditional(entries, as_record, keep_embedding=False):
    content = entries()
    network = content["G_ema"].state
    mapping = network["_modules"]["mapping"].state
    network["c_dim"] = mapping["c_dim"] = 0
    del mapping["_modules"]["embed_proj"]
    if not keep_embedding:
        del mapping["_modules"]["embed"]
    # The first row of averages, and of each weight the part that multiplies z.
    averages, weight = mapping["_buffers"], mapping["_modules"]["fc0"].state["_parameters"]
    averages["w_avg"] = as_record(averages["w_avg"], lambda values: values[0])
    weight["weight"] = as_record(weight["weight"], lambda values: values[:, :16])
    mapping["_modules"]["fc0"].state |= {"in_features": 16, "weight_gain": 0.01 / 4}
    return content


@pytest.mark.parametrize("keep_embedding", [False, True])
def test_an_unconditional_network(entries, as_record, keep_embedding):
    """One of StyleGAN3, or one of StyleGAN-XL, which carries an embedding it never reads."""
    shape, tensors = network_of(unconditional(entries, as_record, keep_embedding), "network.pkl")
    assert (shape.classes, shape.embed_dim) == (0, 0)
    assert tensors["mapping.w_avg"].shape == (24,)
    assert not [name for name in tensors if "embed" in name]


def test_embeddings_of_other_classes_are_cut_off(entries, golden, as_record):
    content = entries()
    network = content["G_ema"].state
    mapping = network["_modules"]["mapping"].state
    network["c_dim"] = mapping["c_dim"] = 10
    mapping["_buffers"]["w_avg"] = as_record(mapping["_buffers"]["w_avg"], lambda values: values[:10])
    shape, tensors = network_of(content, "network.pkl")
    assert shape.classes == 10
    assert torch.equal(tensors["mapping.embed.weight"], read_network(golden(16))[1]["mapping.embed.weight"][:10])


def test_half_precision_is_widened(entries, golden, as_record):
    content = entries()
    parameters = content["G_ema"].state["_modules"]["synthesis"].state["_modules"]["L0_24_32"].state["_parameters"]
    parameters["weight"] = as_record(parameters["weight"], lambda values: values.half())
    _, tensors = network_of(content, "network.pkl")
    assert tensors["synthesis.L0_24_32.weight"].dtype == torch.float32
    assert torch.equal(
        tensors["synthesis.L0_24_32.weight"],
        read_network(golden(16))[1]["synthesis.L0_24_32.weight"].half().float(),
    )


def test_a_radial_filter_has_two_dimensions():
    shape = make_shape(resolutions=(16,), head_layers=0, radial=True, **STEM, **CHANNELS)
    expected = expected_tensors(shape)
    plain, critical = shape.layers[0].name, shape.layers[-2].name
    assert expected[f"synthesis.{plain}.down_filter"] == (12, 12)
    assert expected[f"synthesis.{critical}.down_filter"] == (12,)
