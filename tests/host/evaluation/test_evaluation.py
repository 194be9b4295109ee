"""Evaluation: schedules and averages by arithmetic, fairness of the random-real row, statistics."""

import json
import statistics
from dataclasses import replace

import pytest
import torch

from ld3m_plugin.contracts import ImagesByClass, Network
from ld3m_plugin.errors import ArtefactError, InvalidOptionError, UsageError
from ld3m_plugin.evaluation import RANDOM_REAL, Evaluation, Row, evaluate, get_protocol
from ld3m_plugin.evaluation.evaluating import random_real_images
from ld3m_plugin.evaluation.test_images import TestImages, read_batches
from ld3m_plugin.evaluation.train_network import WeightAverage, accuracy, predict, rate_factor, train
from ld3m_plugin.networks.build import get_network
from ld3m_plugin.randomness import stream
from ld3m_plugin.testing import tiny_task

SHORT = get_protocol("quick").model_copy(
    update={
        "epochs": 30,
        "repeats": 2,
        "networks": ("ConvNet",),
        "dsa": "none",
        "network_settings": {"ConvNet": {"width": 8}},
    }
)


class Real:
    """Two real images of each class as a stand-in for a distilled set."""

    def __init__(self, task, per_class=2):
        self.labels = torch.arange(task.num_classes).repeat_interleave(per_class)
        self.images = torch.cat([task.real_images(k, per_class, stream(0, k)) for k in range(task.num_classes)])


def test_published_schedule():
    protocol = get_protocol("glad-2023")
    # Linear from 1e-7 to 1 over 500 epochs, then half a cosine over 500.
    assert rate_factor(0, protocol) == 1e-7
    assert rate_factor(100, protocol) == pytest.approx(0.2, rel=1e-5)
    assert rate_factor(500, protocol) == 1
    assert rate_factor(625, protocol) == pytest.approx((1 + 2**0.5 / 2) / 2)
    assert rate_factor(999, protocol) == pytest.approx(0, abs=1e-5)


def test_dropping_schedule():
    protocol = get_protocol("dsa-2021")
    assert [rate_factor(epoch, protocol) for epoch in (0, 500, 501, 999)] == [1, 1, 0.1, 0.1]


def test_glad_2023_is_the_published_recipe():
    protocol = get_protocol("glad-2023")
    assert protocol.networks == ("ConvNet", "AlexNet", "VGG11", "ResNet18", "ViT")
    assert (protocol.epochs, protocol.repeats, protocol.batch_size, protocol.ema) == (1000, 5, 256, 0.995)
    assert (protocol.rate("ConvNet"), protocol.rate("VGG11")) == (0.001, 0.0001)
    assert (protocol.momentum, protocol.weight_decay) == (0.9, 0.0005)


