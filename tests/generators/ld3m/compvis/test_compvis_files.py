"""From a file to a folder, and every bad file in one line."""

import json
import os
import pickle
import re
import runpy
import sys
import types

import diffusers
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from ld3m_plugin.data.imagenet_subsets import SUBSETS
from ld3m_plugin.errors import PriorError
from ld3m_plugin.generators.ld3m.compvis.compvis_checkpoint import read_state
from ld3m_plugin.generators.ld3m.compvis.compvis_convert import convert
from ld3m_plugin.generators.ld3m.ldm_folder import PriorClass, read_facts
from ld3m_plugin.priors.classes import class_names, imagenet_classes, read_classes


def one_line(excinfo):
    message = str(excinfo.value)
    assert "\n" not in message
    return message


@pytest.mark.slow
def test_a_folder_reads_back_as_it_was_converted(checkpoint, tmp_path, golden, relative_error):
    convert(checkpoint(), tmp_path / "prior", note="tiny", licence="none")
    unet = diffusers.UNet2DConditionModel.from_pretrained(tmp_path / "prior" / "unet").eval()
    autoencoder = diffusers.VQModel.from_pretrained(tmp_path / "prior" / "vqvae").eval()
    scheduler = diffusers.DDIMScheduler.from_pretrained(tmp_path / "prior" / "scheduler")
    values = golden("ldm_class_conditional")
    with torch.no_grad():
        noise = unet(values["unet.sample"], values["unet.timesteps"], values["unet.class_embedding"]).sample
        images = autoencoder.decode(values["encode.latents"]).sample
    assert relative_error(noise, values["unet.eps"]) < 1e-5
    assert relative_error(images, values["decode.images"]) < 1e-5
    assert autoencoder.config.scaling_factor == 1.0
    assert not scheduler.config.set_alpha_to_one
    embedding = load_file(tmp_path / "prior" / "class_embedding.safetensors")["weight"]
    assert torch.equal(embedding, torch.load(tmp_path / "model.ckpt", weights_only=True)["state_dict"][EMBEDDING])
    facts = read_facts(tmp_path / "prior")
    assert (len(facts.classes), facts.null_class, facts.classes[3].name) == (10, 10, "class 3")
    assert re.fullmatch(r"tiny; converted from model.ckpt, SHA-256 [0-9a-f]{64}", facts.source)
    assert facts.licence == "none"


EMBEDDING = "cond_stage_model.embedding.weight"


@pytest.mark.slow
def test_an_unconditional_checkpoint_has_no_classes(checkpoint, tmp_path):
    convert(checkpoint("ldm_unconditional"), tmp_path / "prior")
    index = json.loads((tmp_path / "prior" / "model_index.json").read_text())
    assert index["unet"] == ["diffusers", "UNet2DModel"]
    assert not (tmp_path / "prior" / "class_embedding.safetensors").exists()
    assert read_facts(tmp_path / "prior").null_class is None
    (tmp_path / "names.txt").write_text("tench\n")
    with pytest.raises(PriorError, match=r"model\.ckpt .*names\.txt"):
        convert(tmp_path / "model.ckpt", tmp_path / "other", classes=tmp_path / "names.txt")


@pytest.mark.slow
def test_safetensors_and_a_bare_state_dict_are_read_as_well(checkpoint, tmp_path):
    state = read_state(checkpoint())
    torch.save(state, tmp_path / "bare.pt")
    save_file(state, tmp_path / "bare.safetensors")
    for name in ("bare.pt", "bare.safetensors"):
        again = read_state(tmp_path / name)
        assert again.keys() == state.keys()
        assert all(torch.equal(again[key], state[key]) for key in state)


