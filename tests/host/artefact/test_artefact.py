"""The artefact: what is written is what was made, it opens anywhere, and damage is named."""

import json
import re
import unicodedata

import numpy
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader

from ld3m_plugin.artefact.card import accuracy_table, dataset_card, plain
from ld3m_plugin.artefact.distilled_set import DistilledSet, class_folders
from ld3m_plugin.contracts import Latents
from ld3m_plugin.errors import ArtefactError

METADATA = {"class_names": ["T-shirt/top", "Bag"], "mean": [0.5], "std": [0.25], "data": {"name": "x", "source": "y"}}


def distilled_set(channels=1):
    images = torch.randn(4, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    metadata = {**METADATA, "mean": [0.5] * channels, "std": [0.25] * channels}
    return DistilledSet(images, torch.tensor([0, 0, 1, 1]), metadata, Latents({"pixels": images}, ("pixels",)))


def test_round_trip(tmp_path):
    original = distilled_set()
    original.save(tmp_path / "set")
    loaded = DistilledSet.load(tmp_path / "set")
    assert torch.equal(loaded.images, original.images)
    assert torch.equal(loaded.labels, original.labels)
    assert torch.equal(loaded.latents["pixels"], original.latents["pixels"])
    assert loaded.latents.learned == {"pixels"}
    assert loaded.class_names == METADATA["class_names"]


def test_is_a_torch_dataset(tmp_path):
    distilled_set().save(tmp_path)
    images, labels = next(iter(DataLoader(DistilledSet.load(tmp_path), batch_size=4)))
    assert images.shape == (4, 1, 8, 8)
    assert labels.tolist() == [0, 0, 1, 1]


def test_soft_labels_round_trip(tmp_path):
    soft = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.0, 1.0]])
    original = distilled_set()
    DistilledSet(original.images, soft, original.metadata).save(tmp_path)
    loaded = DistilledSet.load(tmp_path)
    assert torch.equal(loaded.labels, soft)
    assert loaded.latents is None


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_show_the_images(tmp_path, channels):
    original = distilled_set(channels)
    original.save(tmp_path)
    expected = (original.images[3] * 0.25 + 0.5).clamp(0, 1) * 255
    with Image.open(tmp_path / "images" / "1_Bag" / "1.png") as picture:
        shown = torch.from_numpy(numpy.array(picture)).reshape(8, 8, channels).permute(2, 0, 1)
    assert (shown.float() - expected).abs().max() <= 0.5
    with Image.open(tmp_path / "grid.png") as grid:
        # Two rows of classes, two columns; 8 pixels are enlarged 12 times, with a frame of 4 between and around.
        assert grid.size == (2 * 96 + 3 * 4, 2 * 96 + 3 * 4)
        assert grid.getpixel((4, 4)) == pytest.approx(
            tuple(shown_first(original)) if channels == 3 else shown_first(original)[0], abs=1
        )


def shown_first(original):
    return ((original.images[0, :, 0, 0] * 0.25 + 0.5).clamp(0, 1) * 255).round().int().tolist()


def test_card_says_how_to_use_it(tmp_path):
    distilled_set().save(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "DistilledSet.load" in card
    assert "mean [0.5] and std [0.25]" in card


@pytest.mark.parametrize(
    "names",
    [
        [f"class {i}" for i in range(12)],
        ["b", "a", "a", "", "_", "B"],
        ["犬", "猫", "-", "Ж"],
        ["x" * 300, "x" * 299 + "y"],
    ],
)
def test_class_folders_sort_in_label_order(names):
    folders = class_folders(names)
    assert sorted(folders) == folders
    assert len({folder.lower() for folder in folders}) == len(names)


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("犬", "犬"),
        ("Чёрный кот", "Чёрный-кот"),
        (unicodedata.normalize("NFD", "Pékinois"), "Pékinois"),
        ("great_white", "great_white"),
        ("../../etc", "etc"),
        ("x" * 300, "x" * 80),
        ("x" * 79 + " y", "x" * 79),
        ("𠀀" * 300, "𠀀" * 60),
    ],
)
def test_class_folders_keep_words_of_any_script(name, slug):
    assert class_folders([name]) == [f"0_{slug}"]


