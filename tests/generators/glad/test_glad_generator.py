"""The GLaD generator: latents, layers, classes, options and refusals."""

from types import SimpleNamespace

import pytest
import torch

from ld3m_plugin.backends import get_generator
from ld3m_plugin.distillation.rendering import render, render_with_pull_back
from ld3m_plugin.errors import InvalidOptionError, PriorError
from ld3m_plugin.generators.glad.gan_files import SHIPPED
from ld3m_plugin.generators.glad.gan_folder import read_shape
from ld3m_plugin.generators.glad.pretrained import imagenet_shape
from ld3m_plugin.generators.glad.stylegan_shape import NetworkShape
from ld3m_plugin.randomness import stream
from ld3m_plugin.testing import check_generator, tiny_task

DEPTH = 5  # layers of the tiny network


def start(prior, task=None, per_class=2, seed=0, **options):
    """A generator and its first latents."""
    task = (task or tiny_task()).for_training()
    generator = get_generator("glad", network=str(prior), **options)
    generator.prepare(task)
    labels = torch.arange(task.num_classes).repeat_interleave(per_class)
    return generator, generator.initial_latents(task, labels, stream(seed, "latents"))


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"layer": -1}, {"layer": 0}, {"layer": DEPTH - 1}, {"clamp": "none"}])
def test_contract_at_every_kind_of_layer(prior, options):
    folder = prior()
    check_generator(lambda: get_generator("glad", network=str(folder), **options))


@pytest.mark.parametrize(
    "options", [{"weights": "random"}, {"unconditional": True}, {"weights": "random", "unconditional": True}]
)
def test_contract_of_the_ablations(prior, options):
    folder = prior()
    check_generator(lambda: get_generator("glad", network=str(folder), **options))


def test_latents_have_the_public_names_and_shapes(prior):
    _, latents = start(prior(), layer=2)
    assert {name: tuple(latents[name].shape) for name in latents} == {"features": (6, 6, 20, 20), "w": (6, 6, 7)}
    assert latents.learned == {"features", "w"}
    _, latents = start(prior(), layer=-1)
    assert list(latents) == ["w"]
    assert (latents["w"] == latents["w"][:, :1]).all()


def test_the_first_render_is_the_networks_own_image_at_every_layer(prior):
    folder = prior()
    expected = None
    for layer in range(-1, DEPTH):
        generator, latents = start(folder, layer=layer)
        images = render(generator, latents)
        expected = images if expected is None else expected
        assert torch.allclose(images, expected, atol=1e-5)


def test_the_default_layer_is_one_of_half_the_resolution(prior):
    generator, latents = start(prior())
    assert generator._layer == generator._network.shape.half_resolution_layer
    assert latents["features"].shape[-1] == generator._network.shape.layers[generator._layer].in_size


@pytest.mark.parametrize(("size", "layer"), [(128, 16), (256, 21), (32, 1)])
def test_the_default_layer_of_the_official_sizes(size, layer):
    # 16 of 26 at 128 pixels is the published one for DC.
    shape = imagenet_shape(size)
    assert shape.half_resolution_layer == layer
    assert 2 * shape.layers[layer].in_rate == size


@pytest.mark.parametrize(
    ("rates", "layer"), [((16, 16, 16, 16), 1), ((8, 8, 8, 16), 1), ((4, 4, 4, 16), 1), ((8, 16, 16, 16), 0)]
)
def test_the_default_layer_by_hand(rates, layer):
    shape = SimpleNamespace(image_size=16, layers=[SimpleNamespace(in_rate=rate) for rate in rates])
    assert NetworkShape.half_resolution_layer.fget(shape) == layer


def test_the_default_layers_of_the_shipped_networks():
    assert [read_shape(SHIPPED[name]).half_resolution_layer for name in ("embedded-emoji-gan", "embedded-gan")] == [
        3,
        1,
    ]


@pytest.mark.parametrize("layer", [DEPTH, 20])
def test_a_layer_beyond_the_depth(prior, layer):
    with pytest.raises(InvalidOptionError, match=rf"layer={layer}\b.*\b4\b"):
        start(prior(), layer=layer)