@pytest.mark.slow
def test_leftovers_of_lightning_and_omegaconf_do_not_stop_the_reading(checkpoint, tmp_path, monkeypatch):
    path = checkpoint()
    content = torch.load(path, weights_only=True)
    made = {}
    for dotted in ("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint", "omegaconf.dictconfig.DictConfig"):
        module, name = dotted.rsplit(".", 1)
        made[name] = type(name, (), {"__module__": module, "__qualname__": name})
        parts = module.split(".")
        for end in range(1, len(parts) + 1):
            monkeypatch.setitem(sys.modules, ".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))
        setattr(sys.modules[module], name, made[name])
    node = made["DictConfig"]()
    node.__dict__ |= {"_content": {"lr": 1e-4}, "_metadata": {"element_type": dict}}
    content |= {
        "callbacks": {made["ModelCheckpoint"]: {"best_model_score": torch.tensor(1.0)}},
        "hyper_parameters": node,
    }
    torch.save(content, path)
    monkeypatch.undo()
    assert "pytorch_lightning" not in sys.modules
    state = read_state(path)
    assert "pytorch_lightning" not in sys.modules
    assert state.keys() == content["state_dict"].keys()


class Payload:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.slow
@pytest.mark.parametrize("whole_file", [False, True])
@pytest.mark.parametrize(
    ("function", "name"), [(os.system, "system"), (runpy.run_path, "run_path"), (os.mkdir, "mkdir")]
)
def test_nothing_in_a_checkpoint_is_run(tmp_path, checkpoint, function, name, whole_file):
    path, mark = checkpoint(), tmp_path / "executed"
    argument = {"system": f"touch {mark}", "run_path": str(tmp_path / "program.py"), "mkdir": str(mark)}[name]
    (tmp_path / "program.py").write_text(f"open({str(mark)!r}, 'w')")
    payload = Payload(function, argument)
    if whole_file:
        path.write_bytes(pickle.dumps(payload))
    else:
        torch.save({"state_dict": torch.load(path, weights_only=True)["state_dict"], "extra": payload}, path)
    with pytest.raises(PriorError) as excinfo:
        convert(path, tmp_path / "prior")
    message = one_line(excinfo)
    assert str(path) in message
    if not whole_file:
        assert re.search(rf"\w+\.{name}\b", message)
    assert not mark.exists()
    assert not (tmp_path / "prior").exists()


def test_a_foreign_class_is_named_and_not_made(tmp_path, checkpoint):
    path = checkpoint()
    torch.save({"state_dict": {}, "extra": types.SimpleNamespace(a=1)}, path)
    with pytest.raises(PriorError, match=r"types\.SimpleNamespace"):
        read_state(path)


@pytest.mark.parametrize("keep", [0, 10, 1000, 0.5, 0.99])
def test_a_truncated_file_is_one_line(tmp_path, checkpoint, keep):
    path = checkpoint()
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(PriorError) as excinfo:
        convert(path, tmp_path / "prior")
    assert str(path) in one_line(excinfo)


@pytest.mark.parametrize(
    ("content", "match"), [({}, "state_dict"), ([1, 2], "state_dict"), ({"state_dict": {"a": 3}}, "'a' .*int")]
)
def test_a_file_without_tensors_is_one_line(tmp_path, content, match):
    torch.save(content, tmp_path / "model.ckpt")
    with pytest.raises(PriorError, match=match) as excinfo:
        read_state(tmp_path / "model.ckpt")
    one_line(excinfo)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(PriorError, match=r"nothing\.ckpt"):
        convert(tmp_path / "nothing.ckpt", tmp_path / "prior")


CONV = "model.diffusion_model.input_blocks.0.0.weight"
CODEBOOK = "first_stage_model.quantize.embedding.weight"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop(CONV), [CONV]),
        (lambda state: state.update(extra=torch.zeros(1)), [" extra"]),
        (lambda state: (state.pop(EMBEDDING), state.update(other=state[CONV])), [EMBEDDING, " other"]),
        (lambda state: state.update({CONV: torch.zeros(32, 4, 3, 3)}), [CONV, "(32, 4, 3, 3)", "(32, 3, 3, 3)"]),
        (lambda state: state.update({EMBEDDING: torch.zeros(12, 16)}), [EMBEDDING, "(12, 16)", "(11, 16)"]),
        (lambda state: state.pop(CODEBOOK), [CODEBOOK]),
        (lambda state: state.update(alphas_cumprod=state["alphas_cumprod"] * 1.01), ["alphas_cumprod", "1.0%"]),
        (lambda state: state.update(alphas_cumprod=torch.ones(10)), ["alphas_cumprod", "(10,)", "(1000,)"]),
    ],
)
def test_what_does_not_fit_is_listed(tmp_path, checkpoint, change, words):
    path = checkpoint(change=change)
    with pytest.raises(PriorError) as excinfo:
        convert(path, tmp_path / "prior")
    message = one_line(excinfo)
    assert message.startswith(str(path))
    assert [word for word in words if word not in message] == []
    assert not (tmp_path / "prior").exists()


