"""Networks that this version does not read: one line that names the module or the tensor, and says what is wrong with it."""

import numpy
import pytest
import torch

from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.glad.pickles.arrays import NumberArray
from ld3m_plugin.generators.glad.pickles.network import network_of
from ld3m_plugin.generators.glad.pickles.records import Record
from ld3m_plugin.generators.glad.pickles.storages import StoredNumbers, StoredTensor

LAYER = "synthesis.L2_24_32"


def at(entries, place):
    """State of the module at a place in the network."""
    state = entries["G_ema"].state
    for name in place.split(".") if place else ():
        state = state["_modules"][name].state
    return state


def sizes(*sides):
    array = NumberArray()
    array.values = numpy.array(sides)
    return array


def tensor(values):
    storage = StoredNumbers(bytes(values.numel() * values.element_size()))
    storage.__dict__["numbers"] = values.flatten()
    return StoredTensor(storage, 0, tuple(values.shape), values.stride())


@pytest.fixture
def refused(entries):
    def refuse(change):
        content = dict(entries())
        change(content)
        with pytest.raises(PriorError) as excinfo:
            network_of(content, "network.pkl")
        message = str(excinfo.value)
        assert message.startswith("network.pkl")
        assert "\n" not in message
        return message.removeprefix("network.pkl").lstrip(": ")

    return refuse


@pytest.mark.parametrize(
    ("place", "name", "value", "reason"),
    [
        (LAYER, "padding", [9, 9, 9, 9], f"{LAYER} has padding = [9, 9, 9, 9], not [9, 8, 9, 8]: this version"),
        (LAYER, "padding", None, f"{LAYER} has no padding of four sides"),
        (LAYER, "up_factor", 4, f"{LAYER} has up_factor x in_sampling_rate = 64, not 32: this version"),
        (LAYER, "down_factor", 1, f"{LAYER} has down_factor x out_sampling_rate = 16, not 32"),
        (LAYER, "tmp_sampling_rate", 64, f"{LAYER} has tmp_sampling_rate = 64, not 32"),
        (LAYER, "up_taps", 8, f"{LAYER} has up_taps = 8, not 12"),
        (LAYER, "down_taps", 8, f"{LAYER} has down_taps = 8, not 12"),
        (LAYER, "down_radial", True, f"{LAYER} has down_radial = True, not False"),
        (LAYER, "filter_size", 4, f"{LAYER} has up_taps = 12, not 8"),
        (LAYER, "filter_size", 0, f"{LAYER} has filter_size = 0, not a whole number from 1"),
        (LAYER, "in_sampling_rate", 16.5, f"{LAYER} has in_sampling_rate = 16.5, not a whole number"),
        (LAYER, "in_sampling_rate", 2**100, f"{LAYER} has in_sampling_rate = "),
        (LAYER, "in_cutoff", float("nan"), f"{LAYER} has no number in_cutoff"),
        (LAYER, "in_cutoff", "2.0", f"{LAYER} has no number in_cutoff"),
        (LAYER, "in_cutoff", -1.0, f"{LAYER} has a cutoff, width or clamp that no filter can have"),
        (LAYER, "conv_clamp", 0, f"{LAYER} has a cutoff, width or clamp that no filter can have"),
        (LAYER, "is_torgb", True, f"{LAYER} has "),
        (LAYER, "is_critically_sampled", None, f"{LAYER} does not say is_critically_sampled"),
        (
            LAYER,
            "in_size",
            sizes(24, 32),
            f"{LAYER} has in_size = 24 x 32: this version reads networks of square images",
        ),
        (LAYER, "out_size", sizes(1, 2, 3), f"{LAYER} has no size out_size"),
        (LAYER, "in_channels", 16, f"{LAYER} has input (channels, size, rate) = "),
        (LAYER, "w_dim", 25, f"{LAYER} has w_dim = 25, not 24"),
        (f"{LAYER}.affine", "weight_gain", 1.0, f"{LAYER}.affine has weight_gain = 1, not 0.204124"),
        (f"{LAYER}.affine", "activation", "relu", f"{LAYER}.affine has activation = relu, not linear"),
        ("mapping.fc1", "weight_gain", 0.5, "mapping.fc1 has weight_gain = 0.5, not 0.00204124"),
        ("mapping.fc1", "bias_gain", 1, "mapping.fc1 has bias_gain = 1, not 0.01"),
        ("mapping.fc0", "bias_gain", 0, "mapping has the learning rate multiplier 0"),
        ("mapping.fc0", "in_features", 16, "mapping.fc0 has in_features = 16, not 32"),
        ("mapping.embed_proj", "bias_gain", 0.01, "mapping.embed_proj has bias_gain = 0.01, not 1"),
        ("mapping.embed", "max_norm", 1.0, "mapping has an embedding with max_norm"),
        ("mapping", "num_layers", 3, "mapping has no fc2"),
        ("mapping", "num_layers", 10**6, "mapping has 1000000 layers"),
        ("mapping", "num_ws", 8, "mapping has num_ws = 8, not 9"),
        ("mapping", "c_dim", 11, "mapping has c_dim = 11, not 12"),
        ("synthesis", "layer_names", None, "synthesis has no layer_names"),
        ("synthesis", "layer_names", ["L0_24_32", "L0_24_32"], "synthesis has the same layer twice"),
        ("synthesis", "layer_names", ["L0_24_32", "../../x"], "synthesis has a layer named ../../x"),
        ("synthesis", "layer_names", ["L0_24_32", "L9_9_9"], "synthesis has no L9_9_9"),
        ("synthesis", "output_scale", None, "synthesis has no number output_scale"),
        ("synthesis.input", "bandwidth", 8.0, "synthesis.input has bandwidth 8 at the rate 16"),
        ("synthesis.input", "size", sizes(23, 23), "synthesis.L0_24_32 has input (channels, size, rate) = "),
        ("", "img_resolution", 32, "the network says its images are (3, 32), and its layers make (3, 16)"),
        ("", "c_dim", -1, "the network has c_dim = -1"),
        ("", "_modules", [], "the network has no _modules"),
        ("", "num_ws", 12, "the network has num_ws = 12, not 9"),
    ],
)
def test_numbers_that_do_not_fit(refused, place, name, value, reason):
    assert refused(lambda entries: at(entries, place).update({name: value})).startswith(reason)


