"""GAN priors on disk and on the command line: written, converted, described, and refused when damaged."""

import json
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from ld3m_plugin import cli
from ld3m_plugin.backends import get_generator
from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.glad.gan_convert import convert
from ld3m_plugin.generators.glad.gan_folder import digest, load_network, save_network
from ld3m_plugin.generators.glad.gan_kind import GanKind
from ld3m_plugin.priors.prior_json import PriorFacts
from ld3m_plugin.priors.service import convert_prior, kind_of
from ld3m_plugin.registry import default_registry
from ld3m_plugin.testing import tiny_task


@pytest.fixture
def ld3m(monkeypatch, capfd):
    """`ld3m(*arguments)`: exit code, output and errors of the command."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["ld3m", *map(str, arguments)])
        default_registry.cache_clear()
        capfd.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as left:
            code = int(left.code or 0)
        finally:
            default_registry.cache_clear()
        return code, *capfd.readouterr()

    return run


def edit(path, **values):
    content = json.loads(path.read_text())
    for name, value in values.items():
        if value is None:
            del content[name]
        else:
            content[name] = value
    path.write_text(json.dumps(content))


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
    ("damage", "message"),
    [
        (lambda f: (f / "network.safetensors").unlink(), "is missing"),
        (lambda f: (f / "network.safetensors").write_bytes(b"short"), "is damaged"),
        (lambda f: (f / "network.json").write_text("["), "network.json is damaged .Invalid JSON"),
        (lambda f: edit(f / "network.json", format=7), "format 1 that this version reads"),
        (lambda f: edit(f / "network.json", kind="ldm"), "is not of a GAN"),
        (lambda f: edit(f / "network.json", w_dim=None), "is damaged"),
        (lambda f: edit(f / "network.json", w_dim="7"), "is damaged"),
        (lambda f: edit(f / "network.json", w_dim=True), "is damaged"),
        (lambda f: edit(f / "network.json", w_dim=-7), "is damaged"),
        (lambda f: edit(f / "network.json", extra=1), "is damaged"),
        (lambda f: edit(f / "network.json", layers=[]), "is damaged"),
        (lambda f: edit(f / "network.json", w_dim=8), r"tensor \S+ is .*, the network has"),
        (lambda f: edit(f / "prior.json", kind="ldm"), "of a prior of kind 'ldm'"),
    ],
)
def test_damage_is_one_line(prior, damage, message):
    folder = prior()
    damage(folder)
    with pytest.raises(PriorError, match=message) as error:
        load_network(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("mapping.w_avg"), "has no tensor mapping.w_avg"),
        (lambda t: t.update(more=torch.zeros(1)), "tensor more is .*none of that name"),
        (lambda t: t["mapping.w_avg"].fill_(torch.nan), "not finite"),
        (lambda t: t.update({"mapping.w_avg": torch.zeros(3, 7, dtype=torch.int64)}), "not finite numbers"),
    ],
)
def test_tensors_that_do_not_fit(prior, change, message):
    folder = prior()
    tensors = load_file(folder / "network.safetensors")
    change(tensors)
    save_file(tensors, folder / "network.safetensors")
    with pytest.raises(PriorError, match=message):
        load_network(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"in_channels": 7}, "takes 7x20 at rate 16, and gets 6x20 at rate 16"),
        ({"in_rate": 0}, "size below 1"),
        ({"out_rate": 0}, "size below 1"),
        ({"in_rate": 33}, "no whole factor"),
        ({"in_rate": 8}, "takes 6x20 at rate 8"),
        ({"clamp": "x"}, "clamp"),
        ({"clamp": 0}, "clamp that no filter"),
        ({"in_cutoff": 0.0}, "cutoff"),
        ({"to_rgb": True}, "makes the image"),
        ({"name": "L1.x"}, "layer names"),
        ({"kernel": 0}, "size below 1"),
    ],
)
def test_layers_that_cannot_be(prior, change, message):
    folder = prior()
    layers = json.loads((folder / "network.json").read_text())["layers"]
    layers[2] |= change
    edit(folder / "network.json", layers=layers)
    with pytest.raises(PriorError, match=f"is damaged .*{message}"):
        load_network(folder)


def test_a_bandwidth_beyond_the_rate(prior):
    folder = prior()
    edit(folder / "network.json", bandwidth=8.0)
    with pytest.raises(PriorError, match=r"is damaged .*bandwidth 8.0 at the rate 16"):
        load_network(folder)


@pytest.mark.parametrize("facts", [{"classes": [{"name": "a"}]}, {"null_class": 2}])
def test_classes_that_are_not_the_networks(prior, facts):
    folder = prior()
    edit(folder / "prior.json", **facts)
    with pytest.raises(PriorError, match=r"and the network has 3 and none"):
        load_network(folder)
    # With random weights the same file is read.
    generator = get_generator("glad", network=str(folder), weights="random")
    with pytest.raises(PriorError, match=r"and the network has 3 and none"):
        generator.prepare(tiny_task(class_names=("a", "b", "c")).for_training())


def test_weights_that_half_precision_cannot_hold(network, tmp_path):
    small = network()
    small.mapping.fc0.bias.data[0] = 1e6
    with pytest.raises(PriorError, match=r"mapping.fc0.bias has values that half precision cannot hold"):
        save_network(tmp_path / "prior", small.shape, small.state_dict(), PriorFacts(), half=True)
    assert not (tmp_path / "prior").exists()


def test_a_converted_network_renders_the_published_images(golden, tmp_path):
    source = tmp_path / f"{golden.stem}.pkl"
    source.write_bytes((golden.data / source.name).read_bytes())
    assert convert_prior(source, tmp_path / "prior") == "gan"
    network, facts = load_network(tmp_path / "prior")
    images = network.freeze().synthesis(golden.tensors["ws"])
    expected = golden.tensors["full.images"]
    assert float((images - expected).norm() / expected.norm()) < 1e-5
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
    with pytest.raises(PriorError, match=r"names 2 classes, and .* has 12"):
        convert(source, tmp_path / "other", classes=tmp_path / "names.txt")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("golden", ["stylegan_xl_16"], indirect=True)
def test_commands(golden, ld3m, tmp_path):
    source = golden.data / f"{golden.stem}.pkl"
    code, out, err = ld3m("prior", "convert", source, tmp_path / "converted")
    assert (code, err) == (0, ""), out
    code, out, _ = ld3m("prior", "info", tmp_path / "converted")
    assert code == 0
    for fact in ("gan", "StyleGAN-XL, 8 layers: 32x24", "16x16, 3 channels", "9 of 24 numbers", "12: class 0"):
        assert fact in " ".join(out.split()), fact
    (tmp_path / "bad.pkl").write_bytes(b"\x80\x04cos\nsystem\n\x8c\x02id\x85R.")
    code, out, err = ld3m("prior", "convert", tmp_path / "bad.pkl", tmp_path / "never")
    assert code == 1
    assert "os.system" in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "never").exists()


def test_the_shipped_one_is_found_by_its_name(ld3m):
    code, out, _ = ld3m("prior", "info", "embedded-gan")
    assert code == 0
    assert "StyleGAN-XL, 7 layers" in out
    assert "ldm" in ld3m("prior", "info", "embedded")[1]


def test_the_kind_recognises_its_own(prior, tmp_path):
    folder = prior()
    assert kind_of(folder)[0] == "gan"
    (tmp_path / "a.pkl").write_bytes(b"")
    assert GanKind().recognises(tmp_path / "a.pkl")
    for other in ("b.ckpt", "c.safetensors", "d.txt"):
        (tmp_path / other).write_bytes(b"")
        assert not GanKind().recognises(tmp_path / other)
    assert not GanKind().recognises(tmp_path)