@pytest.mark.parametrize("name", ["x" * 300, "𠀀" * 300, "犬" * 300])
def test_long_class_names_are_saved(tmp_path, name):
    original = distilled_set()
    original.metadata["class_names"] = [name, "Bag"]
    original.save(tmp_path)
    assert DistilledSet.load(tmp_path).class_names == [name, "Bag"]
    assert len(list(tmp_path.glob("images/*/*.png"))) == 4


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a\n# x", r"a \# x"),
        ("a|b", r"a\|b"),
        ("[x](y)", r"\[x\](y)"),
        ("<b> *c* `d` _e_", r"\<b\> \*c\* \`d\` \_e\_"),
        ("\\|", r"\\\|"),
        ("$x$ &amp; ~~y~~", r"\$x\$ \&amp; \~\~y\~\~"),
        ("- item", r"\- item"),
        ("1. item", r"1\. item"),
        ("---", r"\---"),
        ("T-shirt/top", "T-shirt/top"),
        ("0.1.0", "0.1.0"),
    ],
)
def test_text_from_data_is_no_markdown(text, escaped):
    assert plain(text) == escaped


NASTY = "a\n# x|`y` <img>"


@pytest.mark.parametrize(
    "changes",
    [
        {"class_names": [NASTY]},
        {"data": {"name": NASTY, "source": "s"}},
        {"data": {"name": "n", "source": NASTY}},
        {"images_per_class": NASTY},
        {"generator": {"name": NASTY}},
        {"objective": {"name": NASTY}},
        {"versions": {"ld3m-plugin": NASTY}},
        {"steps": NASTY},
        {"seed": NASTY},
    ],
    ids=str,
)
def test_card_has_the_same_structure_whatever_the_names(changes):
    expected = markdown_structure(dataset_card({**METADATA, "class_names": ["a"]}))
    card = dataset_card({**METADATA, "class_names": ["a"], **changes})
    assert markdown_structure(card) == expected
    assert NASTY not in card


def markdown_structure(card):
    """Number of lines, the lines' headings, and tags and cells that are neither escaped nor in a code span."""
    text = re.sub(r"\\.", "", card)
    text = re.sub(r"`[^`\n]+`", "", text)
    return len(card.splitlines()), re.findall(r"^#+", card, re.MULTILINE), re.findall(r"[<|]", text)


def test_table_has_a_cell_for_each_column_whatever_the_names():
    table = accuracy_table([{"images": "a|b", "network": "c\n|d", "mean": 50.0, "std": None}])
    assert table.splitlines() == [r"| network | a\|b |", "| --- | ---: |", r"| c \|d | 50.0 |"]


def test_nothing_in_the_artefact_is_a_pickle(tmp_path):
    distilled_set().save(tmp_path)
    endings = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert endings == {".safetensors", ".json", ".png", ".md"}


def damage(folder, name):
    if name == "truncated":
        file = folder / "images.safetensors"
        file.write_bytes(file.read_bytes()[:-10])
    elif name == "garbage json":
        (folder / "metadata.json").write_text("{")
    elif name == "other json":
        (folder / "metadata.json").write_text("[]")
    elif name == "newer":
        content = json.loads((folder / "metadata.json").read_text())
        (folder / "metadata.json").write_text(json.dumps({**content, "format": 99}))
    elif name == "no images":
        (folder / "images.safetensors").unlink()
    elif name == "other tensors":
        save_file({"x": torch.zeros(1)}, folder / "images.safetensors")
    elif name == "wrong channels":
        tensors = load_file(folder / "images.safetensors")
        save_file({**tensors, "images": tensors["images"].repeat(1, 3, 1, 1)}, folder / "images.safetensors")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("truncated", "images.safetensors is damaged"),
        ("garbage json", "metadata.json is damaged"),
        ("other json", "is not the metadata of a distilled set"),
        ("newer", "has format 99, this version reads up to 1: update"),
        ("no images", "images.safetensors is missing"),
        ("other tensors", "must hold images and labels, it has x"),
        ("wrong channels", "do not fit each other or 1 channels"),
    ],
)
def test_damage_is_named(tmp_path, name, message):
    distilled_set().save(tmp_path)
    damage(tmp_path, name)
    with pytest.raises(ArtefactError, match=message):
        DistilledSet.load(tmp_path)


