"""Train the networks of an evaluation on all training images and test them; prints a table.

    python scripts/full_data.py --data fashion-mnist:embedded --epochs 20 --seeds 3

Tables of distilled images stand beside these accuracies. The recipe, with its rates, is the protocol's, but for the number of
epochs and the batch. Cells are the mean over networks with initial weights of their own, and their deviation. A second table has
the accuracy on each class.
"""

from __future__ import annotations

import time
from math import isnan
from types import SimpleNamespace

import torch
from evaluation_arguments import evaluation_parser, given_task
from torch import Tensor

from ld3m_plugin.errors import UsageError
from ld3m_plugin.evaluation import evaluate, get_protocol
from ld3m_plugin.evaluation.evaluating import check_evaluation
from ld3m_plugin.randomness import stream


def by_class(predicted: Tensor, labels: Tensor, num_classes: int) -> list[float]:
    """Accuracy on the test images of each class, in percent, networks that diverged among them; NaN for a class without any.

    Args:
        predicted: classes (networks, test images).
        labels: true classes (test images,).
    """
    correct = (predicted == labels).double().mean(0)
    return [100 * correct[labels == k].mean().item() for k in range(num_classes)]


def main() -> None:
    parser = evaluation_parser(__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--test-per-class", type=int, default=None, help="default: all test images")
    given = parser.parse_args()
    task, base = given_task(given), get_protocol(given.protocol)
    recipe = base.model_copy(update={"epochs": given.epochs, "batch_size": given.batch_size, "name": "full data"})
    labels = torch.arange(task.num_classes).repeat_interleave(torch.tensor(task.train.counts()))
    networks = given.networks.split(",") if given.networks else list(base.networks)
    try:
        check_evaluation(task, recipe, networks, 0)
    except UsageError as error:
        raise SystemExit(f"error: {error}") from None
    print(f"| network | {len(labels)} images, {given.epochs} epochs | CPU s |\n| --- | ---: | ---: |")
    everything = SimpleNamespace(images=task.real_images_of(labels, stream(0, "full data")), labels=labels)
    classes = {}
    for network in networks:
        began = time.process_time()
        found = evaluate(
            everything,
            task,
            networks=[network],
            protocol=recipe,
            repeats=given.seeds,
            random_real=False,
            test_per_class=given.test_per_class,
        )
        print(f"| {network} | {found.rows[0]} | {time.process_time() - began:.0f} |", flush=True)
        classes[network] = by_class(found.rows[0].predicted, found.test_labels, task.num_classes)
    print("\n| class |", " | ".join(classes), "|\n| --- |", " | ".join("---:" for _ in classes), "|")
    for name, accuracies in zip(task.class_names, zip(*classes.values(), strict=True), strict=True):
        print(f"| {name} |", " | ".join("no images" if isnan(value) else f"{value:.1f}" for value in accuracies), "|")


if __name__ == "__main__":
    main()
