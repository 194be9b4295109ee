"""Buffers of the MTT and GLaD code: read without running anything, checked, and copied."""

import pickle
import re

import pytest
import torch

from ld3m_plugin.errors import ExpertError, UsageError
from ld3m_plugin.networks.build import get_network
from ld3m_plugin.objectives.mtt.store import open_experts
from ld3m_plugin.objectives.mtt.store.expert_files import expert_files, read_header
from ld3m_plugin.objectives.mtt.store.expert_plan import plan_experts
from ld3m_plugin.objectives.mtt.store.fitting import fitting_convnet
from ld3m_plugin.objectives.mtt.store.listing import list_experts
from ld3m_plugin.objectives.mtt.store.published import buffer_files, import_experts
from ld3m_plugin.objectives.mtt.store.train_experts import train_experts
from ld3m_plugin.randomness import stream
from ld3m_plugin.testing import tiny_task


def trajectory(seed, epochs=3, **settings):
    """An expert as the published code saves it: snapshots, each a list of parameters that were detached, copied and moved."""
    facts = {"channels": 1, "image_size": 16, "num_classes": 3, "depth": 1, "width": 8, **settings}
    rng = stream(seed, "published")
    network = get_network("ConvNet", rng=rng, **facts)
    snapshots = []
    for _ in range(epochs + 1):
        snapshots.append([p.detach().clone().contiguous() for p in network.parameters()])
        with torch.no_grad():
            for p in network.parameters():
                p.add_(0.01 * torch.randn(p.shape, generator=rng))
    return snapshots


@pytest.fixture
def buffers(tmp_path):
    """A folder of three buffers of two experts each; the third number sorts wrongly as a text."""
    folder = tmp_path / "buffers"
    folder.mkdir()
    for index, number in enumerate((0, 1, 10)):
        torch.save([trajectory(2 * index), trajectory(2 * index + 1)], folder / f"replay_buffer_{number}.pt")
    return folder


@pytest.fixture
def one(tmp_path):
    """Writes a buffer."""

    def write(content, **how):
        path = tmp_path / "replay_buffer_0.pt"
        torch.save(content, path, **how)
        return path

    return write


def flat(snapshot):
    return torch.cat([parameter.flatten() for parameter in snapshot])


def test_every_expert_and_epoch_arrives_in_the_order_of_the_files(buffers, task, tiny, tmp_path):
    folder, copied, there = import_experts(tmp_path / "root", task, tiny(), [buffers])
    assert (copied, there) == (6, 0)
    experts = open_experts(tmp_path / "root", task, tiny(count=6, epochs=3).settings())
    assert experts.epochs == (0, 1, 2, 3)
    for number in range(6):
        for epoch, snapshot in enumerate(trajectory(number)):
            assert torch.equal(experts.parameters(number, epoch), flat(snapshot))
    header = read_header(expert_files(folder)[5])
    assert (header.source, header.imported, header.losses) == ("replay_buffer_10.pt", True, ())
    (entry,) = list_experts(tmp_path / "root")
    assert (entry.count, entry.imported, entry.epochs, entry.loss, entry.status) == (6, 6, 3, None, "complete")


