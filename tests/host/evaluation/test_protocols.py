"""Protocols of one's own: from fields, from a file, and like a registered one."""

import pytest

from ld3m_plugin.errors import HostError, UsageError
from ld3m_plugin.evaluation import get_protocol

OWN = {
    "summary": "",
    "source": "",
    "networks": ["MLP"],
    "repeats": 1,
    "epochs": 2,
    "batch_size": 8,
    "learning_rate": 0.1,
    "dsa": "none",
}


def test_what_is_not_given_is_of_the_protocol_that_it_is_like():
    base = get_protocol("unseen")
    made = get_protocol({"like": "unseen", "name": "longer", "epochs": 400, "learning_rates": {"VGG11": 1e-4}})
    words = {"name", "summary", "source"}
    assert made.model_dump(exclude={*words, "epochs", "learning_rates"}) == base.model_dump(
        exclude={*words, "epochs", "learning_rates"}
    )
    assert (made.epochs, made.learning_rates) == (400, {**base.learning_rates, "VGG11": 1e-4})
    assert "unseen" in made.summary
    assert made.summary != base.summary
    # A run records it whole: what is read again does not ask what `unseen` is then.
    assert get_protocol(made.model_dump(mode="json")) == made


def test_a_file_may_be_like_a_registered_one(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("like: quick\nnetworks: [MLP]\nnetwork_settings: {MLP: {width: 7}}\n")
    made = get_protocol(str(file))
    assert (made.name, made.networks, made.network_settings) == ("mine", ("MLP",), {"MLP": {"width": 7}})
    assert made.epochs == get_protocol("quick").epochs


@pytest.mark.parametrize("like", ["quikc", "mine.yaml", "", 3, None, ["quick"]])
def test_like_names_a_registered_protocol(like):
    with pytest.raises(HostError):
        get_protocol({**OWN, "name": "mine", "like": like})


@pytest.mark.parametrize("wrong", [{"learning_rates": 3}, {"network_settings": "x"}, {"epochs": 0}, {"epoch": 3}])
def test_a_wrong_field_is_refused_whatever_it_is_like(wrong):
    with pytest.raises(UsageError):
        get_protocol({"like": "quick", "name": "mine", **wrong})


def test_another_recipe_keeps_no_registered_name():
    with pytest.raises(UsageError, match="name"):
        get_protocol({"like": "quick", "epochs": 3})
    with pytest.raises(UsageError, match="registered"):
        get_protocol({"like": "quick", "name": "quick", "epochs": 3})
