"""The form in which class names are compared."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ld3m_plugin.data.class_names import comparable, composed, same_names
from ld3m_plugin.priors.classes import imagenet_classes


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("T-shirt/top", "t_shirt  TOP"),
        ("tench - fish", "tench_fish"),
        ("jack-o'-lantern", "jack_o_lantern"),
        ("potter\u2019s wheel", "potter's_wheel"),
        ("St. Bernard", "st bernard"),
        ("a\u2013b", "a-b"),
        ("\u22125", "-5"),
        ("Stra\xdfe", "STRASSE"),
        ("p\xe2t\xe9", "pa\u0302te\u0301"),
        ("\u1f80", "\u0391\u0345\u0313"),
        ("\ufefftench", "tench"),
        ("\u2764\ufe0f", "\u2764"),
        ("_background_", "background"),
        ("A -", "A-"),
    ],
)
def test_spellings_of_one_name(one, other):
    assert comparable(one) == comparable(other)


@pytest.mark.parametrize(
    "names",
    [
        ("C", "C++", "C#"),
        ("+", "-", "/", "_", "+/-", "!", "?", ",", "."),
        ("A", "A+", "A-"),
        ("O blood", "O- blood", "O+ blood"),
        ("5", "-5", "+5", "1.5", "15"),
        ("shift 5", "shift -5", "shift_+5"),
        ("\U0001f642", "\U0001f643"),
        ("\U0001f468\u200d\U0001f469", "\U0001f468\U0001f469"),
        ("\u0915\u093e", "\u0915\u093f", "\u0915"),  # Devanagari vowel signs are no letters to Python's \w
        ("tench", "tenches"),
        ("NET", ".NET"),
        ("pate", "p\xe2t\xe9"),
    ],
)
def test_names_that_are_not_the_same(names):
    assert same_names(names) is None
    assert len({comparable(name) for name in names}) == len(names)


@given(st.text(max_size=8), st.sampled_from(["NFC", "NFD"]))
def test_neither_form_nor_surrounding_space_matters_and_no_name_is_lost(name, form):
    assert comparable(f" {unicodedata.normalize(form, name)} ") == comparable(name)
    assert comparable(name) or not composed(name).strip()
    assert composed(composed(name)) == composed(name)


def test_the_first_two_alike_are_found_in_order():
    assert same_names(["b", "Cat", "a", "cat", "B"]) == ("Cat", "cat")


def test_imagenet_has_only_the_names_twice_that_it_has_twice():
    names = sorted({known.name for known in imagenet_classes()})
    assert {comparable(name) for name in names} == {
        name.casefold().replace("-", " ").replace("'", " ").replace("  ", " ") for name in names
    }
