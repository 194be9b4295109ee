"""Several networks in matching: one of a pool in each step, and several at once with balanced gradients."""

import pytest
import torch

from ld3m_plugin.backends import get_objective
from ld3m_plugin.contracts import Match
from ld3m_plugin.errors import HostError, InvalidOptionError
from ld3m_plugin.objectives.matching import random_network
from ld3m_plugin.objectives.matching_options import MatchingOptions, settings_of
from ld3m_plugin.objectives.network_pool import Balance, drawn
from ld3m_plugin.randomness import stream
from ld3m_plugin.testing import tiny_task

SMALL = {"ConvNet": {"depth": 2, "width": 8}, "MaxConvNet": {"depth": 2, "width": 4}, "MLP": {"width": 6}}
LABELS = torch.tensor([0, 0, 1, 2])


def prepared(name, network, settings=None, **options):
    settings = {each: SMALL[each] for each in network} if settings is None else settings
    objective = get_objective(name, batch_real=4, network=network, network_settings=settings, **options)
    objective.prepare(tiny_task().for_training(), LABELS, stream(0, "objective"))
    return objective


def some_images(seed=0):
    return torch.randn(4, 1, 16, 16, generator=stream(seed, "images")).requires_grad_()


def matches(objective, steps, start=0):
    return [objective.match(some_images(step), LABELS, step) for step in range(start, start + steps)]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert float(one.loss) == float(other.loss)
        assert torch.equal(one.image_grad, other.image_grad)


@pytest.mark.parametrize("name", ["dm", "dc"])
@pytest.mark.parametrize("network", [["ConvNet"], {"ConvNet": 0.3}], ids=["list", "weights"])
def test_a_pool_of_one_is_that_network_to_the_bit(name, network):
    alone = prepared(name, "ConvNet", SMALL["ConvNet"])
    assert_same(matches(prepared(name, network), 3), matches(alone, 3))


@pytest.mark.parametrize("name", ["dm", "dc"])
def test_each_step_has_the_result_of_the_network_that_it_drew(name):
    network = {"ConvNet": 1.0, "MLP": 2.0}
    pooled, alone = prepared(name, network), {each: prepared(name, each, SMALL[each]) for each in network}
    names = [drawn(pooled.options, pooled.draws(step, "pool"))[0] for step in range(6)]
    assert set(names) == {"ConvNet", "MLP"}
    for step, chosen in enumerate(names):
        assert_same(matches(pooled, 1, step), matches(alone[chosen], 1, step))


def test_draws_follow_the_weights():
    options, rng, times = MatchingOptions(network={"ConvNet": 3, "MLP": 1}), stream(0, "draws"), 4000
    share = sum(drawn(options, rng) == ("ConvNet",) for _ in range(times)) / times
    assert abs(share - 0.75) < 5 * (0.75 * 0.25 / times) ** 0.5


def test_several_at_once_are_different_and_likelier_ones_come_more_often():
    options = MatchingOptions(network={"ConvNet": 2, "MLP": 1, "AlexNet": 1}, networks_at_once=2)
    rng, times = stream(0, "draws"), 4000
    pairs = [drawn(options, rng) for _ in range(times)]
    assert all(len(set(pair)) == 2 for pair in pairs)
    # ConvNet first with 1/2, else second with 2/3 after one of the others: 1/2 + 1/2 * 2/3.
    assert abs(sum("ConvNet" in pair for pair in pairs) / times - 5 / 6) < 5 * (5 / 36 / times) ** 0.5


def test_no_choice_draws_nothing():
    rng = stream(0, "draws")
    before = rng.get_state()
    assert drawn(MatchingOptions(), rng) == ("ConvNet",)
    assert drawn(MatchingOptions(network=["MLP", "ConvNet"], networks_at_once=2), rng) == ("MLP", "ConvNet")
    assert torch.equal(rng.get_state(), before)


def test_balance_by_hand():
    balance = Balance(("a", "b"))
    first = balance.combine({"a": Match(2.0, torch.tensor([3.0, 4.0])), "b": Match(5.0, torch.tensor([0.0, 10.0]))})
    # A = 5 and 10: a counts as it is, b by half.
    assert float(first.loss) == 2 + 5 / 2
    assert first.image_grad.tolist() == [3, 4 + 5]
    assert first.metrics == {"loss_a": 2.0, "loss_b": 5.0}
    second = balance.combine({"a": Match(1.0, torch.tensor([0.0, 20.0])), "b": Match(1.0, torch.tensor([1.0, 0.0]))})
    # A = 20 and still 10.
    assert float(second.loss) == 1 / 2 + 1
    assert second.image_grad.tolist() == [1, 10]


