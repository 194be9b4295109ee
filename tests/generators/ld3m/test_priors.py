"""Reading a prior: every damage is one line that names the file, nothing that is read executes, and a good one is read whole."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from ld3m_plugin.errors import InvalidOptionError, PriorError
from ld3m_plugin.generators.ld3m.ldm_folder import PriorFacts, digest, save_prior
from ld3m_plugin.generators.ld3m.ldm_prior import EMBEDDED, Codec, find_prior, load_prior
from ld3m_plugin.randomness import lent_to_global, stream

WEIGHTS = "diffusion_pytorch_model.safetensors"
UNET, VAE, ROWS = f"unet/{WEIGHTS}", f"vae/{WEIGHTS}", "class_embedding.safetensors"
TENSORS = {UNET: "conv_in.weight", VAE: "decoder.conv_in.weight", ROWS: "weight"}
SCHEDULER = "scheduler/scheduler_config.json"
DELETED = object()


@pytest.fixture
def copied(priors, tmp_path):
    """`copied(**what)`: a tiny prior that the test may damage."""
    return lambda **what: shutil.copytree(priors(**what), tmp_path / "prior")


def edit(path, **values):
    """Sets keys of a JSON file; `DELETED` removes one."""
    content = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not DELETED}))


def refused(folder, **how):
    """The message with which a folder is not read: one line that names the folder or a file in it."""
    with pytest.raises(PriorError) as caught:
        load_prior(folder, **how)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


# files ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize("length", [0, 5, -1, None])
def test_a_truncated_file_is_named(copied, name, length):
    folder = copied()
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2 if length is None else length])
    assert f"{folder / name} is damaged" in refused(folder)


@pytest.mark.parametrize("name", TENSORS)
def test_a_pointer_of_git_lfs_is_no_tensor_file(copied, name):
    folder = copied()
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 1\n")
    assert f"{folder / name} is damaged" in refused(folder)


def cut(dimension):
    return lambda tensors, name: tensors.update({name: tensors[name].movedim(dimension, 0)[:-1].contiguous()})


def put(value):
    return lambda tensors, name: tensors[name].view(-1)[3:4].fill_(value)


CHANGES = {
    "missing": (lambda tensors, name: tensors.pop(name), ("missing keys: conv_in.weight", "alone, it has: none")),
    "extra": (
        lambda tensors, name: tensors.update(other=torch.zeros(1)),
        ("unexpected keys: other", "'weight' alone, it has: other, weight"),
    ),
    "rows": (cut(0), ("size mismatch for conv_in.weight", "has shape (3, 6); (4, 6) is needed")),
    "width": (cut(1), ("size mismatch for conv_in.weight", "has shape (5, 4); (4, 6) is needed")),
    "integers": (
        lambda tensors, name: tensors.update({name: tensors[name].int()}),
        ("holds tensors that are not floating-point numbers: conv_in.weight (I32)", "weight (I32)"),
    ),
    "nan": (put(torch.nan), ("tensor conv_in.weight has values that are not finite",) * 2),
    "infinity": (put(-torch.inf), ("tensor conv_in.weight has values that are not finite",) * 2),
}


@pytest.mark.parametrize("name", TENSORS)
@pytest.mark.parametrize(("change", "messages"), CHANGES.values(), ids=CHANGES)
def test_every_tensor_is_accounted_for(copied, edit_tensors, name, change, messages):
    folder = copied()
    edit_tensors(folder / name, lambda tensors: change(tensors, TENSORS[name]))
    assert messages[name == ROWS].replace("conv_in.weight", TENSORS[name]) in refused(folder)


JSON_FILES = ("unet/config.json", "vae/config.json", SCHEDULER, "model_index.json", "prior.json")
NO_JSON = {
    "text": b"{\nbroken",
    "list": b"[1]",
    "null": b"null",
    "empty": b"",
    "latin": b"\xe4",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("name", JSON_FILES)
@pytest.mark.parametrize("content", NO_JSON.values(), ids=NO_JSON)
def test_what_is_not_a_json_object_is_named(copied, name, content):
    folder = copied()
    (folder / name).write_bytes(content)
    assert str(folder / name) in refused(folder)


@pytest.mark.parametrize("name", [*JSON_FILES[:4], *TENSORS])
def test_a_missing_file_is_named(copied, name):
    folder = copied()
    (folder / name).unlink()
    assert Path(name).name in refused(folder)


def test_parts_may_be_missing_as_a_whole(copied):
    folder = copied()
    for part in ("scheduler", "unet", "vae"):
        shutil.rmtree(folder / part)
        assert str(folder / part) in refused(folder)
    edit(folder / "model_index.json", vae=DELETED)
    assert "has neither vqvae/ nor vae/" in refused(folder)
    assert "it has no model_index.json" in refused(folder / "scheduler")


# configurations -------------------------------------------------------------------------------------------------------

CONFIGS = [
    ("unet", "_class_name", "Transformer2DModel", "is of a 'Transformer2DModel'; known here: UNet2DConditionModel"),
    ("unet", "_class_name", ["UNet2DModel"], "known here"),
    ("unet", "_class_name", DELETED, "is of a None"),
    ("unet", "in_channels", -3, "in_channels = -3 must be a whole number above 0"),
    ("unet", "in_channels", "three", "in_channels = 'three' must be"),
    ("unet", "in_channels", 2, "size mismatch for conv_in.weight"),
    ("unet", "out_channels", True, "out_channels = True must be"),
    ("unet", "block_out_channels", [8, -16], "negative dimension"),
    ("unet", "block_out_channels", "ab", "does not fit its configuration"),
    ("unet", "block_out_channels", [], "does not fit its configuration"),
    ("unet", "norm_num_groups", 0, "norm_num_groups = 0 must be"),
    ("unet", "norm_num_groups", 3, "does not fit its configuration"),
    ("unet", "cross_attention_dim", [6, 6], "cross_attention_dim = [6, 6] must be"),
    ("unet", "sample_size", "large", "sample_size = 'large' must be a whole number above 0, or two of them"),
    ("unet", "sample_size", [4, 0], "sample_size = [4, 0] must be"),
    ("unet", "attention_head_dim", 0, "does not fit its configuration"),
    ("unet", "act_fn", 3, "does not fit its configuration"),
    ("unet", "down_block_types", ["Nothing", "Nowhere"], "Nothing does not exist"),
    ("unet", "class_embed_type", "identity", "is conditioned by class_embed_type: only class embeddings"),
    ("unet", "quantization_config", {"quant_method": "gguf"}, "describes quantised weights"),
    ("vae", "_class_name", "AutoencoderTiny", "is of a 'AutoencoderTiny'; known here: VQModel, AutoencoderKL"),
    ("vae", "latent_channels", 4, "does not fit its configuration"),
    ("vae", "latent_channels", None, "does not fit its configuration"),
    ("vae", "block_out_channels", [], "does not fit its configuration"),
    ("vae", "norm_num_groups", 0, "norm_num_groups = 0 must be"),
    ("vae", "scaling_factor", 0, "scaling_factor = 0 must be above 0"),
    ("vae", "scaling_factor", float("nan"), "scaling_factor = nan must be a finite number"),
    ("vae", "scaling_factor", "x", "scaling_factor = 'x' must be a finite number"),
    ("vae", "latents_mean", [0.0, 1.0], "latents_mean = [0.0, 1.0] must be a finite number, or 3 of them"),
    ("vae", "latents_mean", ["a", "b", "c"], "latents_mean"),
    ("vae", "latents_std", [1.0, 1.0, 0.0], "latents_std = [1.0, 1.0, 0.0] must be above 0"),
]


@pytest.mark.parametrize(("part", "key", "value", "expected"), CONFIGS, ids=str)
def test_a_nonsense_configuration_is_refused(copied, part, key, value, expected):
    folder = copied()
    edit(folder / part / "config.json", **{key: value})
    message = refused(folder)
    assert expected in message
    assert str(folder / part) in message


NO_BETAS = {"beta_start": DELETED, "beta_end": DELETED, "beta_schedule": DELETED}
SCHEDULERS = [
    ({"_class_name": "Sampler"}, "names no scheduler"),
    ({"_class_name": ["DDIMScheduler"]}, "names no scheduler"),
    ({"_class_name": "EDMEulerScheduler", "sigma_min": 0.002, **NO_BETAS}, "is of a EDMEulerScheduler without betas"),
    (NO_BETAS, "is of a DDIMScheduler without betas"),
    ({"beta_start": "x"}, "makes no DDIMScheduler"),
    ({"beta_start": -1}, "makes no DDIMScheduler"),
    ({"beta_start": float("nan")}, "describes no noise levels"),
    ({"beta_start": 2, "beta_end": 2}, "signal and noise must lie between 0 and 1"),
    ({"beta_end": 1.0}, "needs some signal at the last timestep"),
    ({"rescale_betas_zero_snr": True}, "needs some signal at the last timestep"),
    ({"beta_schedule": "wavy"}, "wavy is not implemented"),
    ({"num_train_timesteps": 0}, "num_train_timesteps = 0 must be a whole number above 0"),
    ({"num_train_timesteps": "x"}, "num_train_timesteps = 'x'"),
    ({"trained_betas": ["a"]}, "makes no DDIMScheduler"),
    ({"trained_betas": []}, "describes no noise levels"),
    ({"prediction_type": "score"}, "the prior predicts 'score'; known: epsilon, v_prediction, sample"),
    ({"prediction_type": None}, "the prior predicts None"),
    ({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 0.0}, "some noise at the last timestep"),
    ({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": "x"}, "makes no FlowMatchEulerDiscreteScheduler"),
]


@pytest.mark.parametrize(("values", "expected"), SCHEDULERS, ids=str)
def test_a_schedule_that_cannot_be_is_refused(copied, values, expected):
    folder = copied()
    edit(folder / SCHEDULER, **values)
    message = refused(folder)
    assert expected in message
    assert str(folder / SCHEDULER) in message


@pytest.mark.parametrize(
    "name", ["DDPMScheduler", "PNDMScheduler", "EulerDiscreteScheduler", "UniPCMultistepScheduler"]
)
def test_other_schedulers_of_the_same_betas_give_the_same_levels(copied, priors, name):
    import diffusers

    folder = copied()
    original = load_prior(priors()).levels
    same = {"beta_start": 0.0015, "beta_end": 0.0195, "beta_schedule": "scaled_linear"}
    getattr(diffusers, name)(**same).save_pretrained(folder / "scheduler")
    levels = load_prior(folder).levels
    assert torch.equal(levels.signal, original.signal)
    assert levels.prediction == "epsilon"


# prior.json and class_embedding.safetensors ---------------------------------------------------------------------------

FACTS = [
    ({"format": 2}, "(format: "),
    ({"format": DELETED}, "(format: Field required)"),
    ({"kind": "gan"}, "is of a prior of kind 'gan', not 'ldm'"),
    ({"classes": "tench"}, "(classes: "),
    ({"classes": {}}, "(classes: "),
    ({"classes": [1]}, "is damaged"),
    ({"classes": [["tench"]]}, "is damaged"),
    ({"classes": [{"wordnet_id": "n01440764"}]}, "(classes.0.name: Field required)"),
    ({"classes": [{"name": None}]}, "(classes.0.name: "),
    ({"classes": [{"name": "tench", "wordnet_id": 1440764}]}, "(classes.0.wordnet_id: "),
    ({"classes": DELETED}, "(classes: Field required)"),
    ({"null_class": "3"}, "(null_class: "),
    ({"null_class": True}, "(null_class: "),
    ({"null_class": 3.0}, "(null_class: "),
    ({"null_class": 4}, "null_class = 4 is not a row of the class embedding"),
    ({"null_class": 2}, "null_class = 2 is not a row of the class embedding after those of the 3 classes"),
    ({"null_class": -1}, "null_class = -1 is not a row"),
    ({"null_class": -1, "classes": None}, "null_class = -1 is not a row"),
    ({"null_class": 4, "classes": None}, "it has 4 rows, counted from 0"),
    ({"source": None}, "(source: "),
    ({"licence": ["MIT"]}, "(licence: "),
]


@pytest.mark.parametrize(("values", "expected"), FACTS, ids=str)
def test_damaged_facts_are_refused(copied, values, expected):
    folder = copied()
    edit(folder / "prior.json", **values)
    message = refused(folder)
    assert expected in message
    assert str(folder / "prior.json") in message


def test_rows_and_classes_must_agree(copied):
    folder = copied()
    edit(folder / "prior.json", null_class=None)
    assert f"{folder / ROWS} has shape (4, 6); (3, 6) is needed" in refused(folder)
    edit(folder / "prior.json", null_class=2, classes=[{"name": "a"}, {"name": "b"}])
    assert "(3, 6) is needed" in refused(folder)


def test_without_names_any_number_of_rows_will_do(copied):
    folder = copied()
    edit(folder / "prior.json", classes=None, null_class=0)
    assert load_prior(folder).class_embedding.shape == (4, 6)
    (folder / "prior.json").unlink()
    assert load_prior(folder).facts == PriorFacts()


def test_a_model_conditioned_on_text_is_not_class_conditional(copied):
    folder = copied()
    (folder / ROWS).unlink()
    assert "has no class_embedding.safetensors: text-conditioned models are not class-conditional" in refused(folder)


# parts that do not belong together ------------------------------------------------------------------------------------


@pytest.mark.parametrize("vq", [False, True], ids=["KL config, VQ weights", "VQ config, KL weights"])
def test_kl_and_vq_mixed_up(copied, priors, vq):
    folder = copied(vq=vq)
    part, other = ("vqvae", "vae") if vq else ("vae", "vqvae")
    shutil.copy(priors(vq=not vq) / other / WEIGHTS, folder / part)
    expected = "but the weights have no code book" if vq else "but the weights have a code book, as a VQModel's"
    assert f"{folder / part}: config.json is of a" in refused(folder)
    assert expected in refused(folder)
    assert expected in refused(folder, with_unet=False)


def test_the_index_and_the_configuration_name_one_class(copied, priors):
    folder = copied()
    shutil.rmtree(folder / "vae")
    shutil.copytree(priors(vq=True) / "vqvae", folder / "vae")
    assert "says that vae is of a AutoencoderKL, its config.json of a VQModel" in refused(folder)
    edit(folder / "model_index.json", vae=["diffusers", "VQModel"])
    assert load_prior(folder).codec.quantises  # the folder's name is no statement


def test_of_two_autoencoders_the_index_says_which(copied, priors):
    folder = copied()
    shutil.copytree(priors(vq=True) / "vqvae", folder / "vqvae")
    assert not load_prior(folder).codec.quantises
    edit(folder / "model_index.json", vqvae=["diffusers", "VQModel"])
    assert "must name one autoencoder, not vqvae and vae" in refused(folder)


def test_a_unet_of_another_model_is_refused(copied, priors):
    folder = copied()
    shutil.rmtree(folder / "unet")
    shutil.copytree(priors(conditional=False) / "unet", folder / "unet")
    assert "says that unet is of a UNet2DConditionModel" in refused(folder)
    edit(folder / "model_index.json", unet=["diffusers", "UNet2DModel"])
    assert f"{folder / ROWS} lies beside an unconditional U-Net" in refused(folder)


def small_autoencoder(cls="AutoencoderKL", channels=1, **options):
    import diffusers

    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    sizes = {"in_channels": channels, "out_channels": channels, "block_out_channels": (4, 4), "norm_num_groups": 4}
    with lent_to_global(stream(0, "autoencoder")):
        return getattr(diffusers, cls)(**{**blocks, **sizes, "latent_channels": 3, **options})


def rewritten(folder, *, unet=None, autoencoder=None):
    """The prior again with another part, as `save_prior` writes it."""
    import diffusers

    old = load_prior(folder)
    save_prior(
        folder,
        unet=unet or old.unet,
        autoencoder=autoencoder or old.codec.model,
        scheduler=diffusers.DDIMScheduler.from_pretrained(folder / "scheduler"),
        facts=old.facts,
        class_embedding=old.class_embedding,
    )
    return folder


def test_channels_of_unet_and_autoencoder_must_agree(copied):
    folder = rewritten(copied(), autoencoder=small_autoencoder(latent_channels=4))
    assert "the U-Net works on 3 channels and the autoencoder has 4: they are not of one model" in refused(folder)


def test_a_unet_that_predicts_more_than_noise_is_refused(copied):
    import diffusers

    folder = copied()
    config = {**load_prior(folder).unet.config, "out_channels": 6}
    rewritten(folder, unet=diffusers.UNet2DConditionModel.from_config(config))
    assert f"{folder / 'unet'} makes 6 channels of 3" in refused(folder)


def test_an_autoencoder_gives_the_channels_it_takes(copied):
    folder = rewritten(copied(), autoencoder=small_autoencoder(out_channels=3))
    assert "as many in_channels as out_channels" in refused(folder, with_unet=False)


def test_a_code_book_of_fewer_dimensions_sets_the_latent_channels():
    codec = Codec(small_autoencoder("VQModel", vq_embed_dim=2, num_vq_embeddings=8))
    latents = codec.encode(torch.zeros(1, 1, 8, 8))
    assert latents.shape == (1, codec.latent_channels, 4, 4) == (1, 2, 4, 4)
    assert codec.quantise(latents).shape == latents.shape


# nothing executes -----------------------------------------------------------------------------------------------------


class Payload:
    """What a pickle of this does when it is read is to write a file."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.fixture
