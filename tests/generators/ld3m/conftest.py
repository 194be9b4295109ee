"""Tiny priors with random weights, built through the same functions as real ones."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.ld3m.ldm_folder import PriorClass, PriorFacts, save_prior
from ld3m_plugin.generators.ld3m.ldm_prior import load_prior
from ld3m_plugin.randomness import lent_to_global, stream
from ld3m_plugin.testing import tiny_task

CLASSES = ("class 0", "class 1", "class 2")


def make_prior(
    folder, *, vq=False, conditional=True, channels=1, prediction="epsilon", flow=False, null=True, to_one=True
):
    """Writes a prior of a few thousand parameters that shrinks images four times, and gives its folder."""
    import diffusers

    with lent_to_global(stream(0, "tiny prior")):
        common = {
            "in_channels": channels,
            "out_channels": channels,
            "down_block_types": ("DownEncoderBlock2D",) * 3,
            "up_block_types": ("UpDecoderBlock2D",) * 3,
            "block_out_channels": (4, 8, 8),
            "latent_channels": 3,
            "norm_num_groups": 4,
            "mid_block_add_attention": False,
        }
        if vq:
            autoencoder = diffusers.VQModel(num_vq_embeddings=32, scaling_factor=1.0, **common)
        else:
            autoencoder = diffusers.AutoencoderKL(scaling_factor=1.0, **common)
            autoencoder.register_to_config(latents_mean=[0.1, -0.2, 0.3], latents_std=[0.5, 1.0, 2.0])
        size = {"sample_size": 4, "in_channels": 3, "out_channels": 3, "norm_num_groups": 4, "layers_per_block": 1}
        if conditional:
            unet = diffusers.UNet2DConditionModel(
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                block_out_channels=(8, 16),
                cross_attention_dim=6,
                attention_head_dim=2,
                **size,
            )
        else:
            unet = diffusers.UNet2DModel(
                down_block_types=("DownBlock2D", "AttnDownBlock2D"),
                up_block_types=("AttnUpBlock2D", "UpBlock2D"),
                block_out_channels=(8, 16),
                attention_head_dim=4,
                **size,
            )
        rows = len(CLASSES) + null
        embedding = torch.randn(rows, 6) if conditional else None
    if flow:
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    else:
        scheduler = diffusers.DDIMScheduler(
            beta_start=0.0015,
            beta_end=0.0195,
            beta_schedule="scaled_linear",
            prediction_type=prediction,
            clip_sample=False,
            set_alpha_to_one=to_one,
        )
    facts = PriorFacts(
        tuple(PriorClass(name) for name in CLASSES) if conditional else (),
        len(CLASSES) if conditional and null else None,
        source="random weights for tests",
    )
    save_prior(folder, unet=unet, autoencoder=autoencoder, scheduler=scheduler, facts=facts, class_embedding=embedding)
    return folder


def make_dit(folder, *, equal_tables=True, learned_variance=True, flow=False, **settings):
    """Writes a folder as `DiTPipeline.save_pretrained` does, with a DiT of two blocks on 3x4x4 latents, and gives it."""
    import diffusers

    with lent_to_global(stream(0, "tiny transformer")):
        transformer = diffusers.DiTTransformer2DModel(
            **{
                **{
                    "num_attention_heads": 2,
                    "attention_head_dim": 8,
                    "num_layers": 2,
                    "patch_size": 2,
                    "sample_size": 4,
                },
                **{"in_channels": 3, "out_channels": 6 if learned_variance else 3, "num_embeds_ada_norm": len(CLASSES)},
                **settings,
            }
        )
        vae = diffusers.AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(4, 8, 8),
            latent_channels=3,
            norm_num_groups=4,
            mid_block_add_attention=False,
            scaling_factor=0.5,
        )
    if equal_tables:  # as conversions of the published weights
        first, *others = (block.norm1.emb.class_embedder.embedding_table for block in transformer.transformer_blocks)
        for other in others:
            other.load_state_dict(first.state_dict())
    scheduler = diffusers.DDIMScheduler(clip_sample=False, steps_offset=1)
    if flow:
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    diffusers.DiTPipeline(transformer, vae, scheduler).save_pretrained(folder)
    index = folder / "model_index.json"
    labels = {str(row): f"{name}, alias {row}" for row, name in enumerate(CLASSES)}
    index.write_text(json.dumps({**json.loads(index.read_text()), "id2label": labels}))
    return folder


@pytest.fixture(scope="session")
def dits(tmp_path_factory):
    """`dits(**what)`: the folder of a tiny DiT, made once a session. Do not write into it."""
    made = {}

    def get(**what):
        key = tuple(sorted(what.items()))
        if key not in made:
            made[key] = make_dit(tmp_path_factory.mktemp("dit") / "prior", **what)
        return made[key]

    return get


@pytest.fixture
def own_dit(tmp_path):
    """Like `dits`, in a folder of the test's own."""
    return lambda **what: make_dit(tmp_path / "dit", **what)


