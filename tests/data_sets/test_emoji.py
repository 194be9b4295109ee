"""The data set `emoji`: counts, the split by drawing, tasks, sizes, refusals."""

import hashlib
import json
import re
import shutil

import pytest
import torch
from PIL import Image

from ld3m_plugin.data.emoji import MEAN, STD, EmojiOptions, load
from ld3m_plugin.data.emoji_index import ALL, EMBEDDED_FOLDER, TASKS, categories, class_map, classes, drawings, pictures
from ld3m_plugin.data.emoji_sheets import read_tiles, reduced, tiles_a_side
from ld3m_plugin.data.load import load_task
from ld3m_plugin.data.statistics import channel_statistics
from ld3m_plugin.errors import DataError, InvalidOptionError, UnknownOptionError

MAIN = [
    "birds-fish-bugs",
    "clothing",
    "faces",
    "food-drink",
    "hands",
    "mammals",
    "people",
    "places",
    "plants-fruit",
    "vehicles",
]
STYLES = ["noto", "noto-v1", "fluent-emoji", "fluent-emoji-flat", "twemoji", "emojione"]
#: SHA-256 of the pixels of the six sheets, one after the other: what priors and results were made with.
DIGEST = "eb20b3617b8d027c23ae5a1f4e13f26ade85aca1d08b9c7833f6da198c25ef41"


def by_part(task, key):
    """Class -> part -> the set of `key` of its drawings."""
    return {
        name: {part: {key(each.drawing) for each in members if each.drawing.part == part} for part in PARTS}
        for name, members in classes(task).items()
    }


PARTS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def main():
    return load_task("emoji", size=32)


def test_what_is_shipped_is_small_complete_and_names_authors_and_licences():
    sizes = {
        path.relative_to(EMBEDDED_FOLDER): path.stat().st_size for path in EMBEDDED_FOLDER.rglob("*") if path.is_file()
    }
    assert {str(path) for path in sizes} == {
        "NOTICE",
        "drawings.json",
        "tasks.json",
        *(f"{style}.webp" for style in STYLES),
        *(f"class-maps/{task}.json" for task in TASKS if task != ALL),
    }
    assert sum(sizes.values()) < 14_000_000
    notice = (EMBEDDED_FOLDER / "NOTICE").read_text()
    for style in STYLES:
        assert re.search(rf"npm @iconify-json/{style} \d+\.\d+\.\d+$", notice, re.MULTILINE)
    assert all(
        word in notice for word in ("Google", "Microsoft", "Twitter", "Emoji One", "Permission is hereby granted")
    )
    licences = set(re.findall(r"^  ([\w.-]+), http", notice, re.MULTILINE))
    assert licences == {"Apache-2.0", "MIT", "CC-BY-4.0"}  # nothing share-alike


def test_no_group_and_no_drawing_is_on_two_sides_of_the_split():
    part = {}
    for drawing in drawings():
        assert part.setdefault(drawing.group, drawing.part) == drawing.part, drawing
    assert len({drawing.code for drawing in drawings()}) == len(drawings()) == 1421
    assert set(part.values()) == set(PARTS)


def test_a_code_has_no_skin_tone_gender_or_variation_selector():
    ignored = {"fe0f", "fe0e", "1f468", "1f469", *(f"1f3f{n}" for n in "bcdef")}
    for drawing in drawings():
        parts = drawing.code.split("-")
        assert not ignored & set(parts), drawing
        assert len(parts) == 1 or not {"2640", "2642"} & set(parts), drawing


@pytest.mark.parametrize("name", ["clock", "heart", "moon", "cat", "face with tongue", "no entry"])
def test_near_variants_share_a_group(name):
    pairs = {
        "clock": ("one o’clock", "twelve-thirty"),
        "heart": ("red heart", "blue heart"),
        "moon": ("full moon", "waning crescent moon"),
        "cat": ("cat face", "black cat"),
        "face with tongue": ("face with tongue", "winking face with tongue"),
        "no entry": ("no entry", "no smoking"),
    }
    groups = {drawing.label: drawing.group for drawing in drawings()}
    first, second = pairs[name]
    assert groups[first] == groups[second]


def test_tasks_and_their_counts():
    assert EmojiOptions.model_fields["task"].annotation.__args__ == TASKS
    assert list(classes("main")) == MAIN
    assert len(classes(ALL)) == len(categories()) == 40
    for task in TASKS:
        codes = by_part(task, lambda drawing: drawing.code)
        names = [code for parts in codes.values() for part in parts.values() for code in part]
        assert len(names) == len(set(names)), f"a drawing of {task} is in two classes"
        for name, parts in codes.items():
            counts = {part: len(found) for part, found in parts.items()}
            if task != ALL:
                assert 4 <= len(codes) <= 10
                assert 40 <= sum(counts.values()) <= 66, (task, name)
            assert all(counts.values()), (task, name, counts)
    assert sum(map(len, classes(ALL).values())) == len(pictures()) == 7781