def armed(tmp_path):
    """`armed(path)` writes a pickle that leaves a trace when it is read; returns whether it was."""
    trace = tmp_path / "executed"

    def arm(path):
        torch.save(Payload(trace), path)
        with path.open("rb") as file:
            torch.load(file, weights_only=False)  # it does work
        trace.rmdir()
        return trace.exists

    return arm


def test_pickled_weights_are_neither_read_nor_executed(copied, armed):
    folder = copied()
    (folder / UNET).unlink()
    executed = armed(folder / "unet" / "diffusion_pytorch_model.bin")
    assert f"has no {WEIGHTS}: pickled weights (.bin, .pt)" in refused(folder)
    assert not executed()


def test_a_pickle_beside_safetensors_is_left_alone(copied, armed):
    folder = copied()
    traces = [armed(folder / part / "diffusion_pytorch_model.bin") for part in ("unet", "vae")]
    load_prior(folder)
    assert not any(executed() for executed in traces)


@pytest.mark.parametrize("inside", ["bin", "pickle named safetensors"])
def test_an_index_of_shards_cannot_bring_a_pickle_in(copied, armed, inside):
    folder = copied()
    name = "shard.bin" if inside == "bin" else "shard.safetensors"
    names = list(load_file(folder / UNET))
    (folder / UNET).unlink()
    executed = armed(folder / "unet" / name)
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, name)}
    (folder / "unet" / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    assert ("names 'shard.bin'" if inside == "bin" else "shard.safetensors is damaged") in refused(folder)
    assert not executed()


# shards ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def sharded(copied):
    folder = copied()
    unet = load_prior(folder).unet
    (folder / UNET).unlink()
    unet.save_pretrained(folder / "unet", max_shard_size="20KB")
    assert len(list((folder / "unet").glob("*.safetensors"))) > 1
    return folder


def test_shards_are_read_and_are_in_the_digest(sharded, priors):
    whole, parts = load_prior(priors()).unet.state_dict(), load_prior(sharded).unet.state_dict()
    assert all(torch.equal(parts[name], whole[name]) for name in whole)
    before = digest(sharded)
    flip(sorted((sharded / "unet").glob("*.safetensors"))[-1])
    assert digest(sharded) != before


def test_a_shard_that_is_missing_or_elsewhere_is_refused(sharded, tmp_path):
    shard = sorted((sharded / "unet").glob("*.safetensors"))[-1]
    outside = shutil.move(shard, tmp_path / shard.name)
    assert f"{sharded / 'unet'} has no {shard.name}" in refused(sharded)
    index = sharded / "unet" / f"{WEIGHTS}.index.json"
    index.write_text(index.read_text().replace(shard.name, f"../../{outside.name}"))
    assert "shards are .safetensors files beside it" in refused(sharded)
    index.write_text("{}")
    assert f"{index} is damaged: it has no weight_map" in refused(sharded)


# what is read ---------------------------------------------------------------------------------------------------------


def test_weights_are_frozen_float32_in_evaluation_mode(copied, priors):
    import diffusers

    folder, whole = copied(), load_prior(priors())
    scheduler = diffusers.DDIMScheduler.from_pretrained(folder / "scheduler")
    parts = {"unet": whole.unet, "autoencoder": whole.codec.model, "scheduler": scheduler, "facts": whole.facts}
    save_prior(folder, **parts, class_embedding=whole.class_embedding, half=True)
    assert {tensor.dtype for tensor in load_file(folder / UNET).values()} == {torch.float16}
    half = load_prior(folder)
    for part in (attrgetter("unet"), attrgetter("codec.model")):
        model, original = part(half), part(whole)
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())
        for key, value in original.state_dict().items():
            assert model.state_dict()[key].dtype == torch.float32
            assert torch.equal(model.state_dict()[key], value.half().float())
    assert torch.equal(half.class_embedding, whole.class_embedding.half().float())


