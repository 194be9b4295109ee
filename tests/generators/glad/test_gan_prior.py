"""GAN priors on disk and on the command line: write, convert, describe, and refuse damaged ones.

The published networks are `tests/data/stylegan_xl_*.pkl`, with their values as `test_golden_networks.py` says.
"""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from ld3m_plugin.backends import get_generator
from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.glad.gan_convert import convert
from ld3m_plugin.generators.glad.gan_folder import digest, load_network, save_network
from ld3m_plugin.generators.glad.gan_kind import GanKind
from ld3m_plugin.priors.prior_json import PriorFacts
from ld3m_plugin.priors.service import convert_prior, kind_of
from ld3m_plugin.testing import tiny_task


def edit(path, **values):
    """Change values of a JSON file; None removes one."""
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


@pytest.mark.parametrize("half", [False, True])
def test_what_is_written_is_read_back(network, tmp_path, half):
    small = network()
    save_network(tmp_path / "prior", small.shape, small.state_dict(), PriorFacts(), half=half)
    read, _ = load_network(tmp_path / "prior")
    assert read.shape == small.shape
    for name, tensor in small.state_dict().items():
        stored = read.state_dict()[name]
        assert stored.dtype == torch.float32
        whole = not half or name.endswith(("freqs", "phases", "_filter"))
        assert torch.equal(stored, tensor if whole else tensor.half().float()), name


def test_freezing_does_not_change_what_is_rendered(prior):
    network, _ = load_network(prior())
    ws = torch.randn(2, network.shape.num_ws, network.shape.w_dim)
    before = network.eval().synthesis(ws).detach()
    assert torch.allclose(network.freeze().synthesis(ws), before, atol=1e-6)
    assert not any(p.requires_grad for p in network.parameters())


def test_the_digest_is_of_what_makes_the_prior(prior):
    folder = prior()
    first = digest(folder)
    (folder / "quality.md").write_text("a report")
    assert digest(folder) == first
    edit(folder / "prior.json", source="elsewhere")
    assert digest(folder) != first


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("network.safetensors", lambda f: f.unlink()),
        ("network.safetensors", lambda f: f.write_bytes(b"short")),
        ("network.json", lambda f: f.unlink()),
        ("network.json", lambda f: f.write_text("[")),
        ("network.json", lambda f: edit(f, format=7)),
        ("network.json", lambda f: edit(f, kind="ldm")),
        ("network.json", lambda f: edit(f, layers=[])),
        ("network.json", lambda f: edit(f, bandwidth=8.0)),
        ("prior.json", lambda f: edit(f, kind="ldm")),
        ("prior.json", lambda f: edit(f, classes=[{"name": "a"}])),
        ("prior.json", lambda f: edit(f, null_class=2)),
    ],
)
def test_damage_is_one_line_that_names_the_file(prior, file, damage):
    folder = prior()
    damage(folder / file)
    with pytest.raises(PriorError) as error:
        load_network(folder)
    assert str(folder / file) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [None, "7", True, -7, 0, 2**31, 7.5, float("nan"), [7]])
def test_numbers_that_cannot_be(prior, value):
    folder = prior()
    edit(folder / "network.json", w_dim=value)
    with pytest.raises(PriorError, match=r"network\.json .*w_dim") as error:
        load_network(folder)
    assert "\n" not in str(error.value)


def test_settings_that_are_not_known(prior):
    folder = prior()
    edit(folder / "network.json", extra=1)
    with pytest.raises(PriorError, match=r"network\.json .*extra"):
        load_network(folder)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda t: t.pop("mapping.w_avg"), "mapping.w_avg"),
        (lambda t: t.update(more=torch.zeros(1)), "more"),
        (lambda t: t.update({"mapping.w_avg": torch.zeros(3, 8)}), "mapping.w_avg"),
        (lambda t: t["mapping.w_avg"].fill_(torch.nan), "mapping.w_avg"),
        (lambda t: t.update({"mapping.w_avg": torch.zeros(3, 7, dtype=torch.int64)}), "mapping.w_avg"),
    ],
)
def test_tensors_that_do_not_fit(prior, change, name):
    folder = prior()
    tensors = load_file(folder / "network.safetensors")
    change(tensors)
    save_file(tensors, folder / "network.safetensors")
    with pytest.raises(PriorError, match=rf"network\.safetensors.* tensor {name}"):
        load_network(folder)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"in_channels": 7}, "L2_20_4"),
        ({"in_rate": 0}, r"layers\.2\.in_rate"),
        ({"out_rate": 0}, r"layers\.2\.out_rate"),
        ({"in_rate": 33}, "L2_20_4"),
        ({"in_rate": 8}, "L2_20_4"),
        ({"out_rate": 7}, "L2_20_4"),
        ({"clamp": "x"}, r"layers\.2\.clamp"),
        ({"clamp": 0}, r"layers\.2\.clamp"),
        ({"in_cutoff": 0.0}, r"layers\.2\.in_cutoff"),
        ({"in_cutoff": 99.0}, "L2_20_4"),
        ({"to_rgb": True}, "L2_20_4"),
        ({"to_rgb": 1}, r"layers\.2\.to_rgb"),
        ({"name": "L1.x"}, r"layers\.2\.name"),
        ({"name": "L1_20_6"}, "L1_20_6"),
        ({"kernel": 0}, r"layers\.2\.kernel"),
        ({"extra": 0}, r"layers\.2\.extra"),
    ],
)
def test_layers_that_cannot_be(prior, change, named):
    folder = prior()
    layers = json.loads((folder / "network.json").read_text())["layers"]
    layers[2] |= change
    edit(folder / "network.json", layers=layers)
    with pytest.raises(PriorError, match=rf"network\.json .*{named}"):
        load_network(folder)


