"""Buffers that are refused: code, damage, other content, copies of one snapshot, and other networks; nothing is left of them."""

import pickle
import re

import pytest
import torch

from ld3m_plugin.errors import ExpertError, UsageError
from ld3m_plugin.networks.build import get_network
from ld3m_plugin.objectives.mtt.store import open_experts
from ld3m_plugin.objectives.mtt.store.fitting import fitting_convnet
from ld3m_plugin.objectives.mtt.store.published import import_experts


def refused(task, tiny, tmp_path, path, **other):
    with pytest.raises(ExpertError) as caught:
        import_experts(tmp_path / "root", task, tiny(**other), [path])
    assert not (tmp_path / "root").exists(), "nothing is left of a file that is refused"
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_snapshots_that_share_memory_are_refused(one, task, tiny, tmp_path):
    # What `p.detach().cpu()` gives on a CPU: the same tensor at every epoch.
    network = get_network("ConvNet", channels=1, image_size=16, num_classes=3, depth=1, width=8)
    path = one([[[p.detach().cpu() for p in network.parameters()] for _ in range(3)]])
    message = refused(task, tiny, tmp_path, path)
    assert message.startswith("expert 0 of")
    assert "share their memory" in message
    assert "`ld3m experts train`" in message


def test_snapshots_that_are_equal_are_refused(trajectory, one, task, tiny, tmp_path):
    first = trajectory(0)[0]
    path = one([trajectory(1), [[p.clone() for p in first] for _ in range(3)]])
    with pytest.raises(ExpertError, match=r"expert 1 of .* epochs 0 and 1"):
        import_experts(tmp_path / "root", task, tiny(), [path])
    assert len(open_experts(tmp_path / "root", task, tiny(count=1).settings())) == 1, "what came before it stays"


def first_alone_is_genuine(snapshots):
    return [snapshots[0], *([p.clone() for p in snapshots[1]] for _ in snapshots[1:])]


def two_are_equal(snapshots):
    return [*snapshots[:2], [p.clone() for p in snapshots[1]], *snapshots[2:]]


@pytest.mark.parametrize("clone", [first_alone_is_genuine, two_are_equal], ids=lambda f: f.__name__)
def test_snapshots_that_are_equal_to_the_one_before_are_refused(trajectory, one, task, tiny, tmp_path, clone):
    message = refused(task, tiny, tmp_path, one([clone(trajectory(0))]))
    assert "epochs 1 and 2 are equal" in message


@pytest.mark.parametrize("copied", [0, 5], ids=["first copied", "last copied"])
def test_one_parameter_that_was_copied_does_not_hide_that_others_were_not(
    trajectory, one, task, tiny, tmp_path, copied
):
    shared = trajectory(0)[-1]
    expert = [[p + epoch if i == copied else p for i, p in enumerate(shared)] for epoch in range(3)]
    assert "share their memory" in refused(task, tiny, tmp_path, one([expert]))


def quantised(p):
    return torch.quantize_per_tensor(p, 0.1, 0, torch.quint8)


@pytest.mark.filterwarnings("ignore")  # torch's words on making such tensors
@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (torch.Tensor.to_sparse, "torch.sparse_coo"),
        (quantised, "torch.quint8"),
        (torch.Tensor.int, "torch.int32"),
        (lambda p: p.to(torch.complex64), "torch.complex64"),
        (lambda p: p.to("meta"), "on meta"),
        (lambda p: torch.nested.nested_tensor([p, p]), "nested"),
    ],
    ids=["sparse", "quantised", "integer", "complex", "meta", "nested"],
)
def test_tensors_that_are_no_weights_are_named(trajectory, one, task, tiny, tmp_path, change, kind):
    expert = trajectory(0)
    expert[1][0] = change(expert[1][0])
    message = refused(task, tiny, tmp_path, one([expert]))
    assert "0.1.0: " in message, "expert, epoch and parameter"
    assert kind in message


def test_weights_that_bf16_cannot_hold_are_refused(trajectory, one, task, tiny, tmp_path):
    expert = trajectory(0)
    expert[2][1][0] = 3.4e38
    path = one([expert])
    message = refused(task, tiny, tmp_path, path, dtype="bf16")
    assert re.search("expert 0 of .* epoch 2 .*bf16: .*-S dtype", message)
    assert import_experts(tmp_path / "root", task, tiny(), [path])[1:] == (1, 0)