@pytest.mark.parametrize("name", MAIN)
def test_a_third_of_the_drawings_of_a_main_class_is_for_testing(name):
    counts = {part: len(found) for part, found in by_part("main", lambda drawing: drawing.code)[name].items()}
    assert abs(counts["test"] / sum(counts.values()) - 1 / 3) < 0.03
    assert abs(counts["validation"] / (counts["train"] + counts["validation"]) - 1 / 6) < 0.03


def test_class_maps_lead_to_categories():
    for task in set(TASKS) - {ALL}:
        mapped = json.loads(class_map(task).read_text())
        assert list(mapped) == list(classes(task))
        for name, category in mapped.items():
            found = [each.drawing.category for each in classes(task)[name]]
            assert category == name or found.count(category) == max(map(found.count, found))


@pytest.mark.slow
def test_the_main_task(main):
    assert main.class_names == tuple(MAIN)
    assert (main.channels, main.image_size) == (3, 32)
    assert (main.mean, main.std) == (MEAN, STD)
    assert main.train.counts() == (206, 144, 218, 232, 168, 224, 234, 206, 228, 222)
    assert main.test.counts() == (104, 72, 126, 120, 84, 118, 110, 108, 124, 104)
    assert "2082 train of 393 drawings, 1070 test of 195 drawings" in main.source
    images = main.train.read(2, torch.arange(218))
    assert images.shape == (218, 3, 32, 32)
    assert (images[:, :, 0, 0] == 255).float().mean() > 0.95  # on white


@pytest.mark.slow
def test_test_groups_are_the_groups_of_the_test_pictures(main):
    expected = [
        each.drawing.group for members in classes("main").values() for each in members if each.drawing.part == "test"
    ]
    assert main.test_groups == tuple(expected)
    assert len(set(expected)) == 150


def pixels(images):
    return {
        row.numpy().tobytes()
        for count in [images.counts()]
        for k, n in enumerate(count)
        for row in images.read(k, torch.arange(n))
    }


@pytest.mark.slow
def test_validation_is_inside_the_training_split_and_apart_from_what_priors_see(main):
    held_out, prior = load_task("emoji", size=32, split="validation"), load_task("emoji", size=32, split="equal-data")
    seen, chosen_on, tested = pixels(prior.train), pixels(held_out.test), pixels(prior.test)
    assert pixels(held_out.train) == seen
    assert pixels(main.train) == seen | chosen_on
    assert not seen & chosen_on
    assert tested == pixels(main.test)
    assert not tested & pixels(main.train)
    assert sum(held_out.train.counts()) + sum(held_out.test.counts()) == sum(main.train.counts())
    validation = [each for members in classes("main").values() for each in members if each.drawing.part == "validation"]
    assert held_out.test_groups == tuple(each.drawing.group for each in validation)


def test_no_drawing_of_a_task_that_is_tested_on_is_in_what_priors_see():
    seen = {each.drawing.group for members in classes(ALL).values() for each in members if each.drawing.part == "train"}
    for task in TASKS:
        for members in classes(task).values():
            assert not seen & {each.drawing.group for each in members if each.drawing.part != "train"}


@pytest.mark.slow
def test_half_the_size_is_the_mean_of_blocks_of_four_pixels():
    tiles = [0, 7, 1420]
    whole = read_tiles(EMBEDDED_FOLDER / "noto.webp", 1421, tiles, 64)
    half = read_tiles(EMBEDDED_FOLDER / "noto.webp", 1421, tiles, 32)
    for row in range(3):
        for y, x in ((0, 0), (11, 17), (31, 31)):
            for channel in range(3):
                block = whole[row, channel, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].flatten().tolist()
                assert half[row, channel, y, x] == (sum(block) + 2) // 4


def test_means_of_blocks_by_hand():
    image = torch.tensor([[0, 1, 255, 255], [1, 0, 255, 254], [3, 3, 10, 20], [3, 4, 30, 41]], dtype=torch.uint8)
    assert reduced(image.view(1, 1, 4, 4), 2).tolist() == [[[[1, 255], [3, 25]]]]  # 0.5, 254.75, 3.25, 25.25
    assert reduced(image.view(1, 1, 4, 4), 1).tolist() == [[[[71]]]]  # 1135 / 16 = 70.9