@pytest.mark.parametrize(
    ("group", "name", "value", "reason"),
    [
        ("_parameters", "weight", None, f"lacks {LAYER}.weight"),
        ("_parameters", "weight", [1.0], f"{LAYER} has a list as weight, not a tensor"),
        ("_parameters", "extra", tensor(torch.ones(2)), f"has the unexpected {LAYER}.extra"),
        (
            "_parameters",
            "bias",
            tensor(torch.ones(3)),
            f"does not fit its own numbers: {LAYER}.bias is (3,), not (32,)",
        ),
        (
            "_parameters",
            "bias",
            tensor(torch.full((32,), float("nan"))),
            f"{LAYER}.bias has values that are not finite",
        ),
        ("_parameters", "bias", tensor(torch.ones(32, dtype=torch.long)), f"{LAYER}.bias has values of int64"),
        ("_parameters", "bias", StoredTensor(StoredNumbers(b"bad"), 0, (32,), (1,)), f"{LAYER}.bias cannot be read"),
        ("_buffers", "magnitude_ema", tensor(torch.zeros(())), f"{LAYER}.magnitude_ema is 0, and features"),
        ("_buffers", "up_filter", None, f"lacks {LAYER}.up_filter"),
        ("_modules", "affine", None, f"{LAYER} has no affine"),
        ("_modules", "affine", Record("Other", {}), f"{LAYER}.affine is a Other, not a FullyConnectedLayer"),
        ("_modules", "affine", "text", f"{LAYER}.affine is a str, not a module"),
    ],
)
def test_tensors_and_modules_that_do_not_fit(refused, group, name, value, reason):
    assert refused(lambda entries: at(entries, LAYER)[group].update({name: value})).startswith(reason)


def test_other_kinds_of_networks(refused):
    def kind(name):
        return lambda entries: entries.update({"G_ema": Record(name, at(entries, ""))})

    assert refused(kind("Discriminator")).startswith(
        "the network is a Discriminator: this version reads Generator and Super"
    )
    tensorflow = Record("dnnlib.tflib.network.Network", {"version": 4})
    assert refused(lambda entries: entries.update(G_ema=tensorflow)).startswith(
        "the network is a dnnlib.tflib.network.Netw"
    )
    assert refused(lambda entries: entries.update(G_ema=3)).startswith("the network is a int, not a module")
    assert refused(lambda entries: entries.update(G_ema=None, G=None)).startswith("has neither G_ema nor G")
    assert refused(lambda entries: entries.clear()).startswith("has neither G_ema nor G")


def test_stylegan2(refused):
    def change(entries):
        at(entries, "synthesis")["_modules"] = {"b4": Record("SynthesisBlock", {}), "b8": Record("SynthesisBlock", {})}

    assert refused(change) == "the network is of StyleGAN2 (synthesis.b4): this version reads StyleGAN-XL"


def test_conditional_stylegan3(refused):
    def change(entries):
        at(entries, "mapping")["_modules"]["embed"] = Record("FullyConnectedLayer", at(entries, "mapping.fc0"))

    assert refused(change).startswith("the network is a class-conditional StyleGAN3, which maps classes in another way")


def test_modules_that_share_modules(refused):
    """Three levels of names that all lead to the same module would be a walk of names to the third power."""

    def change(entries):
        leaf = Record("Leaf", {"_parameters": {}, "_buffers": {}, "_modules": {}})
        middle = Record(
            "Middle", {"_parameters": {}, "_buffers": {}, "_modules": dict.fromkeys(map(str, range(300)), leaf)}
        )
        at(entries, "")["_modules"]["more"] = middle

    assert "has 1, which is in the network twice" in refused(change)


def test_tensors_that_share_their_numbers(refused, entries):
    def change(content):
        layer = at(content, LAYER)["_parameters"]
        storage = layer["weight"].storage
        for place in ("synthesis.L0_24_32", "synthesis.L1_24_32", "synthesis.L3_24_32", "synthesis.L4_24_32"):
            at(content, place)["_parameters"]["weight"] = layer["weight"]
        at(content, "synthesis.L5_24_32")["_parameters"]["weight"] = layer["weight"]
        at(content, "synthesis.L6_16_32")["_parameters"]["weight"] = layer["weight"]
        assert storage is layer["weight"].storage

    assert "shares its storage of" in refused(change)


def test_names_in_messages_are_plain(refused):
    def change(content):
        at(content, "")["_modules"]["\x1b]0;title\x07" + "a" * 500] = Record("X", None)

    message = refused(change)
    assert "\x1b" not in message
    assert len(message) < 400


def test_a_network_inside_itself(refused):
    """A cycle, which a pickle can have."""

    def change(entries):
        state = at(entries, LAYER)
        state["_modules"]["self"] = Record("SynthesisLayer", state)

    assert "which is in the network twice" in refused(change)