def test_files_and_folders_are_taken_in_order_and_once(buffers, tmp_path):
    names = [path.name for path in buffer_files([buffers / "replay_buffer_1.pt", buffers])]
    assert names == ["replay_buffer_1.pt", "replay_buffer_0.pt", "replay_buffer_10.pt"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no replay_buffer_\*.pt is in .*empty: name the folder"):
        buffer_files([tmp_path / "empty"])


def test_an_import_goes_on_and_copies_nothing_twice(buffers, task, tiny, tmp_path):
    root = tmp_path / "root"
    assert import_experts(root, task, tiny(), [buffers / "replay_buffer_0.pt"])[1:] == (2, 0)
    assert import_experts(root, task, tiny(), [buffers])[1:] == (4, 2)
    assert import_experts(root, task, tiny(), [buffers])[1:] == (0, 6)
    assert len(open_experts(root, task, tiny(count=6).settings())) == 6


def test_epochs_that_are_not_read_can_be_left_out_and_rows_rounded(buffers, task, tiny, tmp_path):
    options = tiny(keep_epochs=1, epochs=1, dtype="bf16")
    import_experts(tmp_path / "root", task, options, [buffers])
    experts = open_experts(tmp_path / "root", task, options.settings())
    assert experts.epochs == (0, 1)
    assert torch.equal(experts.parameters(1, 1), flat(trajectory(1)[1]).bfloat16().float())


def test_training_fills_up_and_never_replaces_what_was_imported(buffers, task, tiny, tmp_path):
    root = tmp_path / "root"
    folder, *_ = import_experts(root, task, tiny(), [buffers / "replay_buffer_0.pt"])
    assert plan_experts(root, task, tiny(count=3), timed=0).missing == 1
    train_experts(root, task, tiny(count=3))
    sources = [read_header(path).source for path in expert_files(folder).values()]
    assert sources == ["replay_buffer_0.pt", "replay_buffer_0.pt", "trained"]
    before = (folder / "settings.json").read_bytes()
    with pytest.raises(ExpertError, match="expert 0 was imported and ends at epoch 3: ask for no more with --epochs 3"):
        train_experts(root, task, tiny(count=3, epochs=4))
    assert (folder / "settings.json").read_bytes() == before, "what is refused changes nothing"
    with pytest.raises(ExpertError, match=r"epoch 9 is asked for \(3 of 3 .* ask for fewer epochs"):
        open_experts(root, task, tiny(count=3, epochs=9).settings())


def test_the_format_before_torch_1_6_is_read_too(one, task, tiny, tmp_path):
    path = one([trajectory(0)], _use_new_zipfile_serialization=False)
    assert import_experts(tmp_path / "root", task, tiny(), [path])[1:] == (1, 0)


# refused --------------------------------------------------------------------------------------------------------------


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
    assert "expert 0 of" in message
    assert "its snapshots share their memory" in message
    assert message.endswith("Train experts anew with `ld3m experts train`")


def test_snapshots_that_are_equal_are_refused(one, task, tiny, tmp_path):
    first = trajectory(0)[0]
    path = one([trajectory(1), [[p.clone() for p in first] for _ in range(3)]])
    with pytest.raises(ExpertError, match=r"expert 1 of .* its snapshots of epochs 0 and 1 are equal"):
        import_experts(tmp_path / "root", task, tiny(), [path])
    assert len(open_experts(tmp_path / "root", task, tiny(count=1).settings())) == 1, "what came before it stays"


def first_alone_is_genuine(snapshots):
    return [snapshots[0], *([p.clone() for p in snapshots[1]] for _ in snapshots[1:])]


def two_are_equal(snapshots):
    return [*snapshots[:2], [p.clone() for p in snapshots[1]], *snapshots[2:]]


@pytest.mark.parametrize("clone", [first_alone_is_genuine, two_are_equal], ids=lambda f: f.__name__)
def test_snapshots_that_are_equal_to_the_one_before_are_refused(one, task, tiny, tmp_path, clone):
    message = refused(task, tiny, tmp_path, one([clone(trajectory(0))]))
    assert "its snapshots of epochs 1 and 2 are equal, as buffers are" in message


@pytest.mark.parametrize("copied", [0, 5], ids=["first copied", "last copied"])
def test_one_parameter_that_was_copied_does_not_hide_that_others_were_not(one, task, tiny, tmp_path, copied):
    shared = trajectory(0)[-1]
    expert = [[p + epoch if i == copied else p for i, p in enumerate(shared)] for epoch in range(3)]
    assert "its snapshots share their memory" in refused(task, tiny, tmp_path, one([expert]))


def test_snapshots_may_be_parts_of_one_tensor(one, task, tiny, tmp_path):
    snapshots = trajectory(0)
    whole = torch.stack([flat(snapshot) for snapshot in snapshots])
    sizes = [p.numel() for p in snapshots[0]]
    parts = [
        [part.view(p.shape) for part, p in zip(row.split(sizes), snapshots[0], strict=True)] for row in whole.unbind()
    ]
    assert import_experts(tmp_path / "root", task, tiny(), [one([parts])])[1:] == (1, 0)


def quantised(p):
    return torch.quantize_per_tensor(p, 0.1, 0, torch.quint8)


@pytest.mark.filterwarnings("ignore")  # torch's words on making such tensors
@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (torch.Tensor.to_sparse, r"of layout torch\.sparse_coo"),
        (quantised, r"of dtype torch\.quint8"),
        (torch.Tensor.int, r"of dtype torch\.int32"),
        (lambda p: p.to(torch.complex64), r"of dtype torch\.complex64"),
        (lambda p: p.to("meta"), r"without values \(on the meta device\)"),
        (lambda p: torch.nested.nested_tensor([p, p]), "nested"),
    ],
    ids=["sparse", "quantised", "integer", "complex", "meta", "nested"],
)
def test_tensors_that_are_no_weights_are_named(one, task, tiny, tmp_path, change, kind):
    expert = trajectory(0)
    expert[1][0] = change(expert[1][0])
    message = refused(task, tiny, tmp_path, one([expert]))
    assert re.search(rf"^parameter 0 at epoch 1 of expert 0 of .* is {kind}: weights of experts are dense", message)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_any_floating_point_is_read(one, task, tiny, tmp_path, dtype):
    expert = [[p.to(dtype) for p in snapshot] for snapshot in trajectory(0)]
    import_experts(tmp_path / "root", task, tiny(), [one([expert])])
    experts = open_experts(tmp_path / "root", task, tiny(count=1).settings())
    assert torch.equal(experts.parameters(0, 1), flat(expert[1]).float())


