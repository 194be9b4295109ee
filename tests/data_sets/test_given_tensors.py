"""Tasks of a caller's tensors and torch data sets: kept as they are, sorted by class, refused in one line."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset
from torchvision import transforms

from ld3m_plugin.backends import get_objective
from ld3m_plugin.errors import DataError
from ld3m_plugin.evaluation import evaluate
from ld3m_plugin.initialisers.pixel_statistics import ClassMeans
from ld3m_plugin.priors.training.batches import RealBatches
from ld3m_plugin.randomness import stream
from ld3m_plugin.task import Task
from ld3m_plugin.testing import tiny_task

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.1)
LABELS = torch.tensor([1, 0, 1, 0, 1])


def pixels(seed=0):
    return torch.randint(0, 256, (5, 3, 8, 8), generator=stream(seed, "pixels"), dtype=torch.uint8)


def normalised(images):
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (images / 255 - mean) / std


def all_of(task, k):
    return task.normalise(task.train.read(k, torch.arange(task.train.counts()[k])))


def test_normalised_images_are_kept_bit_for_bit_beyond_the_range_of_pixels_too():
    images = normalised(pixels()) * 3 + 1e-3
    task = Task.from_tensors(images, LABELS, MEAN, STD, ["a", "b"])
    assert task.train.counts() == (2, 3)
    assert torch.equal(all_of(task, 0), images[[1, 3]])
    assert torch.equal(all_of(task, 1), images[[0, 2, 4]])
    drawn = task.real_images(1, 3, stream(0, "x"))
    assert {tuple(image.flatten().tolist()) for image in drawn} == {
        tuple(image.flatten().tolist()) for image in images[[0, 2, 4]]
    }


def test_pixels_become_what_a_data_set_of_pixels_gives():
    task = Task.from_tensors(pixels(), LABELS, MEAN, STD)
    torch.testing.assert_close(all_of(task, 1), normalised(pixels()[[0, 2, 4]]))
    assert task.train.read(0, torch.arange(2)).dtype == torch.uint8
    assert task.class_names == ("class 0", "class 1")
    assert (task.channels, task.image_size, task.num_classes) == (3, 8, 2)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.int64, list], ids=str)
def test_arrays_of_numpy_are_taken_and_copied(kind):
    labels = LABELS.tolist() if kind is list else LABELS.numpy().astype(kind)
    images = pixels().numpy().copy()
    images.setflags(write=False)
    task = Task.from_tensors(images, labels, np.array(MEAN), np.array(STD), test=(images, labels))
    for split in (task.train, task.test):
        assert torch.equal(split.read(0, torch.arange(2)), pixels()[[1, 3]])
    images.setflags(write=True)
    images[:] = 0
    assert torch.equal(task.train.read(0, torch.arange(2)), pixels()[[1, 3]])


def test_gray_images_take_numbers_for_mean_and_std():
    assert Task.from_tensors(pixels()[:, :1], LABELS, 0.5, 0.25).mean == (0.5,)


def test_objectives_and_baselines_see_the_same_images_from_pixels_and_from_floats():
    of_pixels = tiny_task()
    images = torch.cat([all_of(of_pixels, k) for k in range(3)])
    labels = torch.arange(3).repeat_interleave(12)
    of_floats = Task.from_tensors(images, labels, of_pixels.mean, of_pixels.std)
    learned, wanted = torch.zeros(3, 1, 16, 16), torch.arange(3)
    matches = []
    for task in (of_pixels, of_floats):
        objective = get_objective("dm", batch_real=6, network_settings={"depth": 2, "width": 8})
        objective.prepare(task, wanted, stream(0, "objective"))
        matches.append(objective.match(learned.clone().requires_grad_(), wanted, 0))
    assert matches[0].loss == matches[1].loss
    assert torch.equal(matches[0].image_grad, matches[1].image_grad)
    means = [ClassMeans().images(task, wanted, stream(0, "means")) for task in (of_pixels, of_floats)]
    torch.testing.assert_close(*means)
    pictures = [RealBatches(task, 4).draw(stream(0, "batches"))[0] for task in (of_pixels, of_floats)]
    torch.testing.assert_close(*pictures)


def test_without_a_test_set_only_evaluation_is_refused():
    task = Task.from_tensors(pixels(), LABELS, MEAN, STD)
    with pytest.raises(DataError, match="no test images: give test= "):
        evaluate(type("Set", (), {"images": all_of(task, 0), "labels": torch.tensor([0, 1])})(), task)
    tested = Task.from_tensors(pixels(), LABELS, MEAN, STD, test=(pixels(1), LABELS))
    assert tested.test.counts() == (2, 3)


class Pictures:
    """Five pictures of PIL, as torchvision's data sets give them."""

    classes = ("left", "right")

    def __init__(self, transform=None):
        self.transform = transform

    def __len__(self):
        return 5

    def __getitem__(self, index):
        picture = Image.fromarray(pixels()[index].permute(1, 2, 0).numpy())
        return (picture if self.transform is None else self.transform(picture)), int(LABELS[index])