def test_a_random_stream_and_the_initialisers_are_left_as_they_were(copied, priors):
    folder = copied()
    (folder / UNET).write_bytes(b"")
    initialiser, state, dtype = torch.nn.init.normal_, torch.get_rng_state(), torch.get_default_dtype()
    load_prior(priors())
    refused(folder)
    edit(folder / "vae" / "config.json", act_fn="none of them")
    refused(folder)
    assert torch.nn.init.normal_ is initialiser
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_default_dtype() == dtype


def test_old_folders_of_unconditional_models_are_read(copied):
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
    edit(folder / "vqvae" / "config.json", scaling_factor=DELETED)
    edit(folder / "model_index.json", _class_name="LDMPipeline", _diffusers_version="0.1.2")
    (folder / "prior.json").unlink()
    old = load_prior(folder)
    state = torch.randn(2, 3, 8, 8, generator=stream(0, "state"))
    pictures = torch.rand(2, 1, 16, 16, generator=stream(0, "pictures")) * 2 - 1
    assert torch.equal(old.predict(state, 5.0, None), new.predict(state, 5.0, None))
    assert torch.equal(old.codec.encode(pictures), new.codec.encode(pictures))
    assert torch.equal(old.codec.decode(state), new.codec.decode(state))
    assert old.facts == PriorFacts()


