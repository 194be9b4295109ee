"""Finding plugins: every way one can be broken is reported with its owner, and everything else goes on."""

import inspect
import json
import re
from contextlib import suppress
from types import SimpleNamespace

import pluggy
import pytest
import torch

from ld3m_plugin import hookspecs
from ld3m_plugin.augmentation import DSA
from ld3m_plugin.backends import create, default_rates, get_generator, get_objective
from ld3m_plugin.config import RunConfig, completed, resolve
from ld3m_plugin.data.load import load_task
from ld3m_plugin.distillation.loop import distill
from ld3m_plugin.errors import (
    DuplicateBackendError,
    InvalidOptionError,
    PluginLoadError,
    UnknownBackendError,
    UnknownOptionError,
    UsageError,
    nearest,
)
from ld3m_plugin.evaluation import evaluate, get_protocol
from ld3m_plugin.networks.build import get_network
from ld3m_plugin.priors.service import describe_prior, get_prior_kind, train_prior
from ld3m_plugin.randomness import stream
from ld3m_plugin.registry import KINDS, Registry, build_registry, current_registry, default_registry, use_registry
from ld3m_plugin.runs.run import start

GOOD = """
from ld3m_plugin import hookimpl

@hookimpl
def register_generators(register):
    register("good", "ld3m_plugin.generators.pixel:PixelGenerator")
"""


def there(call, *args, registry, **keywords):
    """The result of `call` where names are looked up in `registry`."""
    with use_registry(registry):
        return call(*args, **keywords)


def registering(*names, kind="generators"):
    """Source of a plugin that registers the pixel generator under each of the names."""
    lines = [f'    register("{name}", "ld3m_plugin.generators.pixel:PixelGenerator")' for name in names]
    return "\n".join(["from ld3m_plugin import hookimpl", "@hookimpl", f"def register_{kind}(register):", *lines, ""])


def record_of(registry, distribution):
    (record,) = [record for record in registry.records if record.owner.distribution == distribution]
    return record


def assert_the_rest_works(registry):
    """The built-ins, and the plugin `good` where it stands beside the broken one."""
    assert get_generator("pixel", registry=registry)
    assert get_generator("good", registry=registry)
    assert get_objective("dm", registry=registry)
    assert [record for record in registry.records if record.owner.is_host and record.problems] == []


BROKEN = {
    "does not import": ("import a_module_nobody_has", r"does not import: ModuleNotFoundError: .*a_module_nobody_has"),
    "is not Python": ("def (:", r"does not import: SyntaxError: "),
    "raises on import": ("raise RuntimeError('two\\n  lines')", r"does not import: RuntimeError: two lines$"),
    "leaves on import": ("import sys; sys.exit(3)", r"does not import: SystemExit: 3"),
    "raises in a hook": (
        "from ld3m_plugin import hookimpl\n@hookimpl\ndef register_generators(register): 1 / 0",
        r"register_generators raised ZeroDivisionError: division by zero",
    ),
    "misspells a hook": (
        "from ld3m_plugin import hookimpl\n@hookimpl\ndef register_generator(register): ...",
        r"there is no hook 'register_generator'; did you mean 'register_generators'",
    ),
    "hook with a wrong argument": (
        "from ld3m_plugin import hookimpl\n@hookimpl\ndef register_generators(registry): ...",
        r"register_generators must have one argument, named `register`",
    ),
    "registers a name with a space": (registering("two words"), r"generator name 'two words' is not valid"),
    "registers no name at all": (
        "from ld3m_plugin import hookimpl\n@hookimpl\ndef register_generators(register): register(None, print)",
        r"register_generators raised TypeError",
    ),
    "takes a built-in's name": (
        registering("pixel"),
        r"generator 'pixel' is registered by plugin 'generators' of ld3m-plugin [\d.]+ "
        r"and by plugin 'broken' of a-broken-plugin 2\.5",
    ),
}


