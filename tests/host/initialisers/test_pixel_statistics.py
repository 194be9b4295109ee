"""Initialisers against arithmetic: means, centres that Lloyd's algorithm cannot move, medoids by trying all images."""

import itertools

import numpy as np
import pytest
import torch

from ld3m_plugin.backends import create
from ld3m_plugin.errors import DataError
from ld3m_plugin.initialisers.kmeans import kmeans
from ld3m_plugin.initialisers.pixel_statistics import nearest_members
from ld3m_plugin.randomness import stream
from ld3m_plugin.testing import check_initialiser, tiny_task

NAMES = ["real", "mean", "centres", "medoids"]
TASK = tiny_task(classes=3, channels=3, image_size=8, train=12)


def images(name, labels, seed=0, task=TASK):
    return create("initialiser", name, {}).images(task, torch.tensor(labels), stream(seed, "latents"))


def pixels(k, task=TASK):
    """All training images of a class in [0, 1], (n, C, H, W) float64."""
    return task.train.read(k, torch.arange(task.train.counts()[k])).double() / 255


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_initialiser_keeps_the_contract(name, channels):
    check_initialiser(lambda: create("initialiser", name, {}), tiny_task(channels=channels, image_size=8))


@pytest.mark.parametrize("name", ["mean", "centres"])
def test_with_one_image_a_class_means_and_centres_are_the_mean(name):
    made = TASK.denormalise(images(name, [0, 1, 2]))
    for k in range(3):
        np.testing.assert_allclose(made[k], np.mean(pixels(k).numpy(), axis=0), atol=1e-6)


def test_the_mean_is_repeated_for_all_images_of_a_class():
    made = images("mean", [0, 0, 1, 1])
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[::2], images("mean", [0, 1], seed=5))


def test_real_images_are_those_of_the_task():
    labels = torch.tensor([0, 0, 1, 2])
    assert torch.equal(images("real", [0, 0, 1, 2]), TASK.real_images_of(labels, stream(0, "latents")))


def test_centres_are_the_means_of_the_images_nearest_to_them():
    for k, made in enumerate(TASK.denormalise(images("centres", [0, 0, 0, 1, 1, 1])).double().split(3)):
        real = pixels(k)
        nearest = (real[:, None] - made[None]).square().sum((2, 3, 4)).argmin(1)
        assert set(nearest.tolist()) == {0, 1, 2}
        for index in range(3):
            torch.testing.assert_close(made[index], real[nearest == index].mean(0), rtol=0, atol=1e-6)


def test_a_medoid_has_the_least_sum_of_squared_distances():
    real = pixels(0).flatten(1)
    sums = torch.cdist(real, real).square().sum(1)
    torch.testing.assert_close(
        TASK.denormalise(images("medoids", [0]))[0].flatten().double(), real[sums.argmin()], rtol=0, atol=1e-6
    )


def test_medoids_are_different_real_images():
    made = TASK.denormalise(images("medoids", [1, 1, 1, 1])).double()
    found = [(pixels(1) - one).abs().amax((1, 2, 3)).argmin() for one in made]
    assert len(set(map(int, found))) == 4
    assert all((pixels(1)[index] - one).abs().max() < 1e-6 for index, one in zip(found, made, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_other_classes_change_nothing(name):
    both, alone = images(name, [0, 0, 2, 2]), images(name, [2, 2])
    assert torch.equal(both[2:], alone)


@pytest.mark.parametrize("name", NAMES)
def test_every_initialiser_takes_the_same_from_the_stream(name):
    # What a generator draws after its start, such as noise, is then the same.
    rng, other = stream(0, "latents"), stream(0, "latents")
    create("initialiser", name, {}).images(TASK, torch.tensor([0, 1, 1]), rng)
    TASK.real_images_of(torch.tensor([0, 1, 1]), other)
    assert torch.equal(rng.get_state(), other.get_state())


@pytest.mark.parametrize("name", ["real", "centres", "medoids"])
def test_a_class_with_too_few_images_is_named(name):
    with pytest.raises(DataError, match="'class 1' has 2 images and 3"):
        images(name, [0, 1, 1, 1], task=tiny_task(train=2))


def test_k_means_finds_clusters_that_are_far_apart():
    around = torch.tensor([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]])
    points = torch.cat(
        [around + shift for shift in (torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]), -torch.ones(2))]
    )
    centres, clusters = kmeans(points, 3, stream(0, "k"))
    assert sorted(centres.round(decimals=6).tolist()) == sorted(around.double().tolist())
    assert torch.equal(centres[clusters].round().float(), around.repeat(3, 1))


def test_k_means_is_as_good_as_the_best_of_all_partitions_of_a_small_set():
    points = torch.tensor([[0.0], [1.0], [5.0], [6.0], [20.0]])
    parts = [np.array(p) for p in itertools.product(range(2), repeat=5) if len(set(p)) == 2]
    values = points.numpy()
    best = min(sum(((values[p == j] - values[p == j].mean()) ** 2).sum() for j in range(2)) for p in parts)
    found = [kmeans(points, 2, stream(seed, "k")) for seed in range(8)]
    costs = [float((points.double() - centres[clusters]).square().sum()) for centres, clusters in found]
    assert min(costs) == pytest.approx(best)
    assert all(cost >= best - 1e-9 for cost in costs)


def test_equal_points_give_equal_centres():
    centres, _ = kmeans(torch.ones(4, 2), 3, stream(0, "k"))
    assert torch.equal(centres, torch.ones(3, 2, dtype=torch.float64))


def test_an_empty_cluster_takes_an_image_that_no_other_has():
    points, centres = torch.tensor([[0.0], [1.0], [9.0]]), torch.tensor([[0.4], [0.4], [9.0]])
    assert nearest_members(points, centres, torch.tensor([0, 0, 2])).tolist() == [0, 1, 2]