def test_styles_before_the_layer_get_no_gradient_and_later_ones_do(prior):
    generator, latents = start(prior(), layer=3)
    rendering = render_with_pull_back(generator, latents)
    gradients = rendering.pull_back(torch.ones_like(rendering.images))
    assert (gradients["w"][:, :4] == 0).all()
    assert (gradients["w"][:, 4:].flatten(1).norm(dim=1) > 0).all()


def test_chunks_give_the_gradient_of_one_render(prior):
    generator, latents = start(prior())
    grad = torch.randn(6, 1, 16, 16, generator=stream(0, "grad"))
    plain = render_with_pull_back(generator, latents).pull_back(grad)
    for chunk in (1, 4):
        chunked = render_with_pull_back(generator, latents, chunk).pull_back(grad)
        for name in plain:
            assert float((chunked[name] - plain[name]).norm() / plain[name].norm()) < 1e-5


def test_features_start_within_the_published_bounds(prior, monkeypatch):
    generator, latents = start(prior(), layer=2)
    network = generator._network.synthesis
    wild = latents["features"] * 1000
    wild[0, 0, 0, 0] = torch.nan
    monkeypatch.setattr(network, "features", lambda ws, layer: wild[: len(ws)])
    features = generator._features(latents["w"], stream(0, "x"))
    assert float(features.max()) == 10
    assert float(features.min()) == -10
    assert float(features[0, 0, 0, 0]) == 0


def test_random_features_have_the_mean_and_deviation_of_the_networks_own(prior):
    folder = prior()
    _, own = start(folder, per_class=4, layer=2)
    _, drawn = start(folder, per_class=4, layer=2, random_features=True)
    assert torch.equal(own["w"], drawn["w"])
    assert not torch.allclose(own["features"], drawn["features"], atol=0.1)
    assert float(drawn["features"].mean()) == pytest.approx(float(own["features"].mean()), abs=0.03)
    assert float(drawn["features"].std()) == pytest.approx(float(own["features"].std()), rel=0.05)


def test_mean_styles(prior, network):
    folder = prior()
    _, latents = start(folder, per_class=1, init="avg_w")
    mean = network().mapping.w_avg
    assert torch.allclose(latents["w"], mean[:, None].expand(-1, 6, -1))
    with pytest.raises(InvalidOptionError, match=r"init=avg_w"):
        start(folder, per_class=2, init="avg_w")
    with pytest.raises(InvalidOptionError, match=r"init=avg_w.*truncation"):
        start(folder, per_class=1, init="avg_w", truncation=0.5)


def test_truncated_styles_are_nearer_to_the_mean(prior, network):
    folder = prior()
    mean = network().mapping.w_avg.repeat_interleave(2, 0)
    distances = [float((start(folder, truncation=psi)[1]["w"][:, 0] - mean).norm()) for psi in (0.0, 0.5, 1.0)]
    assert distances[0] < 1e-6
    assert distances[1] == pytest.approx(distances[2] / 2, rel=1e-4)


def test_each_row_starts_from_its_own_class(prior):
    folder = prior()
    generator, latents = start(folder, init="avg_w", per_class=1)
    assert len({tuple(row.tolist()) for row in latents["w"][:, 0]}) == 3
    swapped = tiny_task(class_names=("class 2", "class 1", "class 0"))
    _, other = start(folder, task=swapped, init="avg_w", per_class=1)
    assert torch.equal(other["w"].flip(0), latents["w"])
    assert generator.provenance()["styles_from"] == "class 0: class 0, class 1: class 1, class 2: class 2"


def test_classes_the_network_does_not_know(prior, tmp_path):
    task = tiny_task(class_names=("class 0", "class 1", "gadget"))
    with pytest.raises(InvalidOptionError, match="'gadget'") as error:
        start(prior(), task=task)
    assert "unconditional" not in str(error.value)
    _, latents = start(prior(), task=task, unmatched="class 2", per_class=1, init="avg_w")
    assert len(latents) == 3
    (tmp_path / "map.yaml").write_text("gadget: class 1\n")
    _, mapped = start(prior(), task=task, class_map=tmp_path / "map.yaml", per_class=1, init="avg_w")
    assert torch.equal(mapped["w"][2], mapped["w"][1])
    with pytest.raises(InvalidOptionError, match="unmatched"):
        start(prior(), task=task, unmatched="unconditional")


