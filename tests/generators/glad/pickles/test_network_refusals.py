"""Networks that this version does not read: one line that names the module or the tensor, and says what is wrong with it."""

import numpy
import pytest
import torch

from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.glad.pickles.network import network_of
from ld3m_plugin.generators.glad.pickles.stand_ins import Record

LAYER = "synthesis.L2_24_32"
#: Of numpy, with a dictionary for the state of its dtype.
ODD_NUMBER = Record("numpy.core.multiarray.scalar", arguments=(Record("numpy.dtype", {"a": 1}, ("f8",)), bytes(8)))


def at(entries, place):
    """State of the module at a place in the network."""
    state = entries["G_ema"].state
    for name in place.split(".") if place else ():
        state = state["_modules"][name].state
    return state


def bad_storage(data, shape=(32,), stride=(1,)):
    storage = Record("torch.storage._load_from_bytes", arguments=(data,))
    return Record("torch._utils._rebuild_tensor_v2", arguments=(storage, 0, shape, stride))


@pytest.fixture
def refused(entries):
    def refuse(change):
        content = dict(entries())
        change(content)
        with pytest.raises(PriorError) as excinfo:
            network_of(content, "network.pkl")
        message = str(excinfo.value)
        assert message.startswith("network.pkl")
        assert message.isascii()
        assert "\n" not in message
        assert len(message) < 400
        return message.removeprefix("network.pkl")

    return refuse


