"""Priors whose network is a diffusion transformer: against diffusers' own forward pass, and what is refused."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from ld3m_plugin.artefact.distilled_set import DistilledSet
from ld3m_plugin.backends import get_generator
from ld3m_plugin.config import resolve
from ld3m_plugin.errors import InvalidOptionError
from ld3m_plugin.generators.ld3m.ldm_describe import describe
from ld3m_plugin.generators.ld3m.ldm_folder import digest
from ld3m_plugin.generators.ld3m.ldm_kind import LatentDiffusionKind
from ld3m_plugin.generators.ld3m.ldm_prior import load_autoencoder, load_prior
from ld3m_plugin.generators.ld3m.sampler import Sampling, sample
from ld3m_plugin.generators.ld3m.schedule import make_chain
from ld3m_plugin.priors.classes import imagenet_classes
from ld3m_plugin.randomness import stream
from ld3m_plugin.runs import run
from ld3m_plugin.testing import check_generator, tiny_task

WEIGHTS = "diffusion_pytorch_model.safetensors"
CONFIG = "transformer/config.json"
TABLES = [{}, {"equal_tables": False}, {"learned_variance": False}]
COLOUR = {"channels": 3}


def own_model(folder):
    """diffusers' model of a folder, with its tables of labels, in float64."""
    import diffusers

    return diffusers.DiTTransformer2DModel.from_pretrained(folder / "transformer").double().eval()


def read(folder):
    """The prior of a folder in float64."""
    prior = load_prior(folder)
    prior.denoiser.double()
    return prior, prior.class_embedding.double()


def draw(name, *shape):
    return torch.randn(shape, generator=stream(0, name), dtype=torch.float64)


def table_gradients(model, labels):
    """Gradients of the rows of the labels, block by block."""
    tables = [block.norm1.emb.class_embedder.embedding_table.weight.grad for block in model.transformer_blocks]
    return [table[labels] for table in tables]


@pytest.mark.parametrize("what", TABLES, ids=str)
def test_output_and_gradients_are_those_of_diffusers_with_labels(dits, what):
    folder = dits(**what)
    prior, table = read(folder)
    model, labels = own_model(folder), torch.tensor([2, 0, 3])  # the last is "no class"
    state, weights = draw("state", 3, 3, 4, 4).requires_grad_(), draw("weights", 3, 3, 4, 4)
    theirs = model(state, timestep=torch.tensor([37] * 3), class_labels=labels).sample[:, :3]
    (theirs * weights).sum().backward()
    mine_state, vectors = state.detach().clone().requires_grad_(), table[labels][:, None].clone().requires_grad_()
    mine = prior.predict(mine_state, 37, vectors)
    (mine * weights).sum().backward()
    torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(mine_state.grad, state.grad, atol=1e-12, rtol=1e-9)
    blocks = table_gradients(model, labels)
    expected = sum(blocks) if what.get("equal_tables", True) else torch.cat(blocks, dim=1)
    torch.testing.assert_close(vectors.grad[:, 0], expected, atol=1e-12, rtol=1e-9)
    assert expected.abs().max() > 1e-3


def test_in_float32_it_is_the_same_to_the_bit(dits):
    prior, labels = load_prior(dits()), torch.tensor([1, 3])
    model, state = own_model(dits()).float(), draw("state", 2, 3, 4, 4).float()
    theirs = model(state, timestep=torch.tensor([901, 901]), class_labels=labels).sample[:, :3]
    assert torch.equal(prior.predict(state, 901, prior.class_embedding[labels][:, None]), theirs)


