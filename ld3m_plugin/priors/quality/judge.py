"""A judge: a classifier, trained on all real training images, that measures samples of a generative model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from ld3m_plugin.contracts import Network, Task
from ld3m_plugin.data.numbered_images import NumberedImages
from ld3m_plugin.errors import DataError, InvalidOptionError
from ld3m_plugin.networks.build import for_forward, network_for
from ld3m_plugin.networks.learning_rate import warmup_cosine
from ld3m_plugin.options import Options
from ld3m_plugin.randomness import lent_to_global, spawn

# Narrow, with pooling and norm that are quick on a CPU: a few minutes on one core for 60,000 images of 32×32. Its 512
# features are few enough for the covariance of a thousand samples.
_DEFAULT_NETWORK, _DEFAULT_SETTINGS = "ConvNet", {"width": 32, "norm": "batchnorm", "pooling": "max"}
_WARMUP = 0.1


class JudgeRecipe(Options):
    """How a judge is trained: SGD with Nesterov momentum, linear warm-up over a tenth of the steps, half a cosine to zero."""

    network: str = Field(_DEFAULT_NETWORK, description="architecture; it must give features")
    network_settings: dict[str, Any] | None = Field(
        None,
        description="settings of the architecture; default: a narrow ConvNet; its own defaults for any other network",
    )
    epochs: int = Field(3, ge=1, description="passes over the training images")
    least_steps: int = Field(
        1000, ge=1, description="more passes are made until there are as many steps: small data sets"
    )
    batch_size: int = Field(128, ge=2, description="images a step")
    learning_rate: float = Field(0.05, gt=0, description="at the end of the warm-up")
    momentum: float = Field(0.9, gt=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)

    def settings(self) -> dict[str, Any]:
        """Return the settings of the architecture, with the default filled in."""
        default = _DEFAULT_SETTINGS if self.network == _DEFAULT_NETWORK else {}
        return dict(default if self.network_settings is None else self.network_settings)

    def passes(self, images: int) -> int:
        """Compute the number of passes over `images` training images.

        >>> JudgeRecipe().passes(60_000), JudgeRecipe().passes(12_000)
        (3, 11)
        """
        return max(self.epochs, math.ceil(self.least_steps / self.batches(images)))

    def batches(self, images: int) -> int:
        """Compute the number of steps of one pass; its last batch may be smaller."""
        return math.ceil(images / self.batch_size)

    def rate(self, step: int, steps: int) -> float:
        """Compute the learning rate of update `step` (from 0) of `steps`.

        >>> [round(JudgeRecipe(learning_rate=1).rate(step, 100), 2) for step in (0, 9, 10, 55, 99)]
        [0.1, 1.0, 1.0, 0.5, 0.0]
        """
        return warmup_cosine(step, steps, max(1, round(_WARMUP * steps)), peak=self.learning_rate)


def train_judge(
    task: Task,
    rng: torch.Generator,
    recipe: JudgeRecipe | None = None,
    *,
    on_epoch: Callable[[int, float], None] = lambda *_: None,
) -> Network:
    """Train a classifier on all real training images, without augmentation; the test set is never read.

    Args:
        rng: draws initial weights and the order of the images; the result is a function of its state.
        recipe: default: `JudgeRecipe()`.
        on_epoch: called after each pass with its number (from 1) and its mean cross-entropy in nats.

    Returns:
        The network on `task.device`, in evaluation mode, frozen.

    Raises:
        UsageError: an unknown network or setting, or a network without features.
        DataError: there is no training image.
    """
    recipe = recipe or JudgeRecipe()
    judge = network_for(task, recipe.network, recipe.settings(), rng)
    if type(judge).embed is Network.embed:  # raised before the training, not after it
        raise InvalidOptionError(f"network {recipe.network!r} gives no features to judge by: choose one with embed()")
    optimizer = torch.optim.SGD(
        judge.parameters(), lr=1.0, momentum=recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True
    )
    images = sum(task.train.counts())
    if images == 0:
        raise DataError(f"there is no training image ({task.train.origin}): add some")
    epochs, step = recipe.passes(images), 0
    steps = epochs * recipe.batches(images)
    judge.train()
    # Dropout draws from the global stream, so that stream is seeded from `rng` for the time of the training.
    with lent_to_global(spawn(rng), task.device):
        for epoch in range(1, epochs + 1):
            total = 0.0
            for batch, labels in real_batches(task, recipe.batch_size, rng):
                optimizer.param_groups[0]["lr"] = recipe.rate(step, steps)
                optimizer.zero_grad(set_to_none=True)
                loss = F.cross_entropy(judge(batch), labels)
                loss.backward()
                optimizer.step()
                total, step = total + float(loss.detach()) * len(labels), step + 1
            on_epoch(epoch, total / images)
    return for_forward(judge.eval()).requires_grad_(False)


def real_batches(task: Task, batch_size: int, rng: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Iterate over all training images once, in random order.

    Returns:
        Normalised images (n, C, H, W) and their labels (n,), on the task's device.
    """
    numbered = NumberedImages(task.train)
    for chosen in torch.randperm(len(numbered), generator=rng).split(batch_size):
        # Sorted: floating-point sums depend on the order inside a batch, and judges must stay the same.
        images, labels = numbered.read(chosen.sort().values)
        yield task.normalise(images), labels.to(task.device)
