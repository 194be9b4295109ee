"""`scripts/full_data.py`: the accuracy on each class."""

from math import isnan

import pytest
import torch


@pytest.fixture(scope="module")
def by_class(load_script):
    return load_script("full_data").by_class


def test_accuracy_on_each_class_is_over_its_test_images_and_all_networks(by_class):
    labels = torch.tensor([0, 0, 1, 1, 1, 1])
    predicted = torch.tensor([[0, 1, 1, 1, 1, 0], [0, 0, 1, 0, 0, 0]])
    # Three of four answers on class 0 are right, four of eight on class 1.
    assert by_class(predicted, labels, 2) == [75.0, 50.0]


def test_a_class_without_test_images_has_no_accuracy(by_class):
    first, second, last = by_class(torch.tensor([[0, 1]]), torch.tensor([0, 0]), 3)
    assert first == 50.0
    assert isnan(second)
    assert isnan(last)
