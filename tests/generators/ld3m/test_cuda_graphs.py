"""Replayed passes: with a stand-in for the recording they run on the CPU; `test_real_card.py` runs them on a card."""

import pytest
import torch

from ld3m_plugin.backends import get_generator
from ld3m_plugin.contracts import Latents
from ld3m_plugin.errors import UsageError
from ld3m_plugin.generators.ld3m import cuda_graphs, ld3m_generator
from ld3m_plugin.generators.ld3m.cuda_graphs import Replayed


@pytest.fixture
def recorded(monkeypatch):
    """Work that is recorded on the CPU: a replay computes it anew, into the same tensors. Counts recordings and replays."""
    counts = {"recorded": 0, "replayed": 0}

    def record(work, device):
        counts["recorded"] += 1
        result, with_gradient = work(), torch.is_grad_enabled()
        is_one = isinstance(result, torch.Tensor)
        slots = [part.detach().clone() for part in ([result] if is_one else result)]

        def replay():
            counts["replayed"] += 1
            with torch.set_grad_enabled(with_gradient):
                made = work()
            for slot, value in zip(slots, [made] if is_one else made, strict=True):
                slot.copy_(value.detach())

        return slots[0] if is_one else slots, replay

    monkeypatch.setattr(cuda_graphs, "record", record)
    return counts


@pytest.fixture
def possible(monkeypatch, recorded):
    monkeypatch.setattr(ld3m_generator, "are_possible", lambda device: True)
    return recorded


def rendered(generator, latents):
    """Images, and the gradients of a fixed function of them."""
    leaves = {name: latents[name].clone().requires_grad_(name in latents.learned) for name in latents}
    images = generator.render(Latents(leaves, latents.learned))
    weights = torch.linspace(-1, 1, images.numel()).view_as(images)
    return images.detach(), torch.autograd.grad((images * weights).sum(), [leaves[name] for name in latents.learned])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"guidance_scale": 3.0},
        {"gradient": "last-1"},
        {"learn": "class_embedding"},
        {"learn": "latent", "residual": "mean", "eta": 0.5},
        {"memory": "checkpoint"},
    ],
)
def test_a_replay_has_the_same_images_and_gradients(started, priors, possible, options):
    eager, replaying = (
        get_generator("ld3m", prior=str(priors(vq=True)), steps=3, cuda_graphs=graphs, **options)
        for graphs in ("none", "auto")
    )
    latents = started(eager)
    started(replaying)
    images, gradients = rendered(eager, latents)
    assert possible["recorded"] == 0
    for _ in range(2):
        found, made = rendered(replaying, latents)
        assert torch.equal(found, images)
        assert all(torch.allclose(one, other, rtol=1e-5, atol=1e-7) for one, other in zip(made, gradients, strict=True))
    assert possible["recorded"] <= 5  # network and decoder, forward and backward; the first state may need no gradient
    with torch.no_grad():
        assert torch.equal(replaying.render(latents), images)


def test_large_passes_are_launched_as_they_are(started, priors, possible, monkeypatch):
    monkeypatch.setattr(ld3m_generator, "MOST_REPLAYED", 0)
    generator = get_generator("ld3m", prior=str(priors()), steps=2)
    rendered(generator, started(generator))
    assert possible["recorded"] == 0


def test_sizes_and_gradients_have_recordings_of_their_own(recorded):
    replayed = Replayed(lambda x, y: x * y.sum())
    x, y = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    assert replayed(x, y).tolist() == [7.0, 14.0]
    assert replayed(2 * x, y).tolist() == [14.0, 28.0]
    assert recorded["recorded"] == 1
    (gradient,) = torch.autograd.grad(replayed(x.requires_grad_(), y).sum(), x)  # the sum of y
    assert gradient.tolist() == [7.0, 7.0]
    assert recorded["recorded"] == 2
    one, other = torch.autograd.grad(replayed(x, y.requires_grad_()).sum(), [x, y])  # and the sum of x
    assert (one.tolist(), other.tolist()) == ([7.0, 7.0], [3.0, 3.0])
    assert replayed(x[:1].detach(), y.detach()).tolist() == [7.0]
    assert recorded["recorded"] == 4


def test_what_was_given_is_not_changed_by_a_later_replay(recorded):
    replayed, x = Replayed(lambda x: x.square()), torch.tensor([3.0], requires_grad=True)
    first, second = replayed(x), replayed(2 * x)
    assert (first.item(), second.item()) == (9.0, 36.0)
    (gradient,) = torch.autograd.grad(first + second, x)  # 2·3 + 2·6·2
    assert gradient.item() == 30.0


def test_it_is_differentiated_once(recorded):
    x = torch.tensor([3.0], requires_grad=True)
    with pytest.raises(UsageError, match="leave out create_graph=True, or use cuda_graphs=none"):
        torch.autograd.grad(Replayed(lambda x: x**3)(x), x, create_graph=True)


def test_what_cannot_be_recorded_is_launched_as_it_is(monkeypatch):
    def record(work, device):
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    monkeypatch.setattr(cuda_graphs, "record", record)
    replayed, x = Replayed(lambda x: x**2), torch.tensor([3.0], requires_grad=True)
    with pytest.warns(UserWarning, match="no CUDA graph .operation not permitted when stream is capturing."):
        assert replayed(x).item() == 9.0
    assert torch.autograd.grad(replayed(x), x)[0].item() == 6.0


def test_memory_counts_again_where_nothing_can_be_recorded(started, priors, monkeypatch):
    def record(work, device):
        raise RuntimeError("operation not permitted")

    monkeypatch.setattr(cuda_graphs, "record", record)
    monkeypatch.setattr(ld3m_generator, "are_possible", lambda device: True)
    generator = get_generator("ld3m", prior=str(priors(vq=True)), steps=3, memory="checkpoint")
    latents, passes = started(generator), []
    with pytest.warns(UserWarning, match="no CUDA graph"):
        rendered(generator, latents)
    generator._prior.denoiser.conv_in.register_forward_hook(lambda *_: passes.append(1))
    rendered(generator, latents)
    assert len(passes) == 6  # three steps, each computed again
