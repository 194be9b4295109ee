"""Training several networks at once: the weights of training one by one, and rows that say what was done."""

import pytest
import torch
from torch import nn

from ld3m_plugin.contracts import Network
from ld3m_plugin.errors import InvalidOptionError
from ld3m_plugin.evaluation import Evaluation, evaluate, evaluate_random_real, get_protocol
from ld3m_plugin.evaluation.group_sizes import fitting
from ld3m_plugin.evaluation.stacked_networks import StackedNetworks
from ld3m_plugin.evaluation.train_network import train
from ld3m_plugin.evaluation.train_together import Member, stack, train_together
from ld3m_plugin.networks.build import get_network
from ld3m_plugin.randomness import stream
from ld3m_plugin.registry import Backend, Owner, build_registry
from ld3m_plugin.testing import tiny_task

SMALL = {
    "MLP": {"width": 8},
    "SmallViT": {"dim": 8, "heads": 2, "depth": 2, "mlp_dim": 8},
    "MaxConvNet": {"width": 4, "depth": 2},
    "ConvNet": {"width": 4, "depth": 2, "norm": "batchnorm"},
    "ResNet8": {},
}
RECIPE = get_protocol("unseen").model_copy(update={"epochs": 2, "batch_size": 4, "ema": 0.9, "gradient_clip": 0.5})


def members(name, count=3, *, size=16, dtype=torch.float64, soft=False):
    found = []
    for index in range(count):
        rng = stream(0, name, index)
        network = get_network(name, rng=rng, channels=1, image_size=size, num_classes=3, **SMALL.get(name, {})).to(
            dtype
        )
        labels = torch.arange(6) % 3
        labels = nn.functional.one_hot(labels).to(dtype) * 0.9 + 0.1 / 3 if soft else labels
        images = torch.randn(6, 1, size, size, generator=stream(1, index)).to(dtype)
        found.append(Member(network, images, labels, rng))
    return found


