"""Traps of Kornia that shape the augmentation; a failure here means that Kornia has changed."""

import kornia.augmentation as K
import pytest
import torch

from ld3m_plugin.augmentation import DSA, DSABrightness


@pytest.mark.parametrize("same_on_batch", [False, True])
def test_replay_on_another_batch_size_fails(same_on_batch):
    brightness = K.RandomBrightness((0.5, 1.5), clip_output=False, same_on_batch=same_on_batch, p=1.0)
    brightness(torch.rand(256, 1, 4, 4))
    with pytest.raises(RuntimeError, match="256"):
        brightness(torch.rand(10, 1, 4, 4), params=brightness._params)


def test_a_siamese_draw_fits_every_batch_size(rng):
    dsa = DSA()
    for _ in range(20):
        draw = dsa.draw((256, 1, 4, 4), rng, siamese=True)
        assert dsa.apply(torch.rand(256, 1, 4, 4), draw).shape[0] == 256
        assert dsa.apply(torch.rand(10, 1, 4, 4), draw).shape[0] == 10


def test_same_on_batch_joins_concatenated_batches():
    batch = torch.rand(1, 1, 8, 8).repeat(12, 1, 1, 1)
    out = K.RandomAffine(30.0, same_on_batch=True, p=1.0)(batch)
    torch.testing.assert_close(out, out[:1].expand_as(out))


def test_kornias_brightness_clips_by_default():
    images = torch.tensor([2.0, -1.0, 0.5]).view(1, 1, 1, 3).requires_grad_()
    neutral = {"brightness_factor": torch.ones(1)}
    clipped = K.RandomBrightness((0.5, 1.5), p=1.0)(images, params=dict(neutral))
    assert clipped.flatten().tolist() == [1.0, 0.0, 0.5]
    (gradient,) = torch.autograd.grad(clipped.sum(), images)
    assert gradient.flatten().tolist() == [0.0, 0.0, 1.0]
    ours = DSABrightness()(images, params={"brightness_offset": torch.zeros(1)})
    assert torch.equal(ours, images)


def test_kornia_advances_the_global_stream():
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        DSABrightness()(torch.zeros(2, 1, 4, 4))
        assert not torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("global_stream_untouched")
def test_the_strategy_does_not(rng):
    for siamese in (False, True):
        DSA()(torch.zeros(2, 1, 4, 4), rng=rng, siamese=siamese)