def test_scale_of_a_folder_that_states_none(copied):
    # The published VQ models have a scale of 1; the KL models of that time have diffusers' default.
    pictures = torch.rand(1, 1, 16, 16, generator=stream(0, "pictures"))
    for vq, part, scale in ((True, "vqvae", 1.0), (False, "vae", 0.18215)):
        folder = copied(vq=vq)
        edit(folder / part / "config.json", scaling_factor=DELETED, latents_mean=DELETED, latents_std=DELETED)
        codec = load_prior(folder, with_unet=False).codec
        encoded = codec.model.encode(pictures)
        code = encoded.latents if vq else encoded.latent_dist.mode()
        torch.testing.assert_close(codec.encode(pictures), code * scale)
        shutil.rmtree(folder)


def test_the_autoencoder_alone_needs_no_unet(copied):
    folder = copied()
    shutil.rmtree(folder / "unet")
    assert load_prior(folder, with_unet=False).unet is None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


# digest ---------------------------------------------------------------------------------------------------------------


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


# where a prior is -----------------------------------------------------------------------------------------------------


def test_a_folder_named_like_a_hub_id_wins(tmp_path, monkeypatch):
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert find_prior("owner/name") == Path("owner/name")
    assert find_prior("embedded") == EMBEDDED / "fashion-mnist"