def test_a_buffer_without_the_bad_expert_can_be_imported_as_the_message_says(trajectory, one, task, tiny, tmp_path):
    content = [trajectory(0), trajectory(1)]
    content[0][1][0].fill_(float("nan"))
    assert "epoch 1 are not finite" in refused(task, tiny, tmp_path, one(content))
    assert import_experts(tmp_path / "root", task, tiny(), [one(content[1:])])[1:] == (1, 0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(trajectory, one, task, tiny, tmp_path, value):
    expert = trajectory(0)
    expert[2][1][0] = value
    assert "epoch 2 are not finite" in refused(task, tiny, tmp_path, one([expert]))


def test_one_snapshot_is_no_trajectory(trajectory, one, task, tiny, tmp_path):
    assert "has one snapshot" in refused(task, tiny, tmp_path, one([trajectory(0, epochs=0)]))


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("form", ["torch", "old torch", "pickle"])
def test_a_file_that_asks_for_code_runs_nothing(trajectory, one, task, tiny, tmp_path, form):
    sign = tmp_path / "was run"
    content = [trajectory(0), Malicious(sign)]
    if form == "pickle":
        path = tmp_path / "replay_buffer_0.pt"
        path.write_bytes(pickle.dumps(content))
    else:
        path = one(content, _use_new_zipfile_serialization=form == "torch")
    message = refused(task, tiny, tmp_path, path)
    assert not sign.exists()
    if form != "pickle":
        assert re.search(r" \w+\.open", message), "what it asks for"
    # the file is what it says it is: whoever unpickles it runs it
    if form == "pickle":
        pickle.loads(path.read_bytes())[1].close()  # noqa: S301 (what is shown)
        assert sign.exists()


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ({"state_dict": {}}, ""),
        ("abc", ""),
        ([], ""),
        ([[]], "0: "),
        ([torch.zeros(2, 2)], "0: "),
        ([[[]]], "0.0: "),
        ([[1, 2]], "0.0: "),
        ([[[1.0], [2.0]]], "0.0.0: "),
        ([[["abc"]]], "0.0.0: "),
    ],
)
def test_what_is_no_buffer_is_named(one, task, tiny, tmp_path, content, place):
    assert f"a list of tensors ({place}" in refused(task, tiny, tmp_path, one(content))


def test_a_damaged_file_and_a_missing_one(trajectory, one, task, tiny, tmp_path):
    path = one([trajectory(0)])
    path.write_bytes(path.read_bytes()[:200])
    refused(task, tiny, tmp_path, path)
    path.unlink()
    refused(task, tiny, tmp_path, path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"width": 12},
            r"features.0.weight .*\(12, 1, 3, 3\) .*\(8, 1, 3, 3\) .*'ConvNet'"
            r".* -S network=ConvNet -S 'network_settings=\{depth: 1, width: 12, norm: instancenorm\}'",
        ),
        (
            {"depth": 2},
            r"classifier.weight .*\(8, 8, 3, 3\) .*\(3, 512\) .*\{depth: 2, width: 8, norm: \w+\}'",
        ),
        ({"norm": "none"}, r"features.1.weight .*\(3, 512\) .*\(8,\) .*norm: none\}'"),
        (
            {"channels": 3, "image_size": 32, "num_classes": 10},
            r"features.0.weight .*\(8, 3, 3, 3\).* 3 channels, 32 pixels and 10 classes .*--data",
        ),
    ],
    ids=["width", "depth", "norm", "data"],
)
def test_another_network_is_named_with_what_fits(trajectory, one, task, tiny, tmp_path, settings, message):
    assert re.search(message, refused(task, tiny, tmp_path, one([trajectory(0, **settings)])))


def test_fewer_parameters_and_networks_that_are_no_convnet(trajectory, one, task, tiny, tmp_path):
    cut = [snapshot[:-1] for snapshot in trajectory(0)]
    message = refused(task, tiny, tmp_path, one([cut]))
    assert re.search(r"5 parameters .*'ConvNet' .* 6;.* -S network=NAME", message)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("norm", ["instancenorm", "none", "layernorm"])
def test_settings_are_found_from_shapes(depth, norm):
    facts = {"channels": 3, "image_size": 32, "num_classes": 5, "depth": depth, "width": 4, "norm": norm}
    shapes = [tuple(p.shape) for p in get_network("ConvNet", **facts).parameters()]
    assert fitting_convnet(shapes) == facts


def test_another_dtype_is_refused(buffers, task, tiny, tmp_path):
    import_experts(tmp_path / "root", task, tiny(), [buffers / "replay_buffer_0.pt"])
    with pytest.raises(UsageError, match="-S dtype=float32"):
        import_experts(tmp_path / "root", task, tiny(dtype="bf16"), [buffers])
