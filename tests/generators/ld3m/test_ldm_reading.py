"""A good prior is read whole, in float32, without side effects; its digest is over its names and bytes."""

import hashlib
import shutil
from operator import attrgetter

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.ld3m.ldm_folder import PriorFacts, digest, save_prior
from ld3m_plugin.generators.ld3m.ldm_prior import load_autoencoder, load_prior
from ld3m_plugin.randomness import stream

WEIGHTS = "diffusion_pytorch_model.safetensors"
UNET, VAE, ROWS = f"unet/{WEIGHTS}", f"vae/{WEIGHTS}", "class_embedding.safetensors"
TENSORS = {UNET: "conv_in.weight", VAE: "decoder.conv_in.weight", ROWS: "weight"}
SCHEDULER = "scheduler/scheduler_config.json"


@pytest.mark.slow
def test_weights_are_frozen_float32_in_evaluation_mode(copied, priors):
    import diffusers

    folder, whole = copied(), load_prior(priors())
    scheduler = diffusers.DDIMScheduler.from_pretrained(folder / "scheduler")
    parts = {"unet": whole.denoiser, "autoencoder": whole.codec.model, "scheduler": scheduler, "facts": whole.facts}
    save_prior(folder, **parts, class_embedding=whole.class_embedding, half=True)
    assert {tensor.dtype for tensor in load_file(folder / UNET).values()} == {torch.float16}
    half = load_prior(folder)
    for part in (attrgetter("denoiser"), attrgetter("codec.model")):
        model, original = part(half), part(whole)
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())
        for key, value in original.state_dict().items():
            assert model.state_dict()[key].dtype == torch.float32
            assert torch.equal(model.state_dict()[key], value.half().float())
    assert torch.equal(half.class_embedding, whole.class_embedding.half().float())


def test_a_random_stream_and_the_initialisers_are_left_as_they_were(copied, priors, edit_json, refused):
    folder = copied()
    (folder / UNET).write_bytes(b"")
    initialiser, state, dtype = torch.nn.init.normal_, torch.get_rng_state(), torch.get_default_dtype()
    load_prior(priors())
    refused(folder)
    edit_json(folder / "vae" / "config.json", act_fn="none of them")
    refused(folder)
    assert torch.nn.init.normal_ is initialiser
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_default_dtype() == dtype


def test_old_folders_of_unconditional_models_are_read(copied, edit_json, rewritten, small_autoencoder):
    # As the first diffusers wrote them: other names in attention blocks, no scaling_factor, a pipeline's index, no prior.json.
    folder = rewritten(
        copied(conditional=False, vq=True),
        autoencoder=small_autoencoder("VQModel", num_vq_embeddings=8, scaling_factor=1.0),
    )
    new = load_prior(folder)
    old_names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for part in ("unet", "vqvae"):
        tensors = load_file(folder / part / WEIGHTS)
        renamed = {}
        for name, tensor in tensors.items():
            for now, then in old_names.items():
                name = name.replace(f".{now}.", f".{then}.")
            renamed[name] = tensor
        assert len(set(renamed) - set(tensors)) >= 8
        save_file(renamed, folder / part / WEIGHTS)
    edit_json(folder / "vqvae" / "config.json", scaling_factor=...)
    edit_json(folder / "model_index.json", _class_name="LDMPipeline", _diffusers_version="0.1.2")
    (folder / "prior.json").unlink()
    old = load_prior(folder)
    state = torch.randn(2, 3, 8, 8, generator=stream(0, "state"))
    pictures = torch.rand(2, 1, 16, 16, generator=stream(0, "pictures")) * 2 - 1
    assert torch.equal(old.predict(state, 5.0, None), new.predict(state, 5.0, None))
    assert torch.equal(old.codec.encode(pictures), new.codec.encode(pictures))
    assert torch.equal(old.codec.decode(state), new.codec.decode(state))
    assert old.facts == PriorFacts()


def test_scale_of_a_folder_that_states_none(copied, edit_json):
    # The published VQ models have a scale of 1; the KL models of that time have diffusers' default.
    pictures = torch.rand(1, 1, 16, 16, generator=stream(0, "pictures"))
    for vq, part, scale in ((True, "vqvae", 1.0), (False, "vae", 0.18215)):
        folder = copied(vq=vq)
        edit_json(folder / part / "config.json", scaling_factor=..., latents_mean=..., latents_std=...)
        codec = load_autoencoder(folder).codec
        encoded = codec.model.encode(pictures)
        code = encoded.latents if vq else encoded.latent_dist.mode()
        torch.testing.assert_close(codec.encode(pictures), code * scale)
        shutil.rmtree(folder)


def test_the_autoencoder_alone_needs_no_unet(copied):
    folder = copied()
    shutil.rmtree(folder / "unet")
    load_autoencoder(folder)


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_gives_a_prior_or_one_line(priors, tmp_path, data):
    folder = tmp_path / "prior"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(priors(vq=data.draw(st.booleans())), folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, min(len(content), 4000) - 1))  # of tensors, mostly the header
    content[position] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.sampled_from([None, None, position]))])
    message = str(folder)
    try:
        load_prior(folder)
    except PriorError as error:
        message = str(error)
    assert "\n" not in message
    assert str(folder) in message


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_digest_is_over_names_and_bytes(priors):
    folder = priors()
    names = [
        *("class_embedding.safetensors", "model_index.json", "prior.json", SCHEDULER),
        *("unet/config.json", UNET, "vae/config.json", VAE),
    ]
    expected = b"".join(n.encode() + b"\0" + hashlib.sha256((folder / n).read_bytes()).digest() for n in names)
    assert digest(folder) == hashlib.sha256(expected).hexdigest()


def test_digest_is_of_the_prior_and_not_of_what_lies_beside(copied, priors):
    folder = copied()
    before = digest(priors())
    (folder / "quality.json").write_text("{}")
    (folder / "samples.png").write_bytes(b"png")
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    for name in (".cache", "safety_checker"):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text("{}")
    assert digest(folder) == before


@pytest.mark.parametrize("name", [*TENSORS, "prior.json", SCHEDULER, "unet/config.json", "model_index.json"])
def test_digest_changes_with_one_bit(copied, name):
    folder = copied()
    before = digest(folder)
    flip(folder / name)
    assert digest(folder) != before