def refusal(folder, file):
    """The message of loading `folder`, which must be one line that names the file."""
    with pytest.raises(ArtefactError) as caught:
        DistilledSet.load(folder)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert str(folder / file) in message
    return message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"std": [0.5, 0.5]}, "std = [0.5, 0.5]: mean has 1 values, std 2"),
        ({"std": []}, "std = []: mean has 1 values, std 0"),
        ({"std": [0]}, "std.0 = 0: Input should be greater than 0"),
        ({"std": [-0.5]}, "std.0 = -0.5: Input should be greater than 0"),
        ({"std": [float("nan")]}, "std.0 = nan: Input should be a finite number"),
        ({"std": [float("inf")]}, "std.0 = inf: Input should be a finite number"),
        ({"mean": [float("-inf")]}, "mean.0 = -inf: Input should be a finite number"),
        ({"mean": "x"}, "mean = 'x': Input should be a valid list"),
        ({"mean": ["0.5"]}, "mean.0 = '0.5': Input should be a valid number"),
        ({"mean": [True]}, "mean.0 = True: Input should be a valid number"),
        ({"mean": [10**400]}, "mean.0 = 1000"),
        ({"mean": None}, "mean = None: Input should be a valid list"),
        ({"mean": 0.5}, "mean = 0.5: Input should be a valid list"),
        ({"mean": [], "std": []}, "mean = []: List should have at least 1 item"),
        ({"format": "1"}, "format = '1': Input should be a valid integer"),
        ({"format": None}, "format = None: Input should be a valid integer"),
        ({"format": True}, "format = True: Input should be a valid integer"),
        ({"format": 0}, "format = 0: Input should be greater than or equal to 1"),
        ({"format": 2, "mean": {"later": "form"}}, "has format 2, this version reads up to 1: update"),
        ({"class_names": []}, "class_names = []: List should have at least 1 item"),
        ({"class_names": "ab"}, "class_names = 'ab': Input should be a valid list"),
        ({"class_names": ["a", 1]}, "class_names.1 = 1: Input should be a valid string"),
        ({"class_names": ["a"] * 2 + [["\n" * 500] * 500]}, "class_names.2 = ["),
    ],
    ids=lambda value: str(value)[:40],
)
def test_junk_in_the_metadata_is_named(tmp_path, changes, message):
    distilled_set().save(tmp_path)
    content = json.loads((tmp_path / "metadata.json").read_text())
    (tmp_path / "metadata.json").write_text(json.dumps({**content, **changes}))
    assert message in refusal(tmp_path, "metadata.json")


@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000, b'{"class_names": ' * 100_000, b"9" * 5000, b"\xff", b"\xef\xbb\xbf{}", b""],
    ids=["nested lists", "nested objects", "long number", "not UTF-8", "byte order mark", "empty"],
)
def test_metadata_that_is_no_json_is_damaged(tmp_path, content):
    distilled_set().save(tmp_path)
    (tmp_path / "metadata.json").write_bytes(content)
    assert "metadata.json is damaged: " in refusal(tmp_path, "metadata.json")


def test_other_keys_of_the_metadata_are_free(tmp_path):
    original = distilled_set()
    original.metadata |= {"mine": {"nested": [None, "x"]}, "mean": [0], "std": [1]}
    original.save(tmp_path)
    loaded = DistilledSet.load(tmp_path)
    assert loaded.metadata == {"format": 1, **original.metadata}
    assert loaded.denormalised().dtype == torch.float32