def test_a_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "prior").mkdir()
    assert find_prior("~/prior") == tmp_path / "prior"


@pytest.mark.parametrize("name", ["prior", "a/b/c", "./prior", "/a", "~nobody-has-this-name/prior", "x" * 5000, "\0"])
def test_a_prior_that_is_nowhere_is_one_line(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PriorError, match="there is no prior folder") as caught:
        find_prior(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["model.ckpt", "owner/model.ckpt"])
def test_a_checkpoint_is_to_be_converted_first(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner").mkdir()
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(PriorError, match=f"{name} is a file, .* `ld3m prior convert {name} FOLDER`"):
        find_prior(name)


def test_a_revision_of_a_folder_here_is_refused(priors):
    with pytest.raises(InvalidOptionError, match="revision 'main' is for hub ids"):
        find_prior(str(priors()), "main")


COMMIT = "0123456789abcdef0123456789abcdef01234567"
FIND = """
import sys
from ld3m_plugin.errors import HostError
from ld3m_plugin.generators.ld3m.ldm_folder import digest
from ld3m_plugin.generators.ld3m.ldm_prior import find_prior, load_prior
for name in sys.argv[1:]:
    try:
        folder = find_prior(*name.split("@"))
        load_prior(folder)
        print(folder, digest(folder))
    except HostError as error:
        print(type(error).__name__, error)
"""


def new_process(program, *arguments, **environ):
    return subprocess.run(
        [sys.executable, "-P", "-c", program, *map(str, arguments)],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )


def test_the_hubs_cache_is_read_offline(priors, tmp_path):
    # As the hub's client lays it out: blobs by their hash, links to them in a snapshot of a commit, names of commits.
    cache = tmp_path / "models--owner--name"
    snapshot = cache / "snapshots" / COMMIT
    for number, path in enumerate(path for path in priors().rglob("*") if path.is_file()):
        blob, link = cache / "blobs" / f"{number:040x}", snapshot / path.relative_to(priors())
        blob.parent.mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, blob)
        link.symlink_to(os.path.relpath(blob, link.parent))
    (cache / "refs").mkdir()
    for name in ("main", "v1"):
        (cache / "refs" / name).write_text(COMMIT)
    stopped = shutil.copytree(cache, tmp_path / "models--owner--stopped", symlinks=True)
    (stopped / "snapshots" / COMMIT / UNET).unlink()
    names = ["owner/name", "owner/name@v1", f"owner/name@{COMMIT}"]
    missing = ["owner/name@v2", "owner/nowhere", "no owner/-name-", "owner/stopped"]
    done = new_process(FIND, *names, *missing, HF_HUB_CACHE=str(tmp_path), HF_HUB_OFFLINE="1")
    lines = done.stdout.splitlines()
    assert lines[:3] == [f"{snapshot} {digest(priors())}"] * 3
    assert len(lines) == len(names) + len(missing), done.stdout
    for name, line in zip(missing[:3], lines[3:6], strict=True):
        asked = name.split("@")[0]
        assert line.startswith(f"PriorError prior {asked!r} is no folder here and the hub did not give it ("), line
        assert line.endswith("check its name, revision and the connection")
    assert lines[6].startswith("PriorError ")  # the client's versions differ in what they give offline
    assert done.stderr == ""


# what is printed ------------------------------------------------------------------------------------------------------


def test_neither_loading_nor_a_refusal_prints_anything(priors, copied, edit_tensors):
    folder = copied()
    edit_tensors(folder / UNET, lambda tensors: tensors.update(other=tensors.pop("conv_in.weight")))
    named_otherwise = shutil.copytree(priors(), folder.parent / "variant")
    (named_otherwise / UNET).rename(named_otherwise / "unet" / "model.safetensors")
    good = [priors(), priors(vq=True), priors(conditional=False), priors(flow=True)]
    bad = [folder, named_otherwise]
    done = new_process(FIND, *good, *bad)
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [*map(str, good), "PriorError", "PriorError"]
    assert done.stderr == ""
