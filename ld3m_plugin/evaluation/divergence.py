"""Whether the training of a network has failed, so that its accuracy says nothing about the images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ld3m_plugin.contracts import Network

_AT_ONCE = 256
#: In nats: a network that answers the same to every image comes this near to the best such answer.
_NEAR = 1e-4


@torch.no_grad()
def has_diverged(network: Network, images: Tensor, labels: Tensor) -> bool:
    """Whether a trained network knows its own training images no better than an answer that is the same for all of them.

    That is so if its loss on them is not finite, or if both the loss is no lower than that of the best constant answer (the
    entropy of the mean label: ln K for equally many images of K classes) and the share of right answers is no larger than that
    of the largest class. Test images do not enter.

    Args:
        network: in evaluation mode.
        images: its training images (N, C, H, W), normalised, not augmented.
        labels: class indices (N,) or probabilities (N, K), on the device of the images.
    """
    logits = torch.cat([network(some) for some in images.split(_AT_ONCE)]).double()
    shares = (F.one_hot(labels, logits.shape[1]) if labels.ndim == 1 else labels).double()
    mean = shares.mean(0)
    loss = -(shares * logits.log_softmax(1)).sum(1).mean()
    if not torch.isfinite(loss):
        return True
    right = shares.gather(1, logits.argmax(1, keepdim=True)).mean()
    return bool(loss > torch.special.entr(mean).sum() - _NEAR and right <= mean.max() + 1e-9)