SOFT = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.25, 0.75]])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 0, 1, 2]), "labels go from 0 to 2, but there are 2 class names"),
        (torch.tensor([-1, 0, 1, 1]), "labels go from -1 to 1, but there are 2 class names"),
        (torch.tensor([0.0, 0.0, 1.0, 1.0]), "labels are float32, class indices must be int64"),
        (torch.tensor([0, 0, 1, 1], dtype=torch.int32), "labels are int32, class indices must be int64"),
        (torch.tensor([False, False, True, True]), "labels are bool, class indices must be int64"),
        (torch.tensor(0), "labels () are neither class indices (N,) nor probabilities (N, K)"),
        (SOFT[:, :, None].clone(), "labels (4, 2, 1) are neither"),
        (torch.zeros(3, dtype=torch.int64), "images (4, 1, 8, 8) and labels (3,) do not fit each other"),
        (torch.full((4, 3), 1 / 3), "probabilities of 3 classes, not of 2 class names"),
        (torch.zeros(4, 0), "probabilities of 0 classes, not of 2 class names"),
        (SOFT.double(), "labels are float64, probabilities must be float32"),
        (SOFT.long(), "labels are int64, probabilities must be float32"),
        (SOFT * float("nan"), "labels have probabilities that are NaN or infinite"),
        (SOFT + torch.tensor([0.5, -0.5]), "labels have negative probabilities, such as -0.5"),
        (SOFT * 2, "labels have probabilities that sum to 2, not to 1"),
        (SOFT * 0.99, "labels have probabilities that sum to 0.99, not to 1"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_junk_labels_are_named(tmp_path, labels, message):
    distilled_set().save(tmp_path)
    replace_tensors(tmp_path, labels=labels)
    assert message in refusal(tmp_path, "images.safetensors")


def replace_tensors(folder, **tensors):
    file = folder / "images.safetensors"
    save_file({**load_file(file), **tensors}, file)


def with_pixel(value):
    images = torch.zeros(4, 1, 8, 8)
    images[3, 0, 7, 7] = value
    return images


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (with_pixel(float("nan")), "images have values that are NaN or infinite"),
        (with_pixel(float("inf")), "images have values that are NaN or infinite"),
        (torch.zeros(4, 1, 8, 8, dtype=torch.float64), "images are float64, not float32"),
        (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), "images are uint8, not float32"),
        (torch.zeros(4, 1, 8, 6), "images (4, 1, 8, 6) are not square"),
        (torch.zeros(4, 1, 0, 0), "images (4, 1, 0, 0) are empty"),
        (torch.zeros(4, 64), "images (4, 64) and labels (4,) do not fit each other or 1 channels"),
        (torch.tensor(0.0), "images () and labels (4,) do not fit each other or 1 channels"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_junk_images_are_named(tmp_path, images, message):
    distilled_set().save(tmp_path)
    replace_tensors(tmp_path, images=images)
    assert message in refusal(tmp_path, "images.safetensors")


def test_a_set_of_no_images_is_named(tmp_path):
    distilled_set().save(tmp_path)
    replace_tensors(tmp_path, images=torch.zeros(0, 1, 8, 8), labels=torch.zeros(0, dtype=torch.int64))
    assert "images (0, 1, 8, 8) are empty" in refusal(tmp_path, "images.safetensors")


def test_names_of_other_tensors_stay_on_one_line(tmp_path):
    distilled_set().save(tmp_path)
    save_file({"x\ny" * 100: torch.zeros(1)}, tmp_path / "images.safetensors")
    assert "must hold images and labels, it has x y" in refusal(tmp_path, "images.safetensors")


def test_one_class_name_for_ten_classes(tmp_path):
    images = torch.zeros(10, 1, 8, 8)
    names = {"class_names": [str(k) for k in range(10)]}
    DistilledSet(images, torch.arange(10), {**METADATA, **names}).save(tmp_path)
    content = json.loads((tmp_path / "metadata.json").read_text())
    (tmp_path / "metadata.json").write_text(json.dumps({**content, "class_names": ["0"]}))
    assert "labels go from 0 to 9, but there are 1 class names" in refusal(tmp_path, "images.safetensors")


def test_soft_labels_may_be_rounded(tmp_path):
    classes = 1000
    soft = torch.rand(4, classes, generator=torch.Generator().manual_seed(0)).softmax(1).half().float()
    names = [f"c{k}" for k in range(classes)]
    DistilledSet(torch.zeros(4, 1, 8, 8), soft, {**METADATA, "class_names": names}).save(tmp_path)
    assert torch.equal(DistilledSet.load(tmp_path).labels, soft)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda file: file.write_bytes(b"junk"), "is damaged: "),
        (lambda file: file.write_bytes(b""), "is damaged: "),
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), "is damaged: "),
        (lambda file: save_file({"z": torch.zeros(4)}, file, {"learned": "pixels"}), "learned latent 'pixels' is not"),
        (lambda file: save_file({"z": torch.arange(4)}, file, {"learned": "z"}), "learned latent 'z' is not"),
        (lambda file: save_file({"a": torch.zeros(4), "b": torch.zeros(3)}, file), "must share their first dimension"),
        (lambda file: save_file({}, file), "must share their first dimension"),
    ],
    ids=["junk", "empty", "truncated", "learned name", "learned integers", "rows", "no tensors"],
)
def test_junk_latents_are_named(tmp_path, write, message):
    distilled_set().save(tmp_path)
    write(tmp_path / "latents.safetensors")
    assert message in refusal(tmp_path, "latents.safetensors")


def test_a_file_is_no_set(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtefactError, match="no distilled set at"):
        DistilledSet.load(tmp_path / "file")


def test_folder_without_a_set(tmp_path):
    with pytest.raises(ArtefactError, match="no distilled set at"):
        DistilledSet.load(tmp_path)


def test_files_are_readable_like_other_new_files(tmp_path):
    (tmp_path / "plain").write_text("x")
    distilled_set().save(tmp_path / "set")
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "set").iterdir() if path.is_file()}
    assert modes == {(tmp_path / "plain").stat().st_mode & 0o777}