@pytest.mark.parametrize("what", [{}, {"equal_tables": False}], ids=str)
def test_null_class_and_names_come_from_model_and_index(dits, what):
    prior = load_prior(dits(**what))
    tables = load_file(dits(**what) / "transformer" / WEIGHTS)
    names = [f"transformer_blocks.{index}.norm1.emb.class_embedder.embedding_table.weight" for index in (0, 1)]
    rows = tables[names[0]] if not what else torch.cat([tables[name] for name in names], dim=1)
    assert torch.equal(prior.class_embedding, rows)
    assert [known.name for known in prior.facts.classes] == ["class 0", "class 1", "class 2"]
    assert prior.facts.null_class == 3
    assert torch.equal(prior.null_embedding, rows[3].view(1, 1, -1))


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_a_chain_is_the_loop_of_the_diffusers_pipeline(dits, guidance):
    import diffusers

    folder, steps = dits(), 4
    prior, table = read(folder)
    chain = make_chain(prior.levels, steps, "leading")
    z, noise, weights = (draw(name, 2, 3, 4, 4) for name in ("z", "noise", "weights"))
    labels, null = torch.tensor([1, 2]), torch.tensor([3, 3])
    z.requires_grad_()
    vectors = table[labels][:, None].clone().requires_grad_()
    sampling = Sampling(chain, residual="none", guidance_scale=guidance, checkpointed=True)
    mine = sample(prior.predict, sampling, z, noise, embedding=vectors, null_embedding=prior.null_embedding.double())
    mine_grads = torch.autograd.grad((mine * weights).sum(), [z, vectors])

    scheduler = diffusers.DDIMScheduler.from_pretrained(folder / "scheduler")
    scheduler.alphas_cumprod = prior.levels.signal**2  # diffusers' own are rounded to float32
    scheduler.set_timesteps(steps)
    model = own_model(folder)
    state = chain.signal[-1] * z + chain.noise[-1] * noise
    for t in scheduler.timesteps:
        output = model(torch.cat([state, state]), timestep=t.expand(4), class_labels=torch.cat([labels, null])).sample
        given, without = output[:, :3].chunk(2)
        state = scheduler.step(without + guidance * (given - without), t, state).prev_sample
    state_grad = torch.autograd.grad((state * weights).sum(), z, retain_graph=True)[0]
    (state * weights).sum().backward()
    torch.testing.assert_close(mine, state, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(mine_grads[0], state_grad, atol=1e-9, rtol=1e-7)
    torch.testing.assert_close(mine_grads[1][:, 0], sum(table_gradients(model, labels)), atol=1e-9, rtol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("what", [{}, {"equal_tables": False}], ids=str)
def test_gradients_are_the_differences(dits, what):
    prior, table = read(dits(**what))
    chain = make_chain(prior.levels, 2, "leading")

    def render(z, vectors):
        sampling = Sampling(chain, guidance_scale=2.0)
        return sample(
            prior.predict, sampling, z, noise, embedding=vectors, null_embedding=prior.null_embedding.double()
        )

    z, noise = draw("z", 1, 3, 4, 4).requires_grad_(), draw("noise", 1, 3, 4, 4)
    vectors = table[[0]][:, None].clone().requires_grad_()
    assert torch.autograd.gradcheck(render, (z, vectors), fast_mode=True, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "options"),
    [
        ({}, {}),
        ({"equal_tables": False}, {"guidance_scale": 2.0, "memory": "checkpoint"}),
        ({"flow": True}, {"spacing": "trailing", "steps": 3}),
        ({}, {"eta": 1.0, "residual": "mean", "steps": 1}),
        ({}, {"gradient": "last-1", "learn": "class_embedding"}),
    ],
    ids=str,
)
def test_the_generator_keeps_its_contract(dits, what, options):
    folder = dits(**what)
    check_generator(lambda: get_generator("ld3m", prior=str(folder), **{"steps": 2, **options}), tiny_task(**COLOUR))


@pytest.mark.slow
def test_a_run_distils_with_it_and_records_it(dits, tmp_path):
    options = {"prior": str(dits()), "steps": 2, "guidance_scale": 2.0}
    config = resolve(
        settings=[
            ("generator", {"name": "ld3m", "options": options}),
            ("objective", {"name": "dm", "options": {"batch_real": 4, "network_settings": {"width": 8}}}),
            ("steps", 2),
            ("evaluation.final", False),
        ]
    )
    run.start(config, tmp_path / "run", task=tiny_task(**COLOUR))
    done = DistilledSet.load(tmp_path / "run")
    assert done.latents["class_embedding"].shape == (3, 1, 16)
    assert not torch.equal(done.latents["class_embedding"][:, 0], load_prior(dits()).class_embedding[:3])
    assert done.metadata["generator"]["prior_sha256"] == digest(dits())


def test_it_starts_with_the_vectors_of_the_classes(dits, started):
    generator = get_generator("ld3m", prior=str(dits()), steps=2)
    latents = started(generator, tiny_task(**COLOUR))
    expected = load_prior(dits()).class_embedding[[0, 0, 1, 1, 2, 2]]
    assert torch.equal(latents["class_embedding"][:, 0], expected)
    assert generator.provenance()["class_embedding_from"] == "class 0: class 0, class 1: class 1, class 2: class 2"
    assert generator.provenance()["prior_sha256"] == digest(dits())


@pytest.mark.parametrize("size", [8, 32])
def test_another_image_size_is_refused(dits, size):
    generator = get_generator("ld3m", prior=str(dits()))
    with pytest.raises(InvalidOptionError, match=rf"{size}\b.*image_size=16") as caught:
        generator.prepare(tiny_task(image_size=size, **COLOUR))
    assert "\n" not in str(caught.value)


def test_it_is_recognised_and_described(dits):
    folder = dits()
    assert LatentDiffusionKind().recognises(folder)
    facts = describe(folder)
    assert facts["layout"] == "DiTTransformer2DModel + AutoencoderKL (KL), factor 4"
    assert (facts["resolution"], facts["latents"]) == ("16x16, 3 channels", "3 channels, 4x4 in training")
    assert facts["classes"] == "3 and a null class: class 0, class 1, class 2"
    assert facts["parameters"].split(",")[0].isdecimal()
    assert "transformer" in facts["parameters"]
    assert facts["sha256"] == digest(folder)


def test_the_digest_covers_the_transformer(own_dit, edit_tensors):
    folder = own_dit()
    before = digest(folder)
    edit_tensors(folder / "transformer" / WEIGHTS, lambda tensors: tensors["proj_out_2.bias"].add_(1))
    assert digest(folder) != before


def test_the_published_form_of_the_configuration_is_read(own_dit, edit_json, caplog):
    folder = own_dit()
    before = load_prior(folder)
    # The form of 2022, see `DiTPipeline`.
    old = {"cross_attention_dim": None, "num_vector_embeds": None, "only_cross_attention": False}
    edit_json(folder / CONFIG, _class_name="Transformer2DModel", use_linear_projection=False, **old)
    edit_json(folder / "model_index.json", transformer=["diffusers", "Transformer2DModel"])
    after, state = load_prior(folder), draw("state", 1, 3, 4, 4).float()
    vectors = before.class_embedding[:1, None]
    assert torch.equal(after.predict(state, 5, vectors), before.predict(state, 5, vectors))
    assert not caplog.records


def write_prior_json(folder, count, null):
    classes = [{"name": f"own {row}"} for row in range(count)]
    facts = {"format": 1, "kind": "ldm", "classes": classes, "null_class": null, "source": "tests"}
    (folder / "prior.json").write_text(json.dumps(facts))


def test_names_of_prior_json_come_first(own_dit):
    folder = own_dit()
    for null in (3, None):
        write_prior_json(folder, 3, null)
        facts = load_prior(folder).facts
        assert ([known.name for known in facts.classes], facts.null_class) == (["own 0", "own 1", "own 2"], null)


@pytest.mark.parametrize(("count", "null"), [(2, 3), (4, None), (3, 2), (3, 4)])
def test_names_that_do_not_fit_the_table_are_refused(own_dit, refused, count, null):
    folder = own_dit()
    write_prior_json(folder, count, null)
    assert str(folder / "prior.json") in refused(folder)


LABELS = [
    {"0": "a", "1": "b"},
    {"0": "a", "1": "b", "2": "c", "3": "d"},
    {"0": "a", "1": "b", "2": ""},
    {"0": "a", "1": "b", "2": 3},
    {"0": "a", "1": "b", "two": "c"},
    ["a", "b", "c"],
]


@pytest.mark.parametrize("labels", LABELS, ids=str)
def test_labels_that_do_not_fit_are_refused(own_dit, edit_json, refused, labels):
    folder = own_dit()
    edit_json(folder / "model_index.json", id2label=labels)
    message = refused(folder)
    assert str(folder / "model_index.json") in message
    assert "id2label" in message


def test_without_names_classes_are_numbered(own_dit, edit_json):
    folder = own_dit()
    edit_json(folder / "model_index.json", id2label=...)
    assert [known.name for known in load_prior(folder).facts.classes] == ["class 0", "class 1", "class 2"]


@pytest.mark.parametrize("stated", [True, False], ids=["with names", "without"])
def test_the_labels_of_imagenet_have_their_wordnet_ids(own_dit, edit_json, stated):
    folder = own_dit(num_embeds_ada_norm=1000)
    labels = {
        str(row): f"{known.name.removesuffix(' bird')}, a synonym" for row, known in enumerate(imagenet_classes())
    }
    edit_json(folder / "model_index.json", id2label=labels if stated else ...)
    facts = load_prior(folder).facts
    assert (facts.classes, facts.null_class) == (imagenet_classes(), 1000)


def test_a_class_embedding_beside_it_is_refused(own_dit, priors, refused):
    folder = own_dit()
    shutil.copy(priors() / "class_embedding.safetensors", folder)
    assert "class_embedding.safetensors" in refused(folder)


@pytest.mark.parametrize(
    "name",
    ["PixArtTransformer2DModel", "SD3Transformer2DModel", "FluxTransformer2DModel", "Transformer2DModel", ["DiT"], ...],
)
def test_other_transformers_are_refused_by_what_they_are(own_dit, edit_json, refused, name):
    folder = own_dit()
    norm = "ada_norm_single"  # that of PixArt, in the old class
    edit_json(folder / CONFIG, _class_name=name, norm_type=norm)
    shutil.rmtree(folder / "vae")  # their autoencoders may be anything
    message = refused(folder)
    assert f"transformer prior {None if name is ... else name!r}" in message
    assert "DiTTransformer2DModel" in message


#: Setting and value; the message names both.
SETTINGS = [
    ("sample_size", 5),
    ("sample_size", 0),
    ("patch_size", 0),
    ("num_layers", 0),
    ("num_embeds_ada_norm", 0),
    ("out_channels", 4),
    ("norm_type", "layer_norm"),
    ("interpolation_scale", 2),
    ("caption_channels", 8),
    ("cross_attention_dim", 8),
    ("a_setting_of_tomorrow", None),
]


@pytest.mark.parametrize(("key", "value"), SETTINGS, ids=str)
def test_a_setting_that_is_not_followed_is_named(own_dit, edit_json, refused, key, value):
    folder = own_dit(**({key: value} if key in ("out_channels", "sample_size") and value > 3 else {}))
    edit_json(folder / CONFIG, **{key: value})
    message = refused(folder)
    assert str(folder / CONFIG) in message
    assert key in message
    assert value is None or repr(value) in message


@pytest.mark.parametrize(
    ("key", "value"), [("sample_size", [4, 4]), ("num_layers", 3), ("activation_fn", "x")], ids=str
)
def test_a_configuration_that_does_not_fit_the_tensors_is_refused(own_dit, edit_json, refused, key, value):
    folder = own_dit()
    edit_json(folder / CONFIG, **{key: value})
    assert str(folder / "transformer") in refused(folder)


@pytest.mark.parametrize("value", ["a", -1, 0, None, True, 10**400], ids=lambda value: str(value)[:5])
def test_a_norm_eps_that_fails_only_in_use_is_refused(own_dit, edit_json, refused, value):
    folder = own_dit()
    edit_json(folder / CONFIG, norm_eps=value)
    assert f"{folder / CONFIG}: norm_eps" in refused(folder)


def test_channels_of_transformer_and_autoencoder_must_agree(own_dit, refused):
    message = refused(own_dit(in_channels=4, out_channels=8))
    assert "transformer" in message
    assert "4" in message


def test_a_folder_has_one_network(own_dit, priors, edit_json, refused):
    folder = own_dit()
    shutil.copytree(priors() / "unet", folder / "unet")
    assert load_prior(folder).image_size == 16  # the index says which
    edit_json(folder / "model_index.json", unet=["diffusers", "UNet2DConditionModel"])
    message = refused(folder)
    assert all(word in message for word in ("model_index.json", "unet", "transformer"))


def test_the_autoencoder_alone_is_read_without_the_transformer(own_dit):
    folder = own_dit()
    shutil.rmtree(folder / "transformer")
    assert load_autoencoder(folder).codec.factor == 4


def test_pickled_weights_are_not_read(own_dit, refused):
    folder = own_dit()
    weights = folder / "transformer" / WEIGHTS
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    assert WEIGHTS in refused(folder)