class One(Network):
    """A single weight, and a counter like batch norm's."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([0.0]))
        self.register_buffer("count", torch.tensor(0))


def test_weight_average_is_plain_at_first_and_exponential_later():
    network = One()
    average = WeightAverage(network, decay=0.75)
    expected = None
    for n, value in enumerate([8.0, 4.0, 0.0, 1.0, 5.0, 2.0]):
        network.weight.data.fill_(value)
        network.count.fill_(n)
        average.update(network)
        # After n updates the decay is 1 - 1/(1 + n): 0, 1/2, 2/3, then capped at 3/4.
        decay = min(0.75, 1 - 1 / (1 + n))
        expected = value if expected is None else decay * expected + (1 - decay) * value
        assert float(average.network.weight) == pytest.approx(expected)
        assert int(average.network.count) == n


def test_a_weight_that_two_layers_share_is_averaged_once():
    network = torch.nn.ModuleList([torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)])
    network[1].weight = network[0].weight
    average = WeightAverage(network, decay=0.9)
    for value in (8.0, 4.0, 0.0):
        network[0].weight.data.fill_(value)
        average.update(network)
    assert float(average.network[0].weight) == pytest.approx(4)


def test_training_learns_what_it_is_shown():
    task = tiny_task(image_size=32)
    data = Real(task, per_class=8)
    network = get_network("ConvNet", rng=stream(0, "n"), channels=1, image_size=32, num_classes=3, width=8, norm="none")
    before = accuracy(network, task)
    trained = train(network, data.images, data.labels, SHORT, 0.01, stream(0, "t"))
    assert accuracy(trained, task) > max(before, 60)


def test_average_is_what_is_tested():
    task = tiny_task(image_size=32)
    data = Real(task)
    protocol = SHORT.model_copy(update={"ema": 0.995, "epochs": 3})
    network = get_network("ConvNet", rng=stream(0, "n"), channels=1, image_size=32, num_classes=3, width=8)
    trained = train(network, data.images, data.labels, protocol, 0.01, stream(0, "t"))
    assert trained is not network
    assert not torch.equal(trained.state_dict()["classifier.weight"], network.state_dict()["classifier.weight"])


def test_probabilities_train_like_indices():
    task = tiny_task(image_size=32)
    data = Real(task)
    weights = []
    for labels in (data.labels, torch.nn.functional.one_hot(data.labels).float()):
        network = get_network("ConvNet", rng=stream(0, "n"), channels=1, image_size=32, num_classes=3, width=8)
        train(network, data.images, labels, SHORT.model_copy(update={"epochs": 3}), 0.01, stream(0, "t"))
        weights.append(network.state_dict()["classifier.weight"])
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-6)


def test_accuracy_counts_by_hand():
    class Says(Network):
        def forward(self, images):
            return torch.nn.functional.one_hot(torch.zeros(len(images), dtype=torch.long), 3).float()

    # Always class 0, of three classes with as many test images each.
    assert accuracy(Says(), tiny_task()) == pytest.approx(100 / 3)


@pytest.mark.slow
def test_table_has_random_real_beside_and_repeats():
    task = tiny_task(image_size=32)
    first = evaluate(Real(task), task, protocol=SHORT, networks=["ConvNet"])
    assert [(row.images, row.n) for row in first.rows] == [("distilled", 2), (RANDOM_REAL, 2)]
    assert first.test_images == 12
    again = evaluate(Real(task), task, protocol=SHORT, networks=["ConvNet"])
    assert [row.accuracies for row in first.rows] == [row.accuracies for row in again.rows]
    record = first.record()
    assert record["protocol"]["name"] == "quick"
    assert record["protocol"]["epochs"] == 30
    assert record["rows"][0]["mean"] == pytest.approx(first.rows[0].mean)


def test_random_real_images_are_distinct_training_images_and_differ_between_repeats():
    task = tiny_task(train=12)
    images, labels = random_real_images(torch.tensor([0, 0, 0, 1, 2, 2]), task.for_training(), seed=0, repeat=0)
    assert labels.tolist() == [0, 0, 0, 1, 2, 2]
    pool = [task.normalise(task.train.read(k, torch.arange(12))) for k in range(3)]
    matches = [(pool[k] == image).flatten(1).all(1) for image, k in zip(images, labels, strict=True)]
    found = [int(match.nonzero()) for match in matches]
    assert len(set(zip(found, labels.tolist(), strict=True))) == 6
    other, _ = random_real_images(torch.tensor([0, 0, 0, 1, 2, 2]), task.for_training(), seed=0, repeat=1)
    assert not torch.equal(images, other)


def test_statistics_of_a_row():
    row = Row("distilled", "ConvNet", (70.0, 72.0, 77.0))
    assert (row.mean, row.n) == (73.0, 3)
    assert row.std == pytest.approx(statistics.stdev([70, 72, 77]))
    assert str(row) == "73.0 +- 3.6 (n=3)"
    assert Row("distilled", "ConvNet", (70.0,)).std is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"protocol": "quik"}, "'quik'.* 'quick'"), ({"networks": ["ConvNt"]}, "'ConvNt'.* 'ConvNet'")],
)
def test_unknown_names(settings, message):
    task = tiny_task(image_size=32)
    with pytest.raises(UsageError, match=message):
        evaluate(Real(task), task, **{"protocol": SHORT, **settings})


def test_dropout_draws_from_the_given_stream():
    # ViT has dropout, which draws from torch's global stream: two trainings must agree, and the stream must stay.
    task = tiny_task(image_size=32)
    data = Real(task)
    before, weights = torch.get_rng_state(), []
    for _ in range(2):
        network = get_network(
            "ViT", rng=stream(0, "n"), channels=1, image_size=32, num_classes=3, dim=32, depth=1, heads=2
        )
        protocol = SHORT.model_copy(update={"epochs": 2})
        weights.append(train(network, data.images, data.labels, protocol, 0.01, stream(0, "t")).state_dict())
        torch.rand(3)
    torch.set_rng_state(before)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


class Given:
    def __init__(self, images, labels):
        self.images, self.labels = images, labels


GOOD_IMAGES, GOOD_LABELS = torch.zeros(3, 1, 32, 32), torch.arange(3)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (GOOD_IMAGES.repeat(1, 3, 1, 1), GOOD_LABELS, r"\(N, 1, 32, 32\)"),
        (GOOD_IMAGES[..., :16], GOOD_LABELS, r"\(N, 1, 32, 32\)"),
        (GOOD_IMAGES + float("nan"), GOOD_LABELS, r"\(N, 1, 32, 32\)"),
        (GOOD_IMAGES, GOOD_LABELS[:2], "labels"),
        (GOOD_IMAGES, GOOD_LABELS + 1, "from 0 to 2"),
        (GOOD_IMAGES, GOOD_LABELS.int(), "int64"),
        (GOOD_IMAGES, torch.ones(3, 7), "probabilities"),
    ],
)
def test_images_and_labels_that_do_not_fit(images, labels, message):
    with pytest.raises(ArtefactError, match=message):
        evaluate(Given(images, labels), tiny_task(image_size=32), protocol=SHORT)


def test_test_batches_span_classes_and_miss_nothing():
    task = tiny_task(classes=3, test=100)
    batches = list(read_batches(task, None))
    assert [len(labels) for _, labels in batches] == [300]
    assert torch.cat([labels for _, labels in batches]).bincount().tolist() == [100, 100, 100]


class Uneven(ImagesByClass):
    """Class k has `sizes[k]` images of 1×1 pixels; the value of each is its index."""

    origin = "indices"

    def __init__(self, *sizes):
        self.sizes = sizes

    def counts(self):
        return self.sizes

    def read(self, class_index, which):
        return which.to(torch.uint8).view(-1, 1, 1, 1)


def test_a_class_with_fewer_test_images_keeps_all_it_has():
    task = replace(tiny_task(classes=3), test_images=Uneven(10, 2, 0))
    ((images, labels),) = read_batches(task, 4)
    assert images.flatten().tolist() == [0, 2, 5, 7, 0, 1]
    assert labels.tolist() == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize(("bound", "times"), [(2**28, 1), (0, 2)])
def test_test_images_are_read_once_where_they_are_few(bound, times, monkeypatch):
    task, read = tiny_task(classes=3, test=100), []
    before = type(task.test).read
    monkeypatch.setattr(type(task.test), "read", lambda *given: read.append(given[1]) or before(*given))
    monkeypatch.setattr("ld3m_plugin.evaluation.test_images._HELD_BYTES", bound)
    images = TestImages(task, None)
    first, second = (list(images.batches()) for _ in range(2))
    assert read == [0, 1, 2] * times
    assert torch.equal(torch.cat(first), torch.cat(second))
    assert torch.equal(torch.cat(first), task.normalise(torch.cat([part for part, _ in read_batches(task, None)])))
    assert max(map(len, first)) == 128  # the memory of a forward pass is bounded, also where a batch spans classes


def test_predictions_do_not_depend_on_who_reads_the_images():
    task = tiny_task(image_size=32, test=5)
    network = get_network("ConvNet", rng=stream(0, "n"), channels=1, image_size=32, num_classes=3, width=8)
    assert torch.equal(predict(network, task, 3), predict(network, task, 3, TestImages(task, 3)))


def test_accuracy_on_a_part_of_the_test_set_by_hand():
    class SaysEarly(Network):
        """Class 0 for the first half of the indices."""

        def forward(self, images):
            return torch.nn.functional.one_hot((images[:, 0, 0, 0] >= 0).long(), 3).float()

    # Normalised with mean 0.5: indices up to 127 are below 0. Of 0, 50, 100, 150 three are called class 0.
    task = replace(tiny_task(classes=3), test_images=Uneven(200, 0, 0))
    assert accuracy(SaysEarly(), task, 4) == 75
    assert accuracy(SaysEarly(), task) == 64


def test_evaluation_on_a_part_of_the_test_set():
    task = tiny_task(image_size=32, test=7)
    settings = {"protocol": SHORT.model_copy(update={"epochs": 2}), "repeats": 1, "random_real": False}
    part = evaluate(Real(task), task, **settings, test_per_class=3)
    assert (part.test_images, part.test_per_class, part.record()["test_images"]) == (9, 3, 9)
    assert all((accuracy * 9 / 100) == pytest.approx(round(accuracy * 9 / 100)) for accuracy in part.rows[0].accuracies)
    more = evaluate(Real(task), task, **settings, test_per_class=100)
    full = evaluate(Real(task), task, **settings)
    assert (more.test_images, full.test_images, full.test_per_class) == (21, 21, None)
    assert more.rows == full.rows
    with pytest.raises(InvalidOptionError, match="test_per_class = 0"):
        evaluate(Real(task), task, **settings, test_per_class=0)


@pytest.mark.parametrize("per_class", [None, 3])
def test_a_record_reads_back(per_class):
    rows = (Row("distilled", "ConvNet", (70.1, 71.9)), Row(RANDOM_REAL, "ConvNet", (50.0, 52.0)))
    evaluation = Evaluation(get_protocol("glad-2023"), rows, 9, 3, 1.5, "data", per_class)
    assert Evaluation.from_record(json.loads(json.dumps(evaluation.record()))) == evaluation


def test_a_record_of_before_there_was_a_choice_of_test_images_reads():
    record = Evaluation(get_protocol("quick"), (Row("distilled", "ConvNet", (70.0,)),), 9, 3, 1.5, "data").record()
    del record["test_per_class"]
    assert Evaluation.from_record(record).test_per_class is None


@pytest.mark.parametrize("damage", [{"rows": []}, {"rows": [{"images": "x"}]}, {"protocol": {}}, {"test_images": None}])
def test_what_is_no_record_is_refused(damage):
    record = Evaluation(get_protocol("quick"), (Row("distilled", "ConvNet", (70.0,)),), 9, 3, 1.5, "data").record()
    with pytest.raises((KeyError, TypeError, ValueError)):
        Evaluation.from_record({**record, **damage})


def test_a_learned_rate_is_what_both_kinds_of_images_are_trained_with(monkeypatch):
    task, rates = tiny_task(image_size=32), []

    def noting(network, images, labels, protocol, rate, rng):
        rates.append(rate)
        return network

    monkeypatch.setattr("ld3m_plugin.evaluation.evaluating.train", noting)
    distilled = Real(task)
    distilled.learned = {"synthetic_learning_rate": 0.037}
    protocol = get_protocol("mtt").model_copy(update={"repeats": 1, "network_settings": SHORT.network_settings})
    evaluation = evaluate(distilled, task, protocol=protocol)
    assert rates == [0.037, 0.037]
    # The record says at which rate: it is part of the recipe.
    assert evaluation.record()["protocol"]["learning_rate"] == 0.037


def test_images_without_a_learned_rate_say_which_protocol_to_take():
    task = tiny_task(image_size=32)
    with pytest.raises(UsageError, match="dsa-2021"):
        evaluate(Real(task), task, protocol="mtt")


def test_mtt_protocol_is_dsa_2021_at_another_rate():
    ours, other = (get_protocol(name).model_dump(exclude={"name", "summary", "source"}) for name in ("mtt", "dsa-2021"))
    assert {key for key in ours if ours[key] != other[key]} == {"learned_rate"}
