"""From the task's classes to rows of the prior's class embedding."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from ld3m_plugin.backends import get_generator
from ld3m_plugin.config import completed, resolve
from ld3m_plugin.errors import InvalidOptionError
from ld3m_plugin.generators.ld3m.ldm_folder import PriorClass, PriorFacts
from ld3m_plugin.priors.class_matching import rows_of_classes
from ld3m_plugin.runs.provenance import facts_of
from ld3m_plugin.testing import tiny_task

FACTS = PriorFacts(
    (
        PriorClass("tench", "n01440764"),
        PriorClass("crane", "n02012849"),
        PriorClass("crane", "n03126707"),
        PriorClass("T-shirt/top"),
    ),
    null_class=4,
)


def task(names, ids=None):
    return replace(tiny_task(class_names=tuple(names)), wordnet_ids=tuple(ids or [None] * len(names)))


def rows(names, ids=None, class_map=None, unmatched="error", facts=FACTS):
    return rows_of_classes(task(names, ids), facts, class_map, unmatched)


def test_wordnet_ids_go_before_names():
    assert rows(["crane", "crane "], ["n03126707", "n02012849"]) == [2, 1]


def test_a_broader_class_is_taken_where_there_is_none_of_the_name():
    fish = replace(task(["Tench", "fish", "pike"]), broader=("crane", "tench", None))
    with pytest.raises(InvalidOptionError, match="'pike'"):
        rows_of_classes(fish, FACTS, None, "error")
    assert rows_of_classes(fish, FACTS, None, "unconditional") == [0, 0, 4]


def test_a_class_without_match_names_the_command_that_trains_a_prior():
    named = replace(task(["a"]), name="imagefolder:photos", read_with={"image_size": 64})
    for kind, option in (("ldm", "prior"), ("gan", "network")):
        command = f"ld3m prior train {kind} --data imagefolder:photos -D image_size=64 -S size=tiny --out my-prior"
        with pytest.raises(InvalidOptionError) as error:
            rows_of_classes(named, FACTS, None, "error", kind)
        assert command in str(error.value)
        assert f"-G {option}=my-prior (Python: {option}='my-prior')" in str(error.value)
        assert "-g pixel" in str(error.value)


def test_data_that_is_no_data_set_is_trained_on_from_a_folder():
    with pytest.raises(InvalidOptionError, match="--data imagefolder:FOLDER -D image_size=16 -S size=tiny"):
        rows_of_classes(replace(task(["a"]), name="tensors"), FACTS, None, "error")


def test_names_match_without_case_and_separators():
    assert rows(["t shirt TOP", "Tench"]) == [3, 0]


@pytest.mark.parametrize(("ours", "theirs"), [("C#", "C++"), ("C", "C#"), ("+", "-"), ("\U0001f642", "\U0001f643")])
def test_a_sign_is_not_taken_for_another(ours, theirs, tmp_path):
    facts = PriorFacts((PriorClass(theirs), PriorClass("b")))
    with pytest.raises(InvalidOptionError, match=re.escape(repr(ours))):
        rows([ours], facts=facts)
    with pytest.raises(InvalidOptionError, match=re.escape(repr(ours))):
        rows(["a"], unmatched=ours, facts=facts)
    path = tmp_path / "map.yaml"
    path.write_text(f'"{ours}": b\n', encoding="utf-8")
    with pytest.raises(InvalidOptionError, match=re.escape(repr(ours))):
        rows([theirs], class_map=path, facts=facts)


COMPOSED, DECOMPOSED = "p\xe2t\xe9", "pa\u0302te\u0301"


@pytest.mark.parametrize(("ours", "theirs"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_composed_and_decomposed_letters_are_one_name(tmp_path, ours, theirs):
    facts = PriorFacts((PriorClass("b"), PriorClass(theirs), PriorClass(theirs.upper())))
    assert rows([ours], facts=facts) == [1]
    path = tmp_path / "map.yaml"
    path.write_text(f"{theirs}: b\n", encoding="utf-8")
    assert rows([ours], class_map=path, facts=facts) == [0]


CARDIGANS = PriorFacts((PriorClass("Cardigan", "n02113186"), PriorClass("cardigan", "n02963159")))


def test_case_tells_names_apart_that_are_otherwise_equal():
    assert rows(["cardigan", "Cardigan"], facts=CARDIGANS) == [1, 0]


def test_a_name_of_two_classes_asks_for_an_id(tmp_path):
    with pytest.raises(InvalidOptionError, match=r"'CARDIGAN' .*n02113186 .*n02963159.*class_map"):
        rows(["CARDIGAN"], facts=CARDIGANS)
    path = tmp_path / "map.yaml"
    path.write_text("CARDIGAN: n02963159\n")
    assert rows(["CARDIGAN"], class_map=path, facts=CARDIGANS) == [1]


def test_a_prior_without_class_names():
    with pytest.raises(InvalidOptionError, match=r"class 'a' .*prior\.json"):
        rows(["a"], facts=PriorFacts())


def test_a_name_with_another_id_is_no_match():
    with pytest.raises(InvalidOptionError, match="'tench'"):
        rows(["tench"], ["n99999999"])


@pytest.mark.parametrize(("unmatched", "expected"), [("unconditional", 4), ("tench", 0), ("n03126707", 2)])
def test_unmatched(unmatched, expected):
    assert rows(["a", "crane"], [None, "n02012849"], unmatched=unmatched) == [expected, 1]


def test_class_map_goes_first(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text("tench: n03126707\nother: unconditional\nn02012849: tench\n")
    assert rows(["tench", "other", "crane"], [None, None, "n02012849"], path) == [2, 4, 0]


def test_a_class_map_may_be_a_mapping():
    mapping = {"tench": "n03126707", "other": "unconditional", "n02012849": "tench"}
    assert rows(["tench", "other", "crane"], [None, None, "n02012849"], mapping) == [2, 4, 0]
    with pytest.raises(InvalidOptionError, match=r"^class_map: the task has no class 'tenhc'.*'tench'"):
        rows(["tench"], class_map={"tenhc": "tench"})
    with pytest.raises(InvalidOptionError, match=r"^class_map must map class names"):
        rows(["tench"], class_map={"tench": 3})


@pytest.mark.parametrize("name", ["ld3m", "glad"])
def test_generators_take_a_mapping_and_runs_record_it(name):
    options = get_generator(name, class_map={"a": "Bag", "0": "Coat"}).options
    assert options.class_map == {"a": "Bag", "0": "Coat"}
    whole = completed(resolve(settings=[("generator.name", name), ("generator.options.class_map", {"a": "Bag"})]))
    assert whole.generator.options["class_map"] == {"a": "Bag"}
    assert get_generator(name, class_map="map.yaml").options.class_map == Path("map.yaml")
    for wrong in ({"a": 1}, 3, ["a"]):
        with pytest.raises(InvalidOptionError, match=f"generator {name!r}: class_map"):
            get_generator(name, class_map=wrong)


def test_a_mapping_is_known_again_by_its_digest():
    """A class map is a place, which identifies no run: what it says is in the facts that are compared when a run goes on."""
    facts = []
    for mapping in ({"Bag": "Dress"}, {"Bag": "Dress"}, {"Bag": "Shirt"}):
        options = get_generator("glad", class_map=mapping).options
        facts.append(facts_of(SimpleNamespace(options=options, provenance=dict))["class_map_sha256"])
    assert facts[0] == facts[1] != facts[2]


def test_keys_and_values_of_a_class_map_are_the_text_that_is_written(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text("0: tench\nno: unconditional\n007: no\n")
    facts = PriorFacts((PriorClass("tench"), PriorClass("no")), 2)
    assert rows(["0", "no", "007"], class_map=path, facts=facts) == [0, 2, 1]


@pytest.mark.parametrize(
    "content", ["Tench: crane\ntench: goldfish", "tench: goldfish\nn01440764: goldfish", "t_e: a\nT-E: a"]
)
def test_a_class_that_is_mapped_twice_is_refused(tmp_path, content):
    path = tmp_path / "map.yaml"
    path.write_text(content)
    first, second = (line.partition(":")[0] for line in content.splitlines())
    with pytest.raises(InvalidOptionError, match=rf"{path}.*'{first}'.*'{second}'"):
        rows(["tench", "t e"], ["n01440764", None], path)


def test_a_key_that_may_be_two_classes_is_refused(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text("TENCH: goldfish\n")
    with pytest.raises(InvalidOptionError, match=rf"{path}.*'TENCH'.*'tench'.*'Tench'"):
        rows(["tench", "Tench"], class_map=path)
    path.write_text("tench: T-shirt/top\nTench: tench\n")
    assert rows(["tench", "Tench"], class_map=path) == [3, 0]


@pytest.mark.parametrize("content", ["a: tench\n", '{"a": "tench"}'])
def test_a_class_map_may_begin_with_a_byte_order_mark(tmp_path, content):
    path = tmp_path / "map.yaml"
    path.write_text(content, encoding="utf-8-sig")
    assert rows(["a"], class_map=path) == [0]


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("tench: 3", ".*'3'"),
        ("tench: [crane]", ""),
        ("tench: tench\ntench: crane", ".*'tench' is given twice"),
        ("- tench", ""),
        ("a: [", ""),
        ("tenhc: tench", ".*'tenhc'.*'tench'"),
        ("tench: tunch", ".*'tunch'.*'tench'"),
        ("tench: !!python/object/apply:os.system ['true']", ""),
    ],
)
def test_bad_class_maps(tmp_path, content, names):
    path = tmp_path / "map.yaml"
    path.write_text(content)
    with pytest.raises(InvalidOptionError, match=f"{path}{names}") as caught:
        rows(["tench"], class_map=path)
    assert "\n" not in str(caught.value)


def test_missing_class_map(tmp_path):
    with pytest.raises(InvalidOptionError, match=r"none\.yaml.*No such file or directory"):
        rows(["tench"], class_map=tmp_path / "none.yaml")


def test_no_match_names_the_choices():
    with pytest.raises(InvalidOptionError, match=r"'tensh' .*'tench'.*class_map.*unmatched=unconditional"):
        rows(["tensh"])


def test_long_lists_are_not_printed():
    many = PriorFacts(tuple(PriorClass(f"kind {n}") for n in range(1000)), 1000)
    with pytest.raises(InvalidOptionError) as caught:
        rows(["kind 1000"], facts=many)
    assert "1000 in all" in str(caught.value)
    assert len(str(caught.value)) < 500  # the list alone has thousands


def test_no_null_class():
    with pytest.raises(InvalidOptionError, match=r"unmatched: .*no unconditional row"):
        rows(["a"], unmatched="unconditional", facts=PriorFacts(FACTS.classes))