@pytest.mark.parametrize(
    ("place", "name", "value", "named"),
    [
        (LAYER, "padding", [9, 9, 9, 9], f"{LAYER}.padding"),
        (LAYER, "padding", None, f"{LAYER}.padding"),
        (LAYER, "padding", numpy.array([9, 8, 9, 8]), f"{LAYER}.padding"),
        (LAYER, "up_factor", 4, f"{LAYER}.up_factor is 4, not 2"),
        (LAYER, "down_factor", 1, f"{LAYER}.down_factor is 1, not 2"),
        (LAYER, "tmp_sampling_rate", 64, f"{LAYER}.tmp_sampling_rate is 64, not 32"),
        (LAYER, "up_taps", 8, f"{LAYER}.up_taps is 8, not 12"),
        (LAYER, "up_taps", None, f"{LAYER}.up_taps"),
        (LAYER, "down_taps", 8, f"{LAYER}.down_taps is 8, not 12"),
        (LAYER, "down_radial", True, f"{LAYER}.down_radial is True, not False"),
        (LAYER, "down_radial", 0, f"{LAYER}.down_radial is 0, not False"),
        (LAYER, "filter_size", 4, f"{LAYER}.up_taps is 12, not 8"),
        (LAYER, "filter_size", 0, "L2_24_32"),
        (LAYER, "filter_size", True, f"{LAYER}.filter_size"),
        (LAYER, "filter_size", 2**20, f"{LAYER}.up_taps"),
        (LAYER, "conv_kernel", 2**20, LAYER),
        (LAYER, "in_sampling_rate", 16.5, f"{LAYER}.in_sampling_rate"),
        (LAYER, "in_sampling_rate", 0, "L2_24_32"),
        (LAYER, "in_sampling_rate", 2**100, f"{LAYER}.in_sampling_rate"),
        (LAYER, "in_cutoff", float("nan"), f"{LAYER}.in_cutoff"),
        (LAYER, "in_cutoff", float("inf"), f"{LAYER}.in_cutoff"),
        (LAYER, "in_cutoff", "2.0", f"{LAYER}.in_cutoff"),
        (LAYER, "in_cutoff", numpy.array([{}]), f"{LAYER}.in_cutoff"),
        (LAYER, "in_cutoff", -1.0, "L2_24_32"),
        (LAYER, "conv_clamp", 0, "L2_24_32"),
        (LAYER, "conv_clamp", "256", f"{LAYER}.conv_clamp"),
        (LAYER, "is_torgb", True, "L2_24_32"),
        (LAYER, "is_critically_sampled", None, f"{LAYER}.is_critically_sampled"),
        (LAYER, "in_size", numpy.array([24, 32]), f"{LAYER}.in_size"),
        (LAYER, "out_size", numpy.array([1, 2, 3]), f"{LAYER}.out_size"),
        (LAYER, "out_size", numpy.zeros(0, int), f"{LAYER}.out_size"),
        (LAYER, "in_channels", 16, "L2_24_32"),
        (LAYER, "w_dim", 25, f"{LAYER}.w_dim is 25, not 24"),
        (f"{LAYER}.affine", "weight_gain", 1.0, f"{LAYER}.affine.weight_gain"),
        (f"{LAYER}.affine", "activation", "relu", f"{LAYER}.affine.activation is relu, not linear"),
        ("mapping.fc1", "weight_gain", 0.5, "mapping.fc1.weight_gain"),
        ("mapping.fc1", "bias_gain", 1, "mapping.fc1.bias_gain is 1, not 0.01"),
        ("mapping.fc0", "bias_gain", 0, "mapping"),
        ("mapping.fc0", "in_features", 16, "mapping.fc0.in_features is 16, not 32"),
        ("mapping.embed_proj", "bias_gain", 0.01, "mapping.embed_proj.bias_gain is 0.01, not 1"),
        ("mapping.embed", "max_norm", 1.0, "mapping.embed.max_norm"),
        ("mapping.embed", "embedding_dim", 0, "mapping.embed_proj.in_features is 20, not 0"),
        ("mapping", "num_layers", 3, "mapping.fc2"),
        ("mapping", "num_layers", 10**6, "mapping.num_layers is 1000000"),
        ("mapping", "num_ws", 8, "mapping.num_ws is 8, not 9"),
        ("mapping", "c_dim", 11, "mapping.c_dim is 11, not 12"),
        ("synthesis", "layer_names", None, "synthesis.layer_names"),
        ("synthesis", "layer_names", [], "names []"),
        ("synthesis", "layer_names", ["L0_24_32", "L0_24_32"], "L0_24_32"),
        ("synthesis", "layer_names", ["L0_24_32"] * 10**5, "synthesis.layer_names"),
        ("synthesis", "layer_names", ["L0_24_32", "../../x"], "../../x"),
        ("synthesis", "layer_names", ["L0_24_32", "L9_9_9"], "synthesis.L9_9_9"),
        ("synthesis", "output_scale", None, "synthesis.output_scale"),
        ("synthesis.input", "bandwidth", 8.0, "bandwidth 8.0"),
        ("synthesis.input", "size", numpy.array([23, 23]), "L0_24_32"),
        ("", "img_resolution", 32, "3x16"),
        ("", "c_dim", -1, "c_dim"),
        ("", "z_dim", 0, "z_dim"),
        ("", "z_dim", ODD_NUMBER, "z_dim"),
        ("", "_modules", [], "_modules"),
        ("synthesis", "_modules", 5, "synthesis has no _modules"),
        ("", "num_ws", 12, "num_ws is 12, not 9"),
    ],
)
def test_numbers_that_do_not_fit(refused, as_record, place, name, value, named):
    value = as_record(value) if isinstance(value, numpy.ndarray) else value
    assert named in refused(lambda entries: at(entries, place).update({name: value}))


@pytest.mark.parametrize("name", ["in_cutoff", "conv_clamp", "padding", "up_taps", "_parameters", "_buffers"])
def test_what_is_missing_is_named(refused, name):
    assert name in refused(lambda entries: at(entries, LAYER).pop(name))


