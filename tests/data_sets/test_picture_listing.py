"""Pictures in folders: endings, links, and what is left out and counted."""

import os
from pathlib import Path

import pytest
from PIL import Image

from ld3m_plugin.data import picture_formats
from ld3m_plugin.data.picture_listing import LeftOut, list_images, subfolders
from ld3m_plugin.runs import folder as run_folder


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def listed(folder, left_out=None):
    return [path.relative_to(folder).as_posix() for path in list_images(folder, left_out)]


def test_only_images_are_listed_sorted_and_with_subfolders(tmp_path):
    touch(tmp_path, "b.PNG", "a.jpg", "sub/c.webp", ".hidden.png", ".cache/d.png", "notes.txt", "LICENSE")
    left_out = LeftOut()
    assert listed(tmp_path, left_out) == ["a.jpg", "b.PNG", "sub/c.webp"]
    assert str(left_out) == "2 hidden, 1 .txt, 1 without a known ending"


@pytest.mark.parametrize(
    "ending", [".jfif", ".JPEG", ".jpe", ".tga", ".pbm", ".apng", ".ico", ".bmp", ".dib", ".Tiff", ".qoi"]
)
def test_endings_that_pillow_decodes_are_listed_whatever_their_case(tmp_path, ending):
    touch(tmp_path, f"a{ending}")
    assert listed(tmp_path) == [f"a{ending}"]


@pytest.mark.parametrize(
    "ending", [".eps", ".ps", ".pdf", ".wmf", ".emf", ".mpg", ".flc", ".h5", ".grib", ".iim", ".heic", ".pfm"]
)
def test_other_endings_are_counted(tmp_path, ending):
    touch(tmp_path, f"a{ending}", f"b{ending.upper()}")
    left_out = LeftOut()
    assert listed(tmp_path, left_out) == []
    assert str(left_out) == f"2 {ending}"


def test_formats_that_start_programs_or_open_others_are_not_tried():
    Image.init()
    assert not {"EPS", "IPTC", "WMF", "MPEG", "PDF", "HDF5", "GRIB", "BUFR"} & set(picture_formats.formats())
    assert set(picture_formats.formats()) <= set(Image.OPEN)


@pytest.mark.parametrize(
    "name", ["@eaDir", "__MACOSX", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"]
)
def test_folders_of_systems_are_left_out_and_named(tmp_path, name):
    touch(tmp_path, "a.png", f"{name}/a.png")
    left_out = LeftOut()
    assert listed(tmp_path, left_out) == ["a.png"]
    assert str(left_out) == f"1 {name}"


def test_linked_folders_and_files_are_followed_once(tmp_path):
    touch(tmp_path, "data/a.png", "data/sub/b.png", "disk/c.png", "disk/d.png", "disk/deep/e.png")
    data, disk = tmp_path / "data", tmp_path / "disk"
    (data / "more").symlink_to(disk)
    (data / "again").symlink_to(disk)
    (data / "0.png").symlink_to(data / "a.png")
    (data / "alone.png").symlink_to(disk / "c.png")
    left_out = LeftOut()
    # A file of the folder itself keeps its own name; of several links to a file outside, the first one counts.
    assert listed(data, left_out) == ["a.png", "again/c.png", "again/d.png", "again/deep/e.png", "sub/b.png"]
    assert str(left_out) == "3 linked twice"


@pytest.mark.parametrize("target", [".", "..", "../..", "loop"])
def test_a_link_to_a_folder_around_it_ends_and_changes_nothing(tmp_path, target):
    touch(tmp_path, "data/x/a.png", "data/y/b.png")
    (tmp_path / "data" / "x" / "loop").symlink_to(target)
    assert listed(tmp_path / "data" / "x") == ["a.png"]
    assert [path.name for path in subfolders(tmp_path / "data")] == ["x", "y"]


def test_a_link_elsewhere_that_leads_back_ends(tmp_path):
    touch(tmp_path, "data/x/a.png", "data/y/b.png", "disk/c.png")
    (tmp_path / "data" / "x" / "more").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "back").symlink_to(tmp_path / "data")
    assert listed(tmp_path / "data" / "x") == ["a.png", "more/c.png"]


def test_a_link_to_the_folder_around_the_classes_is_no_class(tmp_path):
    touch(tmp_path, "x/a.png")
    (tmp_path / "all").symlink_to(tmp_path)
    left_out = LeftOut()
    assert [path.name for path in subfolders(tmp_path, left_out)] == ["x"]
    assert str(left_out) == "1 linked twice"


def test_a_pipe_and_a_dangling_link_are_listed_for_the_decoder_to_refuse(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to("/nowhere")
    assert listed(tmp_path) == ["gone.png", "pipe.png"]


RUN = [run_folder.CONFIG, f"{run_folder.DISTILLED}/images/0.png"]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (RUN, "1 run folder"),
        ([run_folder.CONFIG, run_folder.ENVIRONMENT], "1 run folder"),
        ([run_folder.CONFIG, f"{run_folder.CHECKPOINTS}/step-000001/state.safetensors"], "1 run folder"),
        ([run_folder.CONFIG, run_folder.METRICS], "1 run folder"),
        ([f"one/{name}" for name in RUN] + [f"two/{name}" for name in RUN], "1 run folder"),
        ([f"compared/pixel/{name}" for name in RUN] + ["compared/comparison.png"], "1 run folder"),
        ([*(f"one/{name}" for name in RUN), "empty/.hidden"], "1 run folder"),
        (["new/.ld3m.lock"], "1 run folder"),
        (["metadata.json", "images.safetensors", "grid.png"], "1 distilled set"),
        (["model_index.json", "samples.png"], "1 prior"),
        (["samples-000100.png", "autoencoder.safetensors"], "1 training of a prior"),
        (["a1b2/settings.json", "a1b2/expert-00000.safetensors"], "1 store of experts"),
    ],
)
def test_folders_of_this_library_are_left_out(tmp_path, content, kind):
    touch(tmp_path, "x/a.png", *(f"runs/{name}" for name in content))
    left_out = LeftOut()
    assert [path.name for path in subfolders(tmp_path, left_out)] == ["x"]
    assert str(left_out) == kind
    assert listed(tmp_path) == ["x/a.png"]


def test_a_class_that_holds_a_run_is_still_a_class(tmp_path):
    touch(tmp_path, "x/a.png", "x/config.yaml", *(f"x/run/{name}" for name in RUN))
    touch(tmp_path, "y/deep/a.png", *(f"y/run/{name}" for name in RUN))
    assert [path.name for path in subfolders(tmp_path)] == ["x", "y"]
    left_out = LeftOut()
    assert listed(tmp_path, left_out) == ["x/a.png", "y/deep/a.png"]
    assert str(left_out) == "2 run folders, 1 .yaml"


def test_names_cannot_fill_the_line():
    left_out = LeftOut()
    for number in range(20):
        left_out.add(f".{number}", [Path(str(number))])
    assert str(left_out).endswith(", 12 of other kinds")


def test_an_ending_with_other_signs_is_not_shown(tmp_path):
    touch(tmp_path, "a.\x1b[31m", "b.\u202epng", "c." + "x" * 50)
    left_out = LeftOut()
    assert listed(tmp_path, left_out) == []
    assert str(left_out) == "3 without a known ending"