def test_unconditional_networks_and_rows(prior):
    _, latents = start(prior(classes=0), per_class=3)
    assert len({tuple(row.tolist()) for row in latents["w"][:, 0]}) == 9
    for name, value in (("unmatched", "class 1"), ("class_map", "map.yaml")):
        with pytest.raises(InvalidOptionError, match=name):
            start(prior(classes=0), **{name: value})
    generator, mixed = start(prior(), per_class=8, unconditional=True)
    mean = generator._network.mapping.w_avg
    assert "styles_from" not in generator.provenance()
    _, same = start(prior(), per_class=8, unconditional=True, init="sampled", truncation=0.0)
    taken = [int((mean - row).norm(dim=1).argmin()) for row in same["w"][:, 0]]
    assert [taken[k * 8 : k * 8 + 8] for k in range(3)] != [[k] * 8 for k in range(3)]
    assert set(taken) == {0, 1, 2}
    assert len(mixed) == 24


def test_random_weights_are_those_of_their_seed_and_not_the_networks(prior):
    folder = prior()
    one, latents = start(folder, weights="random", layer=1)
    again, same = start(folder, weights="random", layer=1)
    other, _ = start(folder, weights="random", layer=1, weights_seed=1)
    trained, _ = start(folder, layer=1)
    assert torch.equal(render(one, latents), render(again, same))
    for different in (other, trained):
        assert not torch.allclose(render(different, latents), render(one, latents), atol=0.05)
    # Their mean styles are those of their own random vectors, class by class.
    _, mean = start(folder, weights="random", init="avg_w", per_class=1)
    _, drawn = start(folder, weights="random", per_class=400, layer=-1)
    for k in range(3):
        own = drawn["w"][k * 400 : (k + 1) * 400, 0]
        assert float((own.mean(0) - mean["w"][k, 0]).norm()) < 0.2 * float(own.norm(dim=1).mean())
    assert not torch.allclose(mean["w"][0], mean["w"][1], atol=1e-3)
    assert one.provenance()["prior_source"] == "random weights, seed 0"
    assert "prior_sha256" not in one.provenance()


def test_sizes_and_channels_that_do_not_fit(prior):
    with pytest.raises(InvalidOptionError, match=r"\b32\b.*image_size=16"):
        start(prior(), task=tiny_task(image_size=32))
    with pytest.raises(InvalidOptionError, match=r"gray.*ld3m prior train gan"):
        start(prior(), task=tiny_task(channels=3))
    generator, latents = start(prior(), task=tiny_task(channels=3), mismatch="allow")
    images = render(generator, latents)
    assert images.shape[1] == 3
    assert torch.allclose(images[:, 0], images[:, 2])
    assert render(*start(prior(name="colour", channels=3))).shape[1] == 1
    with pytest.raises(InvalidOptionError, match=r"\b1 channel.*\b2\b"):
        start(prior(name="two", channels=2))


def test_networks_that_are_not_there(prior, tmp_path):
    with pytest.raises(InvalidOptionError, match=r"'imagenet-128'.*weights=random"):
        start("imagenet-128")
    with pytest.raises(PriorError, match=r"nowhere.*embedded-gan.*imagenet-128"):
        start("nowhere")
    (tmp_path / "network.pkl").write_bytes(b"")
    with pytest.raises(PriorError, match=r"`ld3m prior convert .*network\.pkl FOLDER`"):
        start(tmp_path / "network.pkl")
    with pytest.raises(PriorError, match=rf"{tmp_path}.*network\.json"):
        start(tmp_path)


def test_provenance_names_the_files(prior):
    folder = prior()
    facts = start(folder)[0].provenance()
    assert facts["prior"] == str(folder)
    assert len(facts["prior_sha256"]) == 64
    assert facts["prior_licence"] == "CC0"


def test_learning_rates_are_for_what_is_learned(prior):
    for layer in (-1, 2, None):
        generator, latents = start(prior(), **({} if layer is None else {"layer": layer}))
        assert set(generator.learning_rates()) == latents.learned