@pytest.mark.slow
def test_gray_is_one_channel_with_its_own_statistics():
    task = load_task("emoji", task="nature", size=32, grayscale=True)
    assert task.channels == 1
    assert (task.mean, task.std) == channel_statistics(task.train)


@pytest.mark.slow
def test_a_task_read_again_is_the_same(main):
    again = load("", EmojiOptions(size=32))
    assert all(main.train.digest(k) == again.train.digest(k) for k in range(10))
    assert [main.test.digest(k) for k in range(10)] == [again.test.digest(k) for k in range(10)]


@pytest.mark.slow
def test_the_pictures_are_the_published_ones():
    digest = hashlib.sha256()
    for style in STYLES:
        with Image.open(EMBEDDED_FOLDER / f"{style}.webp") as sheet:
            digest.update(sheet.convert("RGB").tobytes())
    assert digest.hexdigest() == DIGEST


@pytest.mark.slow
def test_mean_and_deviation_are_those_of_what_priors_are_trained_on():
    task = load_task("emoji", task=ALL, split="equal-data")
    assert task.num_classes == 40
    mean, std = channel_statistics(task.train, sum(task.train.counts()))
    for got, stated in zip(mean + std, MEAN + STD, strict=True):
        assert abs(got - stated) < 1e-4


@pytest.mark.slow
def test_no_picture_of_a_test_drawing_is_stored_as_a_training_drawing_too():
    for style in STYLES:
        own = [each for each in pictures() if each.style == style]
        images = read_tiles(EMBEDDED_FOLDER / f"{style}.webp", len(own), range(len(own)), 32)
        side = {}
        for each, image in zip(own, images, strict=True):
            kept = side.setdefault(image.numpy().tobytes(), each.drawing)
            assert kept.part == each.drawing.part, f"{style}: {kept.label} and {each.drawing.label}"


# Larger pictures, refusals --------------------------------------------------------------------------------------------


@pytest.fixture
def larger(tmp_path):
    """A folder as the script makes it with --size 128, with pictures of one colour."""
    shutil.copyfile(EMBEDDED_FOLDER / "drawings.json", tmp_path / "drawings.json")
    for style in STYLES:
        side = 128 * tiles_a_side(sum(style in drawing.styles for drawing in drawings()))
        Image.new("RGB", (side, side), (255, 128, 0)).save(tmp_path / f"{style}.webp", "WEBP", lossless=True, method=0)
    return tmp_path


@pytest.mark.slow
def test_larger_pictures_are_found_through_root(larger):
    task = load_task("emoji", root=larger, size=128, task="nature")
    assert task.image_size == 128
    assert task.test.read(0, torch.arange(1))[0, :, 0, 0].tolist() == [255, 128, 0]
    assert str(larger) in task.source


def test_larger_pictures_are_not_in_the_package():
    with pytest.raises(InvalidOptionError, match=r"size = 128.*make_embedded_emoji.*root="):
        load_task("emoji", size=128)


def test_a_root_of_another_version_or_without_files_is_refused(tmp_path):
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "drawings.json"))):
        load_task("emoji", root=tmp_path)
    (tmp_path / "drawings.json").write_text("[]")
    with pytest.raises(DataError, match="another version"):
        load_task("emoji", root=tmp_path)
    shutil.copyfile(EMBEDDED_FOLDER / "drawings.json", tmp_path / "drawings.json")
    with pytest.raises(DataError, match=r"noto\.webp"):
        load_task("emoji", root=tmp_path)


def test_a_sheet_that_is_no_square_of_tiles_is_refused(tmp_path):
    path = tmp_path / "sheet.png"
    Image.new("RGB", (64, 128)).save(path)
    with pytest.raises(DataError, match=r"64x128.*2x2"):
        read_tiles(path, 4, [0], 32)


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"task": "sports"}, InvalidOptionError, "task"),
        ({"size": 48}, InvalidOptionError, "size"),
        ({"split": "train"}, InvalidOptionError, "split"),
        ({"image_size": 32}, UnknownOptionError, "image_size"),
    ],
)
def test_options_that_it_does_not_have_are_refused(options, error, named):
    with pytest.raises(error, match=named):
        load_task("emoji", **options)


def test_an_argument_is_refused():
    with pytest.raises(InvalidOptionError, match="task=NAME"):
        load_task("emoji:main")


@pytest.mark.parametrize("name", [name for name in TASKS if name != ALL])
def test_broader_classes_are_those_of_the_class_maps(name):
    task = load_task("emoji", task=name, size=32)
    known = json.loads(class_map(name).read_text(encoding="utf-8"))
    assert task.broader == tuple(known[each] for each in task.class_names)
    assert set(task.broader) <= set(categories())