@pytest.mark.parametrize(("source", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_plugin_is_reported_and_the_others_go_on(site, load, source, reason):
    site.add("a-broken-plugin", {"broken": source}, version="2.5").add("the-good-plugin", {"good": GOOD})
    registry = load()
    record = record_of(registry, "a-broken-plugin")
    assert str(record.owner) == "plugin 'broken' of a-broken-plugin 2.5"
    assert record.status.startswith("failed: ")
    (problem,) = record.problems
    assert "\n" not in problem
    assert re.search(reason, problem), problem
    assert record_of(registry, "the-good-plugin").status == "ok"
    assert_the_rest_works(registry)


def test_an_entry_point_without_its_module_is_reported(site, load):
    site.add("a-broken-plugin", {}, entry_points={"broken": "a_module_nobody_has:plugin"}).add("good", {"good": GOOD})
    registry = load()
    assert "does not import: ModuleNotFoundError" in record_of(registry, "a-broken-plugin").status
    assert_the_rest_works(registry)


def test_a_distribution_without_metadata_does_not_end_the_loading(site, load):
    site.add("half-removed", {"half": registering("half")}, metadata=False).add("good", {"good": GOOD})
    registry = load()
    assert record_of(registry, "(unknown)").owner.plugin == "half"
    assert_the_rest_works(registry)


def test_what_else_a_broken_plugin_registers_is_good(site, load):
    source = (
        registering("pixel", "mine") + registering("misplaced", kind="objective") + registering("Net", kind="networks")
    )
    site.add("mostly-good", {"mostly": source}).add("good", {"good": GOOD})
    registry = load()
    record = record_of(registry, "mostly-good")
    assert len(record.problems) == 2
    assert get_generator("mine", registry=registry)
    assert registry.find("network", "Net").owner == record.owner
    assert_the_rest_works(registry)


def test_a_hook_that_raises_keeps_what_it_had_registered(site, load):
    site.add("half-way", {"half_way": registering("mine") + "    raise OSError('disk')\n"}).add("good", {"good": GOOD})
    registry = load()
    assert record_of(registry, "half-way").problems == ["register_generators raised OSError: disk"]
    assert get_generator("mine", registry=registry)
    assert_the_rest_works(registry)


def test_a_built_in_keeps_its_name(site, load):
    site.add("grabs", {"grabs": registering("dm", kind="objectives")})
    registry = load()
    assert registry.find("objective", "dm").owner.is_host
    assert get_objective("dm", registry=registry).options.batch_real


def test_a_name_of_two_third_parties_is_nobodys_and_names_both(site, load):
    site.add("first", {"one": registering("shared", "good")}, version="1.1")
    site.add("second", {"two": registering("shared")}, version="2.2")
    registry = load()
    assert record_of(registry, "first").status == "ok"
    assert "first 1.1" in record_of(registry, "second").status
    with pytest.raises(
        DuplicateBackendError, match=r"first 1\.1 and by .* second 2\.2; uninstall one, or .*LD3M_PLUGINS"
    ):
        get_generator("shared", registry=registry)
    assert_the_rest_works(registry)
    chosen = load({"LD3M_PLUGINS": "second"})
    assert chosen.find("generator", "shared").owner.distribution == "second"


def test_a_name_of_three_third_parties_names_all(site, load):
    for name in ("first", "second", "third"):
        site.add(name, {f"module_{name}": registering("shared")})
    with pytest.raises(DuplicateBackendError, match=r"of first .* of second .* of third"):
        load().find("generator", "shared")


def test_the_same_name_for_two_kinds_is_no_clash(site, load):
    site.add("both", {"both": registering("dm") + registering("pixel", kind="objectives")})
    registry = load()
    assert record_of(registry, "both").status == "ok"
    assert registry.find("generator", "dm").owner.distribution == "both"


def test_equal_entry_point_names_of_two_distributions_both_load(site, load):
    # pluggy's own loader would skip the second in silence.
    site.add("first", {"one": registering("a")}, entry_points={"plugin": "one"})
    site.add("second", {"two": registering("b")}, entry_points={"plugin": "two"})
    registry = load()
    assert {registry.find("generator", name).owner.distribution for name in "ab"} == {"first", "second"}


def test_the_order_is_the_hosts_first_then_by_distribution(site, host_points):
    for name in ("zebra", "aardvark", "middle"):
        site.add(name, {f"module_{name}": registering(name)})
    points = [*site.points(), *host_points]
    orders = [
        [str(record.owner) for record in build_registry(found=found, environ={}).records]
        for found in (points, points[::-1])
    ]
    assert orders[0] == orders[1]
    third_party = [owner for owner in orders[0] if "ld3m-plugin" not in owner]
    assert third_party == orders[0][-3:] == sorted(third_party, key=lambda owner: owner.split(" of ")[1])


@pytest.mark.parametrize(
    ("value", "loaded"),
    [
        (None, {"ld3m-first", "second"}),
        ("", set()),
        ("ld3m-first", {"ld3m-first"}),
        ("LD3M_First", {"ld3m-first"}),
        ("entry_two", {"second"}),
        (" entry-two , ld3m.first,", {"ld3m-first", "second"}),
        ("ld3m-plugin", set()),
    ],
)
def test_ld3m_plugins_chooses_third_parties_by_distribution_or_entry_point(site, load, value, loaded):
    site.add("ld3m-first", {"one": registering("a")}, entry_points={"entry_one": "one"})
    site.add("second", {"two": registering("b")}, entry_points={"entry_two": "two"})
    registry = load({} if value is None else {"LD3M_PLUGINS": value})
    assert {record.owner.distribution for record in registry.records} - {"ld3m-plugin"} == loaded
    assert registry.find("generator", "pixel").owner.is_host


def test_a_plugin_that_is_not_chosen_is_not_even_imported(site, load):
    site.add("loud", {"loud": "raise SystemExit('imported')"})
    assert all(record.status == "ok" for record in load({"LD3M_PLUGINS": ""}).records)


def test_ld3m_plugins_with_a_name_that_is_not_installed_says_so(load):
    registry = load({"LD3M_PLUGINS": "mine"})
    (record,) = [record for record in registry.records if record.problems]
    assert record.status == "failed: named in LD3M_PLUGINS and not installed"
    assert record.owner.plugin == "mine"


def test_an_unknown_name_shows_the_nearest_and_the_plugins_that_failed(site, load):
    site.add("a-broken-plugin", {"broken": "import a_module_nobody_has"}, version="2.5")
    with pytest.raises(
        UnknownBackendError, match=r"unknown generator 'pixle': did you mean 'pixel'.*a-broken-plugin 2\.5 failed"
    ):
        load().find("generator", "pixle")


def test_a_factory_that_does_not_import_fails_on_use_alone(site, load):
    targets = {"late": "a_module_nobody_has:Late", "gone": "json:Gone", "bare": "json"}
    source = GOOD + "".join(f'    register("{name}", "{target}")\n' for name, target in targets.items())
    site.add("late", {"late": source})
    registry = load()
    assert record_of(registry, "late").status == "ok"
    assert_the_rest_works(registry)
    for name in targets:
        with pytest.raises(
            PluginLoadError, match=rf"generator '{name}' \(plugin 'late' of late 1\.0\) does not import"
        ):
            registry.resolve("generator", name)


@pytest.mark.parametrize("kind", ["generator", "objective"])
def test_a_backend_of_another_class_is_refused_with_its_owner(site, load, kind):
    hook = f"from ld3m_plugin import hookimpl\n@hookimpl\ndef register_{kind}s(register): register('odd', dict)\n"
    site.add("odd-one", {"odd": hook})
    with pytest.raises(
        PluginLoadError, match=rf"{kind} 'odd' \(plugin 'odd' of odd-one 1\.0\) is a dict, not an .*derive"
    ):
        there(create, kind, "odd", {}, registry=load())


def test_a_prior_of_another_class_is_refused_with_its_owner(site, load):
    site.add("odd-one", {"odd": registering(kind="priors") + "    register('odd', dict)\n"})
    with pytest.raises(PluginLoadError, match=r"prior 'odd' \(plugin 'odd' of odd-one 1\.0\) is a dict, not .*derive"):
        there(get_prior_kind, "odd", registry=load())


def test_options_are_checked_by_name_and_range(load):
    registry = load()
    with pytest.raises(
        UnknownOptionError, match=r"objective 'dm' has no option 'batch_reel'; did you mean 'batch_real'"
    ):
        get_objective("dm", registry=registry, batch_reel=1)
    with pytest.raises(InvalidOptionError, match=r"objective 'dm': batch_real = 0: .*greater than or equal to 1"):
        get_objective("dm", registry=registry, batch_real=0)
    with pytest.raises(InvalidOptionError, match=r"generator 'pixel': init = 'zero': .*noise, real"):
        get_generator("pixel", registry=registry, init="zero")


APART = (
    GOOD
    + """
    register("apart", "nobody_has:This", options="apart_options:Own")
    register("other", "ld3m_plugin.generators.pixel:PixelGenerator", options="apart_options:Own")
    register("not", "ld3m_plugin.generators.pixel:PixelGenerator", options="json:JSONDecoder")
    register("gone", "ld3m_plugin.generators.pixel:PixelGenerator", options="apart_options:Gone")
"""
)
OWN_OPTIONS = """
from ld3m_plugin.contracts import RatedOptions

class Own(RatedOptions):
    level: float = 0.5

    def learning_rates(self):
        return {"x": self.level}
"""


def test_options_registered_apart_are_read_without_the_backend(site, load):
    site.add("apart", {"apart": APART, "apart_options": OWN_OPTIONS})
    with use_registry(load()) as registry:
        whole = completed(RunConfig.model_validate({"generator": {"name": "apart", "options": {"level": 0.25}}}))
        assert (whole.generator.options, whole.optimizer.learning_rates) == ({"level": 0.25}, {"x": 0.25})
        with pytest.raises(UnknownOptionError, match=r"generator 'apart' has no option 'lewel'"):
            completed(RunConfig.model_validate({"generator": {"name": "apart", "options": {"lewel": 1}}}))
        with pytest.raises(PluginLoadError, match=r"'apart'.*does not import"):
            create("generator", "apart", {})
        # The class takes other options than were registered; no options; nothing there.
        for name, reason in {"other": "PixelOptions", "not": "no class of Options", "gone": "does not import"}.items():
            with pytest.raises(PluginLoadError, match=f"generator {name!r}.*{reason}"):
                registry.resolve("generator", name)


def test_nearest_ignores_case_and_lists_what_is_known():
    assert nearest("PIXEL", ["pixel", "dm"]) == "did you mean 'pixel'? known: dm, pixel"
    assert nearest("unlike anything", ["pixel", "dm"]) == "known: dm, pixel"
    assert nearest("x", []) == "known: none"


EVERY_KIND = """
import json
import torch
from torch import nn
from ld3m_plugin import hookimpl
from ld3m_plugin.augmentation import Operation, UniformGenerator, broadcast
from ld3m_plugin.evaluation import get_protocol
from ld3m_plugin.contracts import DifferentiableObjective, Generator, Initialiser, Latents, Network, PriorKind, Tracker
from ld3m_plugin.testing import tiny_task


class Constant(Generator):
    def initial_latents(self, task, labels, rng):
        self.size = task.image_size
        return Latents({"level": torch.rand(len(labels), task.channels, 1, 1, generator=rng)}, learned=("level",))

    def render(self, latents):
        return latents["level"].expand(-1, -1, self.size, self.size)

    def learning_rates(self):
        return {"level": 0.1}


class Dark(DifferentiableObjective):
    def loss(self, images, labels, step):
        return images.square().mean()


class Gray(Initialiser):
    def images(self, task, labels, rng):
        return torch.zeros(len(labels), task.channels, task.image_size, task.image_size)


class Linear(Network):
    def __init__(self, channels, image_size, num_classes, bias=True):
        super().__init__()
        self.last = nn.Linear(channels * image_size**2, num_classes, bias)

    def embed(self, images):
        return images.flatten(1)

    def forward(self, images):
        return self.last(self.embed(images))


class Diary(Tracker):
    def start(self, folder, config):
        self.path = folder / "diary.json"
        self.entries = [config["generator"]["name"]]
        return self

    def log(self, record):
        self.entries.append(record["step"])

    def finish(self):
        self.path.write_text(json.dumps(self.entries))


class Bright(Operation):
    def __init__(self):
        super().__init__(UniformGenerator(by=(0.5, 1.0)))

    def augment(self, images, params, /):
        return images + broadcast(images, params["by"])


class Sizes(PriorKind):
    def recognises(self, path):
        return path.suffix == ".size"

    def train(self, task, out, options, *, seed, reporter):
        out.write_text(str(task.image_size))

    def convert(self, source, out, options):
        (out / "mine.size").write_text(source.read_text())

    def describe(self, path):
        return {"size": path.read_text()}


@hookimpl
def register_generators(register):
    register("mine", Constant)

@hookimpl
def register_objectives(register):
    register("mine", Dark)

@hookimpl
def register_datasets(register):
    register("mine", lambda argument, options: tiny_task(image_size=options.image_size or int(argument or 8)))

@hookimpl
def register_networks(register):
    register("mine", Linear)

@hookimpl
def register_trackers(register):
    register("mine", Diary)

@hookimpl
def register_priors(register):
    register("mine", Sizes)

@hookimpl
def register_launchers(register):
    register("mine", "ld3m_plugin.launchers.local:LocalLauncher")

@hookimpl
def register_augmentations(register):
    register("mine", Bright)

@hookimpl
def register_initialisers(register):
    register("mine", Gray)

@hookimpl
def register_protocols(register):
    register("mine", get_protocol("quick").model_copy(update={"name": "mine", "epochs": 1, "dsa": "mine"}))

@hookimpl
def register_commands(register):
    register("mine", lambda: print("my own command"), summary="mine too")
"""


def specified_hooks():
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return {name for name in dir(manager.hook) if not name.startswith("_")}


@pytest.fixture
def every_kind(site, load):
    """A registry with a plugin that implements every hook there is."""
    site.add("every-kind", {"every_kind": EVERY_KIND})
    registry = load()
    implemented = {name for name in specified_hooks() if f"def {name}(" in EVERY_KIND}
    assert implemented == specified_hooks() == {f"register_{kind}s" for kind in KINDS}
    assert record_of(registry, "every-kind").status == "ok"
    return registry


@pytest.mark.parametrize("hook", sorted(specified_hooks()))
def test_a_hook_says_what_is_registered_and_since_when(hook):
    specification = getattr(hookspecs, hook)
    assert list(inspect.signature(specification).parameters) == ["register"]
    assert "Since" in inspect.getdoc(specification)


def test_a_plugin_registers_every_kind_and_names_are_found(every_kind):
    assert {backend.kind for backend in every_kind.backends() if backend.name == "mine"} == set(KINDS)


def test_a_plugins_data_set_is_read_with_its_argument_and_options(every_kind):
    assert load_task("mine:12", registry=every_kind).image_size == 12
    assert load_task("mine", registry=every_kind, image_size=16).image_size == 16


def test_a_plugins_network_is_built_with_its_settings(every_kind):
    network = get_network("mine", registry=every_kind, channels=1, image_size=8, num_classes=3, bias=False)
    assert network.last.bias is None


def test_a_plugins_prior_is_trained_and_described(every_kind, tmp_path):
    there(
        train_prior, "mine", load_task("mine:12", registry=every_kind), tmp_path / "new" / "a.size", registry=every_kind
    )
    assert there(describe_prior, tmp_path / "new" / "a.size", registry=every_kind) == {"kind": "mine", "size": "12"}


def test_a_run_of_a_plugins_backends_alone(every_kind, tmp_path, two_epochs):
    names = [(f"{part}.name", "mine") for part in ("data", "generator", "objective")]
    settings = [
        *names,
        ("evaluation.protocol", two_epochs),
        ("steps", 3),
        ("trackers", ["mine"]),
        ("evaluation.networks", ["mine"]),
        ("evaluation.repeats", 1),
    ]
    result = start(resolve(settings=settings), tmp_path / "run", registry=every_kind)
    assert tuple(result.distilled.images.shape) == (3, 1, 8, 8)
    assert [row.network for row in result.evaluation.rows] == ["mine", "mine"]
    # The configuration, three steps, and one record for each row of the evaluation at the end.
    assert json.loads((tmp_path / "run" / "diary.json").read_text()) == ["mine", 1, 2, 3, 3, 3]
    generator = result.distilled.metadata["generator"]
    assert generator["distribution"] == "plugin 'every_kind' of every-kind 1.0"


def test_a_plugins_augmentation_is_part_of_strategies(every_kind):
    with use_registry(every_kind):
        images = DSA("mine")(torch.zeros(4, 1, 8, 8), rng=stream(0))
    assert (images >= 0.5).all()
    assert len(images.unique()) == 4


def test_a_plugins_protocol_trains_networks(every_kind):
    task = load_task("mine", registry=every_kind)
    images = SimpleNamespace(images=torch.zeros(3, 1, 8, 8), labels=torch.arange(3))
    result = evaluate(images, task, protocol="mine", networks=["mine"], repeats=1, registry=every_kind)
    assert (result.protocol.name, result.protocol.epochs, result.protocol.dsa) == ("mine", 1, "mine")


def test_an_unknown_protocol_names_those_of_plugins(every_kind):
    with use_registry(every_kind), pytest.raises(UsageError, match="mine"):
        get_protocol("mne")


@pytest.mark.slow
def test_a_plugins_command_runs(site, ld3m):
    site.add("every-kind", {"every_kind": EVERY_KIND})
    assert "mine too" in ld3m("--help").out
    assert ld3m("mine").out == "my own command\n"


def test_a_command_that_does_not_import_is_one_line_and_disturbs_no_other(site, ld3m):
    source = registering(kind="commands") + "    register('broken', 'no_such_module:app', summary='breaks')\n"
    site.add("a-command", {"a_command": source})
    assert "breaks" in ld3m("--help").out
    ld3m("-v", "presets")  # what one command is told holds for no other
    refused = ld3m("broken")
    assert refused.code == 1
    assert "a-command 1.0" in refused.error
    assert "no_such_module" in refused.error


def test_a_command_of_the_host_keeps_its_name(site, load):
    site.add("a-command", {"a_command": registering(kind="commands") + "    register('distill', print)\n"})
    registry = load()
    assert registry.find("command", "distill").owner.is_host
    assert "'distill'" in record_of(registry, "a-command").status


@pytest.mark.parametrize(("stated", "told"), [("99", "99"), ("'one'", "'one'")])
def test_a_plugin_for_another_api_is_refused_by_name(site, load, stated, told):
    site.add("from-tomorrow", {"tomorrow": f"api_version = {stated}\n{GOOD}"})
    registry = load()
    record = record_of(registry, "from-tomorrow")
    assert "from-tomorrow 1.0" in str(record.owner)
    assert told in record.status
    assert "good" not in registry.names("generator")


def test_a_plugin_for_this_api_is_loaded(site, load):
    site.add("from-today", {"today": f"api_version = {hookspecs.API_VERSION}\n{GOOD}"})
    assert "good" in load().names("generator")


def test_the_registry_in_use_is_the_innermost_and_is_put_back():
    outer, inner = Registry(), Registry()
    with use_registry(outer):
        with suppress(RuntimeError), use_registry(inner):
            assert current_registry() is inner
            raise RuntimeError
        with use_registry(None):
            assert current_registry() is outer
    assert current_registry() is default_registry()


def test_an_iterator_of_steps_keeps_the_registry_it_was_made_with(every_kind):
    names = {part: {"name": "mine"} for part in ("data", "generator")}
    objective = {"name": "dm", "options": {"network": "mine", "batch_real": 2, "dsa": "mine"}}
    # DM looks up its network in every step, long after `distill` has returned.
    steps = list(distill({**names, "objective": objective, "steps": 2}, registry=every_kind))
    assert [step.iteration for step in steps] == [1, 2]


def test_learning_rates_that_take_the_objectives_name_go_on_with_a_warning(every_kind):
    class Old(every_kind.resolve("generator", "mine")):
        def learning_rates(self, objective):
            return {"dm": {"level": 0.25}}[objective]

    with pytest.warns(DeprecationWarning, match=r"Old\.learning_rates"):
        assert default_rates(Old(), "dm") == {"level": 0.25}
