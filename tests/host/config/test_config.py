"""How settings are read, composed, checked and written."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ld3m_plugin.config import RunConfig, assign, completed, decisive, digest, dump, merge, parse_assignment, resolve
from ld3m_plugin.errors import InvalidOptionError, UnknownOptionError, UsageError
from ld3m_plugin.generators.ld3m.ld3m_options import LD3MOptions
from ld3m_plugin.options import build
from ld3m_plugin.plain_yaml import plain
from ld3m_plugin.presets import load_preset, preset_names


def test_without_settings_the_names_are_those_of_preset_default():
    config = resolve()
    assert config == RunConfig() == resolve(presets=["default"])
    names = {part: {"name": getattr(config, part).name} for part in ("data", "generator", "objective")}
    assert names == load_preset("default").config


def test_files_presets_and_settings_compose_in_that_order(tmp_path):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("{seed: 1, steps: 1, images_per_class: 1, render_batch: 1}")
    second.write_text("{seed: 2, steps: 2, images_per_class: 2}")
    preset = load_preset("demo").config
    assert "steps" in preset
    assert "seed" not in preset
    config = resolve([first, second], ["demo"], [("images_per_class", 4)])
    assert (config.render_batch, config.seed, config.steps, config.images_per_class) == (1, 2, preset["steps"], 4)


@pytest.mark.parametrize("part", ["generator", "objective"])
def test_options_of_a_default_backend_need_no_name(part):
    config = resolve(settings=[(f"{part}.options.x", 1)])
    assert getattr(config, part) == getattr(RunConfig(), part).model_copy(update={"options": {"x": 1}})
    assert build(RunConfig, {part: {"options": {"x": 1}}}, "the configuration") == config


def test_another_backend_starts_without_the_options_of_the_one_before(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("generator: {options: {init: noise}}\ndata: {name: 'imagefolder:a', options: {image_size: 8}}")
    assert resolve([file], settings=[("generator.name", "other")]).generator.options == {}
    assert resolve([file], settings=[("data.name", "imagefolder:b")]).data.options == {"image_size": 8}
    assert resolve([file], settings=[("data.name", "cifar10")]).data.options == {}


def test_options_of_one_command_line_are_meant_for_the_backend_it_names():
    settings = [("generator.options.size", 3), ("generator.name", "other")]
    assert resolve(settings=settings).generator.options == {"size": 3}


def test_an_option_that_is_a_mapping_is_replaced_whole_and_changed_by_its_path():
    path = "objective.options.network_settings"
    preset = resolve(presets=["dm-2023"]).objective.options["network_settings"]
    assert preset["depth"] == 3
    replaced = resolve(presets=["dm-2023"], settings=[(path, {})])
    assert replaced.objective.options["network_settings"] == {}
    changed = resolve(presets=["dm-2023"], settings=[(f"{path}.width", 64)])
    assert changed.objective.options["network_settings"] == {**preset, "width": 64}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("optimizer.learning_rates.pixels", float("nan")),
        ("optimizer.learning_rates.pixels", float("inf")),
        ("optimizer.learning_rates.pixels", -1),
        ("optimizer.betas", [0.9, 1]),
    ],
)
def test_rates_that_cannot_learn_are_refused(path, value):
    with pytest.raises(InvalidOptionError, match=r"optimizer\."):
        resolve(settings=[(path, value)])


def test_a_path_through_a_value_is_refused():
    with pytest.raises(UsageError, match="'steps'"):
        resolve(settings=[("steps", 3), ("steps.x", 1)])


def test_the_same_backend_keeps_its_options(tmp_path):
    name, size = ("generator.name", "ld3m"), ("generator.options.size", 3)
    settings = [("generator.options.init", "noise"), name, size]
    assert resolve(settings=settings).generator.options == {"init": "noise", "size": 3}
    # Options that a file gives without a name are meant for the default.
    file = tmp_path / "run.yaml"
    file.write_text("generator: {options: {init: noise}}")
    assert resolve([file], settings=[name, size]).generator.options == {"init": "noise", "size": 3}


def test_merging_leaves_what_was_merged_alone():
    update = {"generator": {"name": "a", "options": {"x": 1}}}
    merged = merge(merge({}, update), {"generator": {"options": {"x": 2}}})
    assert merged["generator"]["options"] == {"x": 2}
    assert update == {"generator": {"name": "a", "options": {"x": 1}}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=1", 1),
        ("a=1.5", 1.5),
        ("a=1e-3", 1e-3),
        ("a=-2E4", -2e4),
        ("a=true", True),
        ("a=null", None),
        ("a=", None),
        ("a=word", "word"),
        ("a=nan", "nan"),
        ("a=.inf", float("inf")),
        ("a=010", 10),
        ("a=0o10", 8),
        ("a=0x1F", 31),
        ("a=1:30", "1:30"),
        ("a=no", "no"),
        ("a=2024-01-01", "2024-01-01"),
        ("a=*x", "*x"),
        ("a=b # c", "b # c"),
        ("a='1'", "1"),
        ("a=[1, 2]", [1, 2]),
        ("a={width: 8}", {"width": 8}),
        ("a=b=c", "b=c"),
        ("a=imagefolder:/x/y", "imagefolder:/x/y"),
        ("a=cuda:1", "cuda:1"),
        ("a={", "{"),
    ],
)
def test_values_are_read_as_yaml(text, value):
    path, parsed = parse_assignment(text)
    assert path == "a"
    assert plain(parsed) == value
    assert type(plain(parsed)) is type(value)


@given(st.integers() | st.booleans() | st.floats(allow_nan=False) | st.lists(st.integers()))
def test_every_value_survives_being_written_as_an_assignment(value):
    text = yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip()
    assert parse_assignment(f"some.path={text}") == ("some.path", value)


@pytest.mark.parametrize("text", ["steps", "", "=3"])
def test_what_is_no_assignment_is_refused(text):
    with pytest.raises(UsageError, match="key=value") as raised:
        parse_assignment(text)
    assert repr(text) in str(raised.value)


@pytest.mark.parametrize("path", [".", "a.", ".a", "a..b"])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(UsageError) as raised:
        assign({}, path, 1)
    assert repr(path) in str(raised.value)


@pytest.mark.parametrize(
    ("path", "value", "error", "message"),
    [
        ("stepz", 1, UnknownOptionError, "the configuration has no option 'stepz'; did you mean 'steps'"),
        ("optimizer.nam", "sgd", UnknownOptionError, r"no option 'optimizer\.nam'; did you mean 'name'"),
        ("evaluation.protocl", "quick", UnknownOptionError, "did you mean 'protocol'"),
        ("steps", -1, InvalidOptionError, "steps = -1: .*greater than or equal to 0"),
        ("steps", "many", InvalidOptionError, "steps = 'many': .*valid integer"),
        ("steps.x", 1, InvalidOptionError, "steps = "),
        ("generator", "pixel", InvalidOptionError, "generator = 'pixel'"),
        ("optimizer.name", "lion", InvalidOptionError, "'adam' or 'sgd'"),
        ("images_per_class", 0, InvalidOptionError, "greater than or equal to 1"),
        ("optimizer.momentum", 1, InvalidOptionError, "less than 1"),
        ("autocast", "fp8", InvalidOptionError, "'none' or 'bf16'"),
        ("optimizer.learning_rates.pixels", "fast", InvalidOptionError, r"learning_rates\.pixels = 'fast'"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_setting(path, value, error, message):
    with pytest.raises(error, match=message) as raised:
        resolve(settings=[(path, value)])
    assert "\n" not in str(raised.value)


def test_what_is_written_reads_as_the_same(tmp_path):
    config = resolve(
        settings=[
            ("evaluation.networks", ["ConvNet", "ViT"]),
            ("optimizer.learning_rates.pixels", 1e-7),
            ("optimizer.betas", [0.5, 0.9]),
            ("generator.options.words", ["null", "1e3", "089", "010", "no", "2024-01-01", "0x1", ".inf", "1_0"]),
        ]
    )
    path = tmp_path / "run.yaml"
    path.write_text(dump(config))
    assert resolve([path]) == config
    assert dump(resolve([path])) == dump(config)


def test_a_completed_configuration_writes_every_option_out():
    config = completed(resolve(settings=[("generator.name", "pixel")]))
    assert config.generator.options == {"init": "real"}
    assert config.objective.options["batch_real"] == 256
    assert config.optimizer.learning_rates == {"pixels": 0.05}
    assert completed(config) == config
    default = completed(RunConfig())
    assert default.generator.options.keys() == LD3MOptions.model_fields.keys() - LD3MOptions.added
    assert default.optimizer.learning_rates.keys() == {"latent", "class_embedding"}
    assert completed(default) == default


def test_rates_of_adam_are_not_completed_for_sgd():
    assert completed(resolve(settings=[("optimizer.name", "sgd")])).optimizer.learning_rates == {}


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_is_valid_and_says_where_it_comes_from(name):
    preset = load_preset(name)
    assert preset.summary
    assert preset.source
    assert completed(resolve(presets=[name]))


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(UsageError, match="unknown preset 'dmeo': did you mean 'demo'"):
        load_preset("dmeo")


@pytest.mark.parametrize("name", ["../presets/demo", "demo.yaml", ""])
def test_a_preset_is_a_name_and_not_a_path(name):
    with pytest.raises(UsageError, match="unknown preset"):
        load_preset(name)


def test_a_configuration_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        RunConfig().steps = 1


def test_another_choice_forgets_what_belonged_to_the_former(tmp_path):
    # A resolved configuration names everything; over it, another protocol must not keep the networks of the old one.
    file = tmp_path / "config.yaml"
    file.write_text(dump(completed(resolve(settings=[("generator.name", "pixel")]))))
    glad = resolve([file], settings=[("evaluation.protocol", "glad-2023")])
    assert (glad.evaluation.networks, glad.evaluation.repeats) == ((), None)
    assert resolve([file], settings=[("optimizer.name", "sgd")]).optimizer.learning_rates == {}
    kept = [("evaluation.protocol", "glad-2023"), ("evaluation.repeats", 2), ("optimizer.momentum", 0.9)]
    assert resolve([file], settings=kept).evaluation.repeats == 2
    assert resolve([file], settings=kept).optimizer.learning_rates == {"pixels": 0.05}


def test_another_protocol_is_tested_on_the_full_test_set(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("evaluation: {test_per_class: 9}")
    assert resolve([file], settings=[("evaluation.protocol", "quick")]).evaluation.test_per_class == 9
    assert resolve([file], settings=[("evaluation.protocol", "glad-2023")]).evaluation.test_per_class is None


def test_later_settings_win_over_a_whole_part():
    assert resolve(settings=[("generator", {"name": "a"}), ("generator.name", "b")]).generator.name == "b"


def test_values_are_copied_and_never_changed():
    options = {"batch_real": 6}
    resolve(settings=[("objective.options", options), ("objective.options.batch_real", 9)])
    assert options == {"batch_real": 6}


def test_a_configuration_of_before_there_were_these_settings_reads(tmp_path):
    old = completed(RunConfig()).model_dump(mode="json")
    del old["evaluation"]["random_real"], old["evaluation"]["test_per_class"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(old))
    assert resolve([tmp_path / "config.yaml"]) == completed(RunConfig())


def test_digest_is_of_what_decides_a_step():
    base = completed(RunConfig())
    data = {"root": "/elsewhere", **{k: v for k, v in base.data.options.items() if k != "root"}}
    moved = base.model_copy(
        update={"data": base.data.model_copy(update={"options": data}), "steps": 9, "device": "cpu"}
    )
    assert digest(moved) == digest(base)
    assert digest(base.model_copy(update={"seed": 1})) != digest(base)
    # Checkpoints that are older than the setting had its default.
    assert "tf32" not in decisive(base)
    assert digest(base.model_copy(update={"tf32": "all"})) != digest(base)


def test_a_tracker_is_a_name_or_a_name_with_options(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("trackers: [jsonl, {name: mine, options: {project: 007}}]")
    config = resolve([file])
    assert config.model_dump(mode="json")["trackers"] == ["jsonl", {"name": "mine", "options": {"project": 7}}]
    assert resolve(settings=[parse_assignment("trackers=[jsonl]")]).trackers == config.trackers[:1]