def test_weights_that_bf16_cannot_hold_are_refused(one, task, tiny, tmp_path):
    expert = trajectory(0)
    expert[2][1][0] = 3.4e38
    path = one([expert])
    message = refused(task, tiny, tmp_path, path, dtype="bf16")
    assert message.endswith("has weights at epoch 2 that are too large for bf16: leave -S dtype out")
    assert import_experts(tmp_path / "root", task, tiny(), [path])[1:] == (1, 0)


def test_a_buffer_without_the_bad_expert_can_be_imported_as_the_message_says(one, task, tiny, tmp_path):
    content = [trajectory(0), trajectory(1)]
    content[0][1][0].fill_(float("nan"))
    assert "Save the buffer without it, or leave the file out" in refused(task, tiny, tmp_path, one(content))
    assert import_experts(tmp_path / "root", task, tiny(), [one(content[1:])])[1:] == (1, 0)


def test_a_file_may_be_called_trained(one, task, tiny, tmp_path):
    path = one([trajectory(0)]).rename(tmp_path / "trained")
    folder, *_ = import_experts(tmp_path / "root", task, tiny(), [path])
    header = read_header(expert_files(folder)[0])
    assert (header.imported, header.source) == (True, "trained")
    with pytest.raises(ExpertError, match="expert 0 was imported and ends at epoch 3"):
        train_experts(tmp_path / "root", task, tiny(count=1, epochs=4))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(one, task, tiny, tmp_path, value):
    expert = trajectory(0)
    expert[2][1][0] = value
    assert "weights that are not finite at epoch 2" in refused(task, tiny, tmp_path, one([expert]))