@pytest.mark.parametrize(
    ("group", "name", "value", "named"),
    [
        ("_parameters", "weight", None, f"{LAYER}.weight"),
        ("_parameters", "weight", [1.0], f"{LAYER}.weight"),
        ("_parameters", "weight", Record("torch._utils._rebuild_parameter"), f"{LAYER}.weight"),
        ("_parameters", "extra", torch.ones(2), f"{LAYER}.extra"),
        ("_parameters", "bias", torch.ones(3), f"{LAYER}.bias"),
        ("_parameters", "bias", torch.full((32,), float("nan")), f"{LAYER}.bias"),
        ("_parameters", "bias", torch.full((32,), float("inf")), f"{LAYER}.bias"),
        ("_parameters", "bias", torch.ones(32, dtype=torch.long), f"{LAYER}.bias of torch.int64"),
        ("_parameters", "bias", bad_storage(b"bad"), f"{LAYER}.bias"),
        ("_parameters", "bias", bad_storage("text"), f"{LAYER}.bias"),
        ("_parameters", "bias", bad_storage(b"x" * 200, shape=("32",)), f"{LAYER}.bias"),
        ("_parameters", "bias", bad_storage(b"x" * 200, shape=(32,) * 9, stride=(1,) * 9), f"{LAYER}.bias"),
        ("_buffers", "magnitude_ema", torch.zeros(()), f"{LAYER}.magnitude_ema"),
        ("_buffers", "up_filter", None, f"{LAYER}.up_filter"),
        ("_modules", "affine", None, f"{LAYER}.affine"),
        ("_modules", "affine", Record("Other", {}), f"{LAYER}.affine.class is Other, not FullyConnectedLayer"),
        ("_modules", "affine", "text", f"{LAYER}.affine"),
    ],
)
def test_tensors_and_modules_that_do_not_fit(refused, as_record, group, name, value, named):
    value = as_record(value) if isinstance(value, torch.Tensor) else value
    assert named in refused(lambda entries: at(entries, LAYER)[group].update({name: value}))


def test_other_kinds_of_networks(refused):
    def kind(name):
        return lambda entries: entries.update({"G_ema": Record(name, at(entries, ""))})

    assert "Discriminator" in refused(kind("Discriminator"))
    tensorflow = Record("dnnlib.tflib.network.Network", {"version": 4})
    assert "dnnlib.tflib.network.Netw" in refused(lambda entries: entries.update(G_ema=tensorflow))
    assert "the network" in refused(lambda entries: entries.update(G_ema=3))
    assert "G_ema" in refused(lambda entries: entries.update(G_ema=None, G=None))
    assert "G_ema" in refused(lambda entries: entries.clear())


def test_stylegan2(refused):
    def change(entries):
        at(entries, "synthesis")["_modules"] = {"b4": Record("SynthesisBlock", {}), "b8": Record("SynthesisBlock", {})}

    assert "StyleGAN2" in refused(change)


def test_conditional_stylegan3(refused):
    def change(entries):
        at(entries, "mapping")["_modules"]["embed"] = Record("FullyConnectedLayer", at(entries, "mapping.fc0"))

    assert "class-conditional StyleGAN3" in refused(change)


def test_modules_that_share_modules(refused):
    """Three levels of names that all lead to the same module would be a walk of names to the third power."""

    def change(entries):
        leaf = Record("Leaf", {"_parameters": {}, "_buffers": {}, "_modules": {}})
        middle = Record(
            "Middle", {"_parameters": {}, "_buffers": {}, "_modules": dict.fromkeys(map(str, range(300)), leaf)}
        )
        at(entries, "")["_modules"]["more"] = middle

    assert "more.1." in refused(change)


def test_tensors_that_share_their_numbers(refused):
    def change(content):
        shared = at(content, LAYER)["_parameters"]["weight"]
        for place in ("L0_24_32", "L1_24_32", "L3_24_32", "L4_24_32", "L5_24_32", "L6_16_32"):
            at(content, f"synthesis.{place}")["_parameters"]["weight"] = shared

    assert ".weight" in refused(change)


def test_storages_that_share_their_bytes(refused):
    """Records of their own over the same bytes would each be loaded."""

    def change(content):
        (tensor, *_) = at(content, LAYER)["_parameters"]["weight"].arguments
        storage, *view = tensor.arguments
        for place in ("L0_24_32", "L1_24_32", "L3_24_32", "L4_24_32", "L5_24_32", "L6_16_32"):
            copy = Record(storage.class_name, arguments=storage.arguments)
            weight = Record(tensor.class_name, arguments=(copy, *view))
            at(content, f"synthesis.{place}")["_parameters"]["weight"] = weight

    assert ".weight" in refused(change)


def test_names_in_messages_are_plain(refused):
    def change(content):
        at(content, "")["_modules"]["\x1b]0;title\x07" + "a" * 500] = Record("X", None)

    assert "title" in refused(change)


def test_a_network_inside_itself(refused):
    """A cycle, which a pickle can have."""

    def change(entries):
        state = at(entries, LAYER)
        state["_modules"]["self"] = Record("SynthesisLayer", state)

    assert f"{LAYER}.self" in refused(change)