def test_facts_that_do_not_fit_a_network_of_random_weights(prior):
    folder = prior()
    edit(folder / "prior.json", null_class=2)
    generator = get_generator("glad", network=str(folder), weights="random")
    with pytest.raises(PriorError, match=r"prior\.json"):
        generator.prepare(tiny_task(class_names=("a", "b", "c")).for_training())


def test_weights_that_half_precision_cannot_hold(network, tmp_path):
    small = network()
    small.mapping.fc0.bias.data[0] = 1e6
    with pytest.raises(PriorError, match=r"mapping\.fc0\.bias .*half"):
        save_network(tmp_path / "prior", small.shape, small.state_dict(), PriorFacts(), half=True)
    assert not (tmp_path / "prior").exists()


def test_a_converted_network_renders_the_published_images(golden, tmp_path):
    source = tmp_path / f"{golden.stem}.pkl"
    source.write_bytes((golden.data / source.name).read_bytes())
    assert convert_prior(source, tmp_path / "prior") == "gan"
    network, facts = load_network(tmp_path / "prior")
    assert golden.error("full.images", network.freeze().synthesis(golden.tensors["ws"])) < 1e-5
    assert [known.name for known in facts.classes] == [f"class {row}" for row in range(12)]
    assert facts.source.startswith(f"converted from {source.name}, SHA-256 ")
    assert sorted(path.name for path in (tmp_path / "prior").iterdir()) == [
        "network.json",
        "network.safetensors",
        "prior.json",
    ]


@pytest.mark.parametrize("golden", ["stylegan_xl_16"], indirect=True)
def test_names_of_classes_for_a_conversion(golden, tmp_path):
    source = golden.data / f"{golden.stem}.pkl"
    (tmp_path / "names.txt").write_text("\n".join(f"n{row:08d} thing {row}" for row in range(12)))
    convert(source, tmp_path / "prior", classes=tmp_path / "names.txt", note="a test", licence="none", half=True)
    _, facts = load_network(tmp_path / "prior")
    assert facts.classes[3].wordnet_id == "n00000003"
    assert (facts.source[:8], facts.licence) == ("a test; ", "none")
    (tmp_path / "names.txt").write_text("one\ntwo")
    with pytest.raises(PriorError, match=rf"names\.txt .*2 .*{golden.stem}\.pkl .*12"):
        convert(source, tmp_path / "other", classes=tmp_path / "names.txt")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("golden", ["stylegan_xl_16"], indirect=True)
def test_commands(golden, ld3m, tmp_path):
    source = golden.data / f"{golden.stem}.pkl"
    assert ld3m("prior", "convert", source, tmp_path / "converted").code == 0
    told = ld3m("prior", "info", tmp_path / "converted")
    assert told.code == 0
    for fact in ("gan", "StyleGAN-XL, 8 layers: 32x24", "16x16, 3 channels", "9 of 24 numbers", "12: class 0"):
        assert fact in " ".join(told.out.split()), fact
    (tmp_path / "bad.pkl").write_bytes(b"\x80\x04cos\nsystem\n\x8c\x02id\x85R.")
    refused = ld3m("prior", "convert", tmp_path / "bad.pkl", tmp_path / "never")
    assert refused.code == 1
    assert "os.system" in refused.error
    assert not (tmp_path / "never").exists()


def test_the_shipped_one_is_found_by_its_name(ld3m):
    told = ld3m("prior", "info", "embedded-gan")
    assert told.code == 0
    assert "StyleGAN-XL, 7 layers" in told.out
    assert "ldm" in ld3m("prior", "info", "embedded").out


def test_the_kind_recognises_its_own(prior, tmp_path):
    folder = prior()
    assert kind_of(folder)[0] == "gan"
    (tmp_path / "a.pkl").write_bytes(b"")
    assert GanKind().recognises(tmp_path / "a.pkl")
    for other in ("b.ckpt", "c.safetensors", "d.txt"):
        (tmp_path / other).write_bytes(b"")
        assert not GanKind().recognises(tmp_path / other)
    assert not GanKind().recognises(tmp_path)