def test_one_snapshot_is_no_trajectory(one, task, tiny, tmp_path):
    assert "has one snapshot" in refused(task, tiny, tmp_path, one([trajectory(0, epochs=0)]))


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("form", ["torch", "old torch", "pickle"])
def test_a_file_that_asks_for_code_runs_nothing(one, task, tiny, tmp_path, form):
    sign = tmp_path / "was run"
    content = [trajectory(0), Malicious(sign)]
    if form == "pickle":
        path = tmp_path / "replay_buffer_0.pt"
        path.write_bytes(pickle.dumps(content))
    else:
        path = one(content, _use_new_zipfile_serialization=form == "torch")
    message = refused(task, tiny, tmp_path, path)
    assert not sign.exists()
    assert "nothing in it was run. Get the buffer from a source you trust" in message
    if form != "pickle":
        assert re.search(r"asks for \w+.open, which the weights of experts do not need", message)
    # the file is what it says it is: whoever unpickles it runs it
    if form == "pickle":
        pickle.loads(path.read_bytes())[1].close()  # noqa: S301 (what is shown)
        assert sign.exists()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"state_dict": {}}, "it is of type dict and not a list"),
        ([], "it is empty"),
        ([[]], "expert 0 is empty"),
        ([[[]]], "epoch 0 of expert 0 is empty"),
        ([[1, 2]], "epoch 0 of expert 0 is of type int and not a list"),
        ([[[1.0], [2.0]]], "expert 0 holds something else than tensors"),
    ],
)
def test_what_is_no_buffer_is_named(one, task, tiny, tmp_path, content, why):
    assert f"is not a buffer of experts ({why})" in refused(task, tiny, tmp_path, one(content))


def test_a_damaged_file_and_a_missing_one(one, task, tiny, tmp_path):
    path = one([trajectory(0)])
    path.write_bytes(path.read_bytes()[:200])
    assert "is not a readable buffer" in refused(task, tiny, tmp_path, path)
    path.unlink()
    assert "does not exist" in refused(task, tiny, tmp_path, path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"width": 12},
            r"parameter features.0.weight is \(12, 1, 3, 3\) there and \(8, 1, 3, 3\) in network 'ConvNet' for this data; "
            r"-S network=ConvNet -S 'network_settings=\{depth: 1, width: 12, norm: instancenorm\}' fits$",
        ),
        (
            {"depth": 2},
            r"parameter classifier.weight is \(8, 8, 3, 3\) there and \(3, 512\) .*\{depth: 2, width: 8, norm: \w+\}' fits$",
        ),
        ({"norm": "none"}, r"features.1.weight is \(3, 512\) there and \(8,\) in .*norm: none\}' fits$"),
        (
            {"channels": 3, "image_size": 32, "num_classes": 10},
            r"features.0.weight is \(8, 3, 3, 3\).* it fits data of 3 channels, 32 pixels and 10 classes with -S .* choose other",
        ),
    ],
    ids=["width", "depth", "norm", "data"],
)
def test_another_network_is_named_with_what_fits(one, task, tiny, tmp_path, settings, message):
    assert re.search(message, refused(task, tiny, tmp_path, one([trajectory(0, **settings)])))


def test_fewer_parameters_and_networks_that_are_no_convnet(one, task, tiny, tmp_path):
    cut = [snapshot[:-1] for snapshot in trajectory(0)]
    message = refused(task, tiny, tmp_path, one([cut]))
    assert "has 5 parameters and network 'ConvNet' for this data has 6; no ConvNet fits either" in message


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("norm", ["instancenorm", "none", "layernorm"])
def test_settings_are_found_from_shapes(depth, norm):
    facts = {"channels": 3, "image_size": 32, "num_classes": 5, "depth": depth, "width": 4, "norm": norm}
    shapes = [tuple(p.shape) for p in get_network("ConvNet", **facts).parameters()]
    assert fitting_convnet(shapes) == facts


def test_another_dtype_is_refused(buffers, task, tiny, tmp_path):
    import_experts(tmp_path / "root", task, tiny(), [buffers / "replay_buffer_0.pt"])
    with pytest.raises(UsageError, match="holds float32 experts"):
        import_experts(tmp_path / "root", task, tiny(dtype="bf16"), [buffers])


def test_the_data_decides_the_store(buffers, task, tiny, tmp_path):
    other = tiny_task(train=20)
    folders = {import_experts(tmp_path / "root", data, tiny(), [buffers])[0] for data in (task, other)}
    assert len(folders) == 2