@pytest.fixture(scope="session")
def priors(tmp_path_factory):
    """`priors(**what)`: the folder of a tiny prior, made once a session. Do not write into it."""
    made = {}

    def get(**what):
        key = tuple(sorted(what.items()))
        if key not in made:
            made[key] = make_prior(tmp_path_factory.mktemp("prior") / "prior", **what)
        return made[key]

    return get


@pytest.fixture
def own_prior(tmp_path):
    """Like `priors`, in a folder of the test's own."""
    return lambda **what: make_prior(tmp_path / "prior", **what)


@pytest.fixture
def started():
    """`started(generator, task)`: prepared, with latents of two images a class."""

    def start(generator, task=None, seed=0):
        task = (task or tiny_task()).for_training()
        generator.prepare(task)
        labels = torch.arange(task.num_classes).repeat_interleave(2)
        return generator.initial_latents(task, labels, stream(seed, "latents"))

    return start


@pytest.fixture
def edit_tensors():
    """`edit_tensors(path, change)`: rewrites a safetensors file with `change(dict)`."""

    def edit(path, change):
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path, {"format": "pt"})

    return edit


@pytest.fixture
def edit_json():
    """`edit_json(path, **values)`: sets keys of a JSON file; the value `...` removes one."""

    def edit(path, **values):
        content = {**json.loads(path.read_text()), **values}
        path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))

    return edit


@pytest.fixture
def copied(priors, tmp_path):
    """`copied(**what)`: a tiny prior that the test may damage."""
    return lambda **what: shutil.copytree(priors(**what), tmp_path / "prior")


@pytest.fixture
def refused():
    """`refused(folder, read)`: the message with which a folder is not read, one line that names it or a file in it."""

    def refuse(folder, read=load_prior):
        with pytest.raises(PriorError) as caught:
            read(folder)
        message = str(caught.value)
        assert "\n" not in message
        assert str(folder) in message
        return message

    return refuse


@pytest.fixture
def small_autoencoder():
    """`small_autoencoder(cls, channels, **options)`: a diffusers autoencoder of 3 latent channels that halves images once."""

    def make(cls="AutoencoderKL", channels=1, **options):
        import diffusers

        blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
        sizes = {"in_channels": channels, "out_channels": channels, "block_out_channels": (4, 4), "norm_num_groups": 4}
        with lent_to_global(stream(0, "autoencoder")):
            return getattr(diffusers, cls)(**{**blocks, **sizes, "latent_channels": 3, **options})

    return make


@pytest.fixture
def rewritten():
    """`rewritten(folder, unet=..., autoencoder=...)`: the prior again with another part, as `save_prior` writes it."""

    def rewrite(folder, *, unet=None, autoencoder=None):
        import diffusers

        old = load_prior(folder)
        save_prior(
            folder,
            unet=unet or old.denoiser,
            autoencoder=autoencoder or old.codec.model,
            scheduler=diffusers.DDIMScheduler.from_pretrained(folder / "scheduler"),
            facts=old.facts,
            class_embedding=old.class_embedding,
        )
        return folder

    return rewrite