def test_a_gradient_of_zero_does_not_silence_the_others():
    found = Balance(("a", "b")).combine({"a": Match(1.0, torch.zeros(2)), "b": Match(3.0, torch.tensor([0.0, 7.0]))})
    assert (float(found.loss), found.image_grad.tolist()) == (4, [0, 7])
    assert Balance(("a", "b")).combine({name: Match(1.0, torch.zeros(2)) for name in "ab"}).image_grad.tolist() == [
        0,
        0,
    ]


@pytest.mark.parametrize("name", ["dm", "dc"])
def test_two_at_once_are_the_balanced_sum_of_each_alone(name):
    # The second network has a stream of its own for its weights; everything else is drawn once for both.
    two = prepared(name, ["ConvNet", "MLP"], networks_at_once=2)
    one = prepared(name, "ConvNet", SMALL["ConvNet"]).match(some_images(), LABELS, 0)
    other = prepared(name, "MLP", SMALL["MLP"])
    other_draws = other.draws
    other.draws = lambda step, *of: other_draws(step, *(("network", "network", 1) if of == ("network",) else of))
    second = other.match(some_images(), LABELS, 0)
    norms = [float(match.image_grad.norm()) for match in (one, second)]
    found = two.match(some_images(), LABELS, 0)
    scales = [min(norms) / norm for norm in norms]
    expected = scales[0] * one.image_grad + scales[1] * second.image_grad
    if name == "dm":  # DC balances gradients of the augmented images, which have other norms
        torch.testing.assert_close(found.image_grad, expected, rtol=1e-5, atol=1e-7)
        assert float(found.loss) == pytest.approx(scales[0] * one.loss + scales[1] * second.loss)
    assert found.metrics == {"loss_ConvNet": one.loss, "loss_MLP": second.loss}


def test_two_at_once_in_dc_are_the_balanced_sum_where_nothing_is_augmented():
    two = prepared("dc", ["ConvNet", "MLP"], networks_at_once=2, dsa="none").match(some_images(), LABELS, 0)
    one = prepared("dc", "ConvNet", SMALL["ConvNet"], dsa="none").match(some_images(), LABELS, 0)
    other = prepared("dc", "MLP", SMALL["MLP"], dsa="none")
    other_draws = other.draws
    other.draws = lambda step, *of: other_draws(step, *(("network", "network", 1) if of == ("network",) else of))
    second = other.match(some_images(), LABELS, 0)
    norms = [float(match.image_grad.norm()) for match in (one, second)]
    expected = sum(min(norms) / norm * match.image_grad for norm, match in zip(norms, (one, second), strict=True))
    torch.testing.assert_close(two.image_grad, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "options"),
    [("dm", {}), ("dc", {"outer_loop": 3}), ("dc", {"outer_loop": 3, "networks_at_once": 1})],
    ids=["dm", "dc", "dc-one"],
)
def test_a_resumed_run_goes_on_to_the_bit(name, options):
    networks = {"ConvNet": 1, "MLP": 1, "MaxConvNet": 2}
    whole, first, second = (prepared(name, networks, **{"networks_at_once": 2, **options}) for _ in range(3))
    expected = matches(whole, 5)
    matches(first, 2)
    second.load_state_dict({key: value.clone() for key, value in first.state_dict().items()})
    assert_same(matches(second, 3, 2), expected[2:])


def test_tables_call_every_network_of_the_pool_seen():
    assert prepared("dm", ["ConvNet", "MLP"]).networks() == ("ConvNet", "MLP")
    assert prepared("dm", "MLP", {}).networks() == ("MLP",)


def test_each_network_has_its_own_settings():
    options = MatchingOptions(network=["ConvNet", "MLP"], network_settings={"ConvNet": {"width": 4, "depth": 1}})
    assert settings_of(options, "MLP") == {}
    assert random_network(options, tiny_task(), stream(0, "n"), "ConvNet").classifier.in_features == 4 * 8 * 8


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"network": []}, "at least one network"),
        ({"network": {"ConvNet": 0}}, "weight above 0"),
        ({"network": {"ConvNet": float("nan")}}, "nan"),
        ({"networks_at_once": 2}, "networks_at_once = 2"),
        ({"network": ["ConvNet"], "network_settings": {"width": 4}}, "by name"),
        ({"network": ["ConvNet"], "network_settings": {"ConvNet": 4}}, "must be a mapping"),
        ({"network": ["ConvNet"], "network_settings": {"ConvNet": {"rng": 1}}}, "comes from the task"),
    ],
)
def test_wrong_pools_are_one_line(options, said):
    with pytest.raises(InvalidOptionError, match=said) as caught:
        get_objective("dm", **options)
    assert "\n" not in str(caught.value)


def test_an_unknown_network_of_a_pool_fails_before_the_first_step():
    with pytest.raises(HostError, match="'NoNet'"):
        prepared("dm", ["ConvNet", "NoNet"], {})