def weights(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def trained_both_ways(name, recipe, **kinds):
    alone = [weights(train(m.network, m.images, m.labels, recipe, 0.05, m.rng)) for m in members(name, **kinds)]
    among = members(name, **kinds)
    stacked = stack(among)
    assert isinstance(stacked, StackedNetworks)
    train_together(among, stacked, recipe, 0.05)
    return alone, [weights(m.network) for m in among], among


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_weights_are_those_of_training_one_by_one(name):
    # with batches, DSA, dropout, clipping, a weight average and, in one network, the buffers of batch norm
    alone, among, _ = trained_both_ways(name, RECIPE, soft=name == "MLP")
    for one, other in zip(alone, among, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            torch.testing.assert_close(other[key], value, rtol=1e-9, atol=1e-9, msg=f"{name} {key}")


def test_weights_and_streams_of_a_multilayer_perceptron():
    recipe = RECIPE.model_copy(update={"dsa": "flip", "ema": None})
    alone, among, left = trained_both_ways("MLP", recipe)
    for one, other in zip(alone, among, strict=True):
        for key, value in one.items():
            torch.testing.assert_close(other[key], value, rtol=1e-9, atol=1e-9)
    again = members("MLP")[0]
    train(again.network, again.images, again.labels, recipe, 0.05, again.rng)
    assert torch.equal(again.rng.get_state(), left[0].rng.get_state())


def test_dropout_has_the_numbers_of_each_network_alone():
    class Dropped(Network):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 3)
            self.drop = nn.Dropout(0.5)

        def forward(self, images):
            return self.drop(self.fc(images.flatten(1)))

    networks = [Dropped(), Dropped()]
    stacked = StackedNetworks(networks).train()
    stacked.dropout.streams = tuple(stream(0, index) for index in range(2))
    images = torch.randn(2, 5, 1, 2, 2, generator=stream(1))
    among = stacked(images)
    for index, network in enumerate(networks):
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(stream(0, index).get_state())
            torch.testing.assert_close(among[index], network(images[index]))


def test_a_network_that_diverges_leaves_the_others_alone():
    recipe = RECIPE.model_copy(update={"dsa": "none", "ema": None, "gradient_clip": None})
    good, bad = members("MLP"), members("MLP")
    with torch.no_grad():
        bad[1].network.classifier.weight.fill_(torch.inf)
    for group in (good, bad):
        train_together(group, StackedNetworks([m.network for m in group]), recipe, 0.05)
    for index in (0, 2):
        for key, value in weights(good[index].network).items():
            assert torch.equal(value, weights(bad[index].network)[key])
    assert not torch.isfinite(bad[1].network.classifier.weight).all()


class Noisy(Network):
    """Draws noise that is no dropout."""

    def __init__(self, *, channels, image_size, num_classes):
        super().__init__()
        self.fc = nn.Linear(channels * image_size**2, num_classes)

    def forward(self, images):
        pixels = images.flatten(1)
        return self.fc(pixels + torch.randn(pixels.shape[1]) if self.training else pixels)


class Hidden(Network):
    """Has weights that are no parameter and no buffer."""

    def __init__(self, *, channels, image_size, num_classes):
        super().__init__()
        self.fc = nn.Linear(channels * image_size**2, num_classes)
        self.scale = 1 + float(torch.rand(()))

    def forward(self, images):
        return self.fc(images.flatten(1)) * self.scale


@pytest.mark.parametrize(("network", "why"), [(Noisy, "vmap refuses"), (Hidden, "something else")])
def test_networks_that_cannot_be_stacked_are_trained_one_by_one(network, why):
    registry, told = build_registry(environ={}), []
    registry.add(Backend("network", "Other", network, "", Owner("tests", "tests", "0")))
    recipe = RECIPE.model_copy(update={"networks": ("Other",), "dsa": "none", "epochs": 1, "repeats": 2})
    task = tiny_task()
    given = {"protocol": recipe, "random_real": False, "registry": registry}
    row = evaluate(Pictures(task), task, **given, together=2, on_progress=told.append).rows[0]
    assert (row.n, row.together) == (2, 1)
    assert any("Other one by one" in line and why in line for line in told)
    assert row == evaluate(Pictures(task), task, **given, together=1).rows[0]


class Pictures:
    def __init__(self, task):
        self.labels = torch.arange(task.num_classes)
        self.images = torch.cat([task.real_images(k, 1, stream(0, k)) for k in range(task.num_classes)])


def test_rows_record_how_many_were_trained_at_once():
    task, told = tiny_task(), []
    recipe = RECIPE.model_copy(update={"networks": ("MLP",), "network_settings": SMALL, "dsa": "none", "repeats": 3})
    made = evaluate(Pictures(task), task, protocol=recipe, together=2, on_progress=told.append)
    assert [row.together for row in made.rows] == [2, 2]
    assert told[:2] == ["MLP on distilled images, 1 to 2 of 3 together", "MLP on distilled images, 3 of 3"]
    record = made.record()
    assert [row["together"] for row in record["rows"]] == [2, 2]
    assert [row.together for row in Evaluation.from_record(record).rows] == [2, 2]
    del record["rows"][0]["together"]  # as in older records
    assert Evaluation.from_record(record).rows[0].together == 1


@pytest.mark.parametrize("together", [0, -1, 2.0, True, "all"])
def test_together_is_auto_or_a_number(together):
    task = tiny_task()
    for call in (
        lambda **k: evaluate(Pictures(task), task, **k),
        lambda **k: evaluate_random_real(torch.arange(3), task, **k),
    ):
        with pytest.raises(InvalidOptionError, match="together"):
            call(together=together)


def test_auto_goes_by_convolutions_images_and_memory(monkeypatch):
    few, many = torch.zeros(10, 1, 16, 16), torch.zeros(33, 1, 16, 16)
    shape = {"channels": 1, "image_size": 16, "num_classes": 3}
    mlp, convnet = get_network("MLP", **shape), get_network("MaxConvNet", **shape)
    assert fitting(convnet, few, averaged=False) == 1
    assert fitting(mlp, many, averaged=False) == 1
    assert fitting(mlp, few, averaged=False) > 100
    each = 4 * sum(value.nbytes for value in mlp.parameters())
    monkeypatch.setattr("ld3m_plugin.evaluation.group_sizes._BUDGET", 3 * each)
    assert fitting(mlp, few, averaged=False) == 2  # activations and their gradients come on top


@pytest.mark.slow
def test_accuracies_are_those_of_paired_seeds():
    task = tiny_task(image_size=16)
    recipe = get_protocol("unseen").model_copy(
        update={"networks": ("MLP", "SmallViT"), "network_settings": SMALL, "epochs": 40, "repeats": 4}
    )
    one, auto = (evaluate(Pictures(task), task, protocol=recipe, together=n) for n in (1, "auto"))
    assert [row.together for row in auto.rows] == [4] * 4
    difference = torch.tensor(
        [
            b - a
            for x, y in zip(one.rows, auto.rows, strict=True)
            for a, b in zip(x.accuracies, y.accuracies, strict=True)
        ]
    )
    assert difference.abs().mean() <= 1
