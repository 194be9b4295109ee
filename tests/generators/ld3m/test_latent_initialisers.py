"""Initialisers that need a prior: latent centres by arithmetic, samples of the plain sampler, whose prior they use."""

import pytest
import torch

from ld3m_plugin.backends import get_generator
from ld3m_plugin.errors import InvalidOptionError, PriorError
from ld3m_plugin.generators.imaging import PictureSpace
from ld3m_plugin.generators.ld3m import latent_centres
from ld3m_plugin.generators.ld3m.codec import Codec
from ld3m_plugin.generators.ld3m.latent_centres import LatentCentres
from ld3m_plugin.generators.ld3m.ldm_prior import load_prior
from ld3m_plugin.generators.ld3m.prior_samples import PriorSamples, draw_samples
from ld3m_plugin.randomness import spawn, stream
from ld3m_plugin.testing import check_initialiser, tiny_task

LABELS = torch.tensor([0, 1, 2])


@pytest.fixture
def task():
    return tiny_task(train=6)


def start(name, task, labels=LABELS, **options):
    generator = get_generator(name, **options)
    generator.prepare(task)
    return generator, generator.initial_latents(task, labels, stream(0, "latents"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [LatentCentres, PriorSamples])
def test_they_keep_the_contract(priors, kind):
    folder = str(priors())
    check_initialiser(lambda: kind(prior=folder))


def test_one_latent_centre_is_the_mean_of_the_encoded_class(priors, task):
    folder = priors()
    codec = load_prior(folder).codec
    space = PictureSpace(task, codec.channels)
    every = [task.normalise(task.train.read(k, torch.arange(6))) for k in range(3)]
    with torch.no_grad():
        means = torch.stack([codec.encode(space.pictures(images)).mean(0) for images in every])
        decoded = space.images(codec.decode(means))
    generator, latents = start("autoencoder", task, prior=str(folder), init="latent-centres")
    torch.testing.assert_close(latents["latent"], means)  # as they are, and not decoded and encoded again
    assert generator.start() == "latent centres"
    _, written = start("pixel", task, init="latent-centres", init_options={"prior": str(folder)})
    torch.testing.assert_close(written["pixels"], decoded)


def test_centres_of_another_prior_are_encoded_pictures(priors, task):
    own, other = priors(), priors(vq=True)
    options = {"prior": str(own), "init": "latent-centres", "init_options": {"prior": str(other)}}
    _, latents = start("autoencoder", task, **options)
    codec = load_prior(own).codec
    images = LatentCentres(prior=str(other)).images(task, LABELS, stream(0, "latents"))
    with torch.no_grad():
        expected = codec.encode(PictureSpace(task, codec.channels).pictures(images))
    torch.testing.assert_close(latents["latent"], expected)


@pytest.mark.parametrize("kind", [LatentCentres, PriorSamples])
def test_no_more_is_decoded_at_once_than_fits(priors, task, monkeypatch, kind):
    sizes, decode = [], Codec.decode
    monkeypatch.setattr(Codec, "decode", lambda codec, some: sizes.append(len(some)) or decode(codec, some))
    monkeypatch.setattr(latent_centres, "_BUDGET", 1e-9)
    initialiser = kind(prior=str(priors()))
    initialiser.prepare(task)
    assert len(initialiser.images(task, LABELS.repeat_interleave(4), stream(0, "latents"))) == 12
    assert set(sizes) == {1}


def test_samples_are_those_of_the_plain_sampler_with_the_options_of_ld3m(priors, task):
    folder = priors()
    generator, latents = start(
        "ld3m", task, prior=str(folder), init="samples", steps=2, guidance_scale=2.0, learn="latent"
    )
    loaded, space = load_prior(folder), PictureSpace(task, 1)
    seed = spawn(stream(0, "latents")).initial_seed()
    drawn = [draw_samples(loaded, task, torch.tensor([k]), stream(seed, k), 2.0, 2) for k in range(3)]
    with torch.no_grad():
        expected = loaded.codec.encode(space.pictures(torch.cat(drawn)))
    torch.testing.assert_close(latents["latent"], expected)
    assert generator.start() == "prior samples"


def test_noise_after_the_start_is_the_same_whatever_it_is(priors, task):
    folder = str(priors())
    found = [start("ld3m", task, prior=folder, init=init)[1]["noise"] for init in ("real", "mean", "latent-centres")]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_the_prior_is_part_of_what_decides_the_start(priors, task):
    one, other = (get_generator("pixel", init="samples", init_options={"prior": str(priors(vq=vq))}) for vq in (0, 1))
    more = get_generator("pixel", init="samples", init_options={"prior": str(priors()), "steps": 3})
    facts = []
    for generator in (one, other, more):
        generator.prepare(task)
        facts.append(generator.provenance()["init_options_sha256"])
    assert len(set(facts)) == 3


def test_what_does_not_fit_is_refused(priors, tmp_path):
    task = tiny_task(image_size=18)
    with pytest.raises(PriorError, match="nowhere"):
        start("pixel", task, init="latent-centres", init_options={"prior": str(tmp_path / "nowhere")})
    with pytest.raises(InvalidOptionError, match="multiple of 4"):
        start("pixel", task, init="latent-centres", init_options={"prior": str(priors())})
    with pytest.raises(InvalidOptionError, match="multiple of 8"):
        start("pixel", task, init="samples", init_options={"prior": str(priors())})
    options = {"prior": str(priors(null=False)), "guidance_scale": 2}
    with pytest.raises(InvalidOptionError, match="null class"):
        start("pixel", tiny_task(), init="samples", init_options=options)