@pytest.mark.slow
def test_a_kl_configuration_for_a_vq_checkpoint_is_one_line(tmp_path, checkpoint):
    path = checkpoint()
    config = yaml.safe_load((tmp_path / "model.yaml").read_text())
    stage = config["model"]["params"]["first_stage_config"]
    stage["target"] = "ldm.models.autoencoder.AutoencoderKL"
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(PriorError, match=r"double_z"):
        convert(path, tmp_path / "prior")
    stage["params"]["ddconfig"]["double_z"] = True
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(PriorError, match=CODEBOOK):
        convert(path, tmp_path / "prior")


@pytest.mark.slow
def test_what_training_left_in_the_state_is_dropped_by_name(tmp_path, checkpoint):
    known = ("logvar", "first_stage_model.loss.logvar", "first_stage_model.loss.discriminator.main.0.weight")
    path = checkpoint(change=lambda state: state.update({name: torch.zeros(()) for name in known}))
    convert(path, tmp_path / "prior")


@pytest.mark.slow
def test_the_stored_scale_factor_is_written(tmp_path, checkpoint):
    convert(checkpoint(change=lambda state: state.update(scale_factor=torch.tensor(0.25))), tmp_path / "prior")
    assert diffusers.VQModel.from_pretrained(tmp_path / "prior" / "vqvae").config.scaling_factor == 0.25


def test_the_imagenet_list_has_the_labels_in_order():
    classes = imagenet_classes()
    assert len(classes) == 1000
    assert (classes[0], classes[207].name, classes[999].name) == (
        PriorClass("tench", "n01440764"),
        "golden retriever",
        "toilet tissue",
    )
    ids = [one.wordnet_id for one in classes]
    assert ids == sorted(set(ids))  # the labels of ILSVRC-2012 are the places in this order
    names = {one.wordnet_id: one.name for one in classes}
    for subset in SUBSETS.values():
        assert [(wordnet, names.get(wordnet)) for wordnet, _ in subset] == list(subset)


def test_rows_are_named_by_the_list_and_the_last_is_the_null_class():
    assert class_names(1001, None, "-") == (imagenet_classes(), 1000)
    three = tuple(PriorClass(name) for name in "abc")
    assert class_names(4, three, "-") == (three, 3)
    assert class_names(3, three, "-") == (three, None)
    with pytest.raises(PriorError, match=r"names\.txt .*\b3\b.*\b6\b"):
        class_names(6, three, "names.txt")


def test_class_names_are_read_from_text_and_json(tmp_path):
    (tmp_path / "a.txt").write_text("n01440764 tench\n\nsome cat\n")
    (tmp_path / "a.json").write_text(json.dumps(["n01440764 tench", {"name": "some cat"}]))
    for name in ("a.txt", "a.json"):
        assert read_classes(tmp_path / name) == (PriorClass("tench", "n01440764"), PriorClass("some cat"))
    for name, text in (("b", "[3]"), ("d", '{"tench": 1}'), ("e", '[{"name": "tench", "wordnet_id": 1440764}]')):
        (tmp_path / f"{name}.json").write_text(text)
    for name in ("b.json", "c.txt", "d.json", "e.json"):
        with pytest.raises(PriorError, match=name):
            read_classes(tmp_path / name)


@pytest.mark.slow
def test_the_configuration_is_given_or_lies_beside_the_checkpoint(tmp_path, checkpoint):
    path = checkpoint()
    for name in ("config.yaml", "2024-project.yml", "model.yaml"):
        (tmp_path / "model.yaml").rename(tmp_path / name)
        (tmp_path / "compose.yaml").write_text("services: {}\n")
        convert(path, tmp_path / "prior")
        (tmp_path / name).rename(tmp_path / "model.yaml")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "model.yaml").rename(tmp_path / "elsewhere" / "it.yaml")
    with pytest.raises(PriorError, match=r"model\.ckpt .*-S config="):
        convert(path, tmp_path / "prior")
    convert(path, tmp_path / "prior", config=tmp_path / "elsewhere" / "it.yaml")


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "3",
        "model: {params: {}}",
        "!!python/object/apply:os.getcwd []",
        "date: 2024-99-99",
        pytest.param("[" * 5000, id="deep"),
    ],
)
def test_a_file_that_is_no_configuration_is_one_line(tmp_path, checkpoint, text):
    path = checkpoint()
    (tmp_path / "model.yaml").write_text(text)
    with pytest.raises(PriorError, match=r"model\.yaml") as excinfo:
        convert(path, tmp_path / "prior")
    one_line(excinfo)