def test_a_data_set_of_pictures_becomes_pixels_with_its_class_names():
    task = Task.from_dataset(Pictures(), MEAN, STD)
    assert torch.equal(task.train.read(1, torch.arange(3)), pixels()[[0, 2, 4]])
    assert task.class_names == ("left", "right")
    assert task.name == "Pictures"


def test_a_data_set_that_normalises_says_mean_and_std_itself():
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    task = Task.from_dataset(Pictures(transform))
    assert (task.mean, task.std) == (MEAN, STD)
    assert torch.equal(all_of(task, 1), torch.stack([Pictures(transform)[index][0] for index in (0, 2, 4)]))


def test_a_data_set_of_tensors():
    task = Task.from_dataset(TensorDataset(normalised(pixels()), LABELS), MEAN, STD, ["a", "b"])
    assert torch.equal(all_of(task, 0), normalised(pixels())[[1, 3]])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"images": pixels() / 255}, "not normalised"),
        ({"images": normalised(pixels()) * float("nan")}, "NaN"),
        ({"images": pixels().int()}, "int32"),
        ({"images": pixels()[0]}, "(3, 8, 8)"),
        ({"images": pixels()[..., :4]}, "square"),
        ({"images": [pixels()]}, "list"),
        ({"images": np.array(["a"])}, "ndarray"),
        ({"images": pixels()[:, :2]}, "channels"),
        ({"labels": LABELS[:3]}, "3 labels"),
        ({"labels": LABELS.float()}, "index of each image's class"),
        ({"labels": ["0", "1", "0", "1", "0"]}, "list"),
        ({"labels": np.array([0.0, 1.0, 0.0, 1.0, 0.0])}, "class"),
        ({"labels": LABELS + 1}, "class 0"),
        ({"labels": LABELS + 10**12}, "labels go to"),
        ({"mean": (0.5, float("nan"), 0.5)}, "finite"),
        ({"std": (0.5, float("inf"), 0.5)}, "finite"),
        ({"class_names": ["a"]}, "labels 0 to 1"),
        ({"class_names": ["a", "a"]}, "name of its own"),
        ({"mean": (0.5,)}, "each channel"),
        ({"std": (0.5, 0.0, 0.5)}, "above 0"),
        ({"mean": "x"}, "each channel"),
        ({"test": (normalised(pixels()), LABELS)}, "alike"),
    ],
)
def test_what_does_not_fit_is_one_line(change, named):
    given = {"images": pixels(), "labels": LABELS, "mean": MEAN, "std": STD, **change}
    with pytest.raises(DataError) as refused:
        Task.from_tensors(**given)
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("items", "named"),
    [([(1, 2, 3)], "item 0"), ([("picture", 0)], "str"), ([(pixels()[0], 0), (pixels()[0, :, :4], 1)], "one shape")],
)
def test_other_items_of_a_data_set_are_one_line(items, named):
    with pytest.raises(DataError, match=named):
        Task.from_dataset(items, MEAN, STD)


def test_a_data_set_without_normalise_needs_mean_and_std():
    with pytest.raises(DataError, match="Normalize"):
        Task.from_dataset(Pictures())
