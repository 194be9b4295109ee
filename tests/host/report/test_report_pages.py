"""Reports as pages: what they say, that nothing of a stranger's file acts in them, and that they need nothing else."""

import base64
import hashlib
import itertools
import json
import re
import shutil

import pytest

from ld3m_plugin.errors import ArtefactError
from ld3m_plugin.report.plots import Value, dot_plot
from ld3m_plugin.report.step_plots import _unlike
from ld3m_plugin.report.writing import write_report


@pytest.fixture(params=["run", "comparison"])
def hostile_page(request, run_folder, comparison_folder, hostile, parsed):
    """A page of a folder whose every name is a stranger's."""
    if request.param == "run":
        made = {"generator": {"name": hostile[0], hostile[1]: hostile[3]}, "data": {"source": hostile[7]}}
        folder = run_folder(hostile, versions={hostile[1]: hostile[5]}, seen_networks=[hostile[0], 3], **made)
        with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": 3, "loss": 1.0, hostile[0]: 2.0}) + "\n")
    else:
        settings = {"varied": {hostile[0]: hostile[1]}, "data": hostile[7], "generator": hostile[0]}
        folder = comparison_folder(hostile, **settings)
    return parsed(write_report(folder))


def test_nothing_in_a_strangers_file_acts(hostile_page):
    (script,), (style,) = hostile_page.all("script"), hostile_page.all("style")
    assert script.text.startswith('"use strict"')
    assert style.text.startswith(":root")
    for tag in hostile_page.tags:
        assert not [name for name in tag.attributes if name.startswith("on") or name == "style"]
        assert tag.name not in {"iframe", "object", "embed", "form", "base", "b"}
    assert all(
        tag.attributes["href"].startswith(("#", "rows/", "data:,"))
        for tag in hostile_page.tags
        if "href" in tag.attributes
    )


def test_every_name_is_shown_as_text(hostile_page, hostile):
    text = " ".join(hostile_page.texts)
    for name in hostile[:3] + hostile[6:9]:
        assert name in text
    for shown in (
        r"right\u202eleft\u2066",
        r"bell\x07 zero\x00 line\x0abreak",
        r"mark \u200f of",
        "www…",
    ):
        assert shown in text


def test_no_hidden_character_is_in_the_page(hostile_page):
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", hostile_page.source)


@pytest.mark.parametrize("kind", ["run", "comparison"])
def test_a_page_is_whole_by_itself(kind, run_folder, comparison_folder, parsed):
    page = parsed(write_report((run_folder if kind == "run" else comparison_folder)()))
    html, title = page.all("html")[0], page.all("title")[0]
    assert html.attributes["lang"] == "en"
    assert title.text
    images = page.all("img")
    assert images
    for image in images:
        assert image.attributes["src"].startswith("data:image/png;base64,")
        assert image.attributes["alt"]
    ids = [tag.attributes["id"] for tag in page.tags if "id" in tag.attributes]
    assert len(set(ids)) == len(ids)
    wanted = [name for tag in page.tags for name in tag.attributes.get("aria-labelledby", "").split()]
    wanted += [tag.attributes["href"][1:] for tag in page.all("a") if tag.attributes["href"].startswith("#")]
    assert set(wanted) <= set(ids)
    assert "src" not in page.all("script")[0].attributes


@pytest.mark.parametrize("kind", ["run", "comparison"])
def test_headings_and_landmarks_are_in_order(kind, run_folder, comparison_folder, parsed):
    page = parsed(write_report((run_folder if kind == "run" else comparison_folder)()))
    levels = [int(tag.name[1]) for tag in page.tags if re.fullmatch("h[1-6]", tag.name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    for name in ("header", "main", "footer", "nav"):
        assert len(page.all(name)) == 1
    drawn = [tag for tag in page.all("svg") if tag.attributes.get("aria-hidden") != "true"]
    assert drawn
    assert all(tag.attributes["role"] == "img" for tag in drawn)
    assert len(page.all("desc")) == len(drawn)


def test_the_policy_lets_the_pages_own_style_and_script_act_alone(run_folder, parsed):
    page = parsed(write_report(run_folder()))
    policy = next(tag.attributes["content"] for tag in page.all("meta") if "http-equiv" in tag.attributes)
    assert "default-src 'none'; img-src data:;" in policy
    for name in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(page.all(name)[0].text.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy


def test_a_run_says_its_result_first(run_folder, parsed):
    page = parsed(write_report(run_folder()))
    assert "ConvNet reaches 69.0 ± 1.4 %; on random real images it reaches 50.5 ± 0.7 %" in page.all("main")[0].text
    cells = [tag.text for tag in page.all("td")]
    for cell in ("seen", "unseen", "69.0 ± 1.4", "59.0 ± 1.4", "48.5 ± 0.7"):
        assert cell in cells
    text = " ".join(page.texts)
    for said in ("CC BY 4.0", "real images", "64", "2,560 bytes", "evaluation.protocol", "3.11"):
        assert said in text
    titles = [tag.text for tag in page.all("figcaption")]
    assert {"Loss", "Norms of gradients, by latent", "Accuracy", "cat", "dog"} <= set(titles)


def test_the_start_stands_beside_each_image(run_folder, parsed):
    alts = [tag.attributes["alt"] for tag in parsed(write_report(run_folder())).all("img")]
    assert alts == [f"{name}, distilled image{when}" for name in ("cat", "dog") for when in (", at the start", "")]


def test_a_run_that_has_not_ended_has_a_report(run_folder, parsed):
    folder = run_folder()
    shutil.rmtree(folder / "distilled")
    page = parsed(write_report(folder))
    assert "has not ended" in page.all("main")[0].text
    assert "Loss" in [tag.text for tag in page.all("figcaption")]


@pytest.mark.parametrize(
    "line", ["[1]", "{", "null", '{"step": NaN, "loss": 1}', '{"step": 1, "loss": "x"}', '{"step": 1e400, "loss": 1}']
)
def test_metrics_that_are_none_are_left_out(run_folder, parsed, line):
    folder = run_folder()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(line + "\n" + '{"step": 4, "loss": 1e999}\n' + "9" * 5000 + "\n")
    descriptions = [tag.text for tag in parsed(write_report(folder)).all("desc")]
    assert any("1,000 at step 1, 333.3 at step 3." in text for text in descriptions)


@pytest.mark.slow
def test_many_large_images_are_counted_and_scaled_down(run_folder, parsed):
    folder = run_folder(
        [f"class {i}" for i in range(50)], start=False, per_class=3, side=120, channels=3, accuracies=None
    )
    path = write_report(folder)
    page = parsed(path)
    assert len(page.all("img")) == 100
    assert "100 of 150 images shown, scaled down from 120 to 96 pixels" in page.all("main")[0].text
    assert path.stat().st_size < 6 * 2**20


def test_a_comparison_shows_its_table_its_rows_and_what_failed(comparison_folder, parsed):
    folder = comparison_folder()
    page = parsed(write_report(folder))
    text = page.all("main")[0].text
    assert "1 of 10 rows failed" in text
    assert "no experts: <b>make</b> them" in text
    links = [tag.attributes["href"] for tag in page.all("a") if tag.attributes["href"].startswith("rows/")]
    assert all((folder / link).is_dir() for link in links if "mtt" not in link)
    headers = [tag.text for tag in page.all("th")]
    for title in (
        "generator",
        "unseen - baseline",
        "p (unseen)",
        "peak memory MiB",
        "numbers per class",
        "prior, bytes",
    ):
        assert title in headers
    assert "baseline" in [tag.text for tag in page.all("td")]
    assert sum(tag.text.startswith("Loss of") for tag in page.all("figcaption")) == 2
    panels = [tag.text for tag in page.all("desc") if "its own 95 % interval" in tag.text]
    assert len(panels) == 3
    assert all("random real" in panel and "[" in panel for panel in panels)


def test_differences_to_the_baseline_are_drawn_with_their_intervals(comparison_folder, parsed):
    folder = comparison_folder()
    page = parsed(write_report(folder))
    (said,) = [tag.text for tag in page.all("desc") if "paired difference" in tag.text]
    # Accuracies are 40 + 3p % 7 + 5s for row p at seed s: 40, 48 and 56 for pixel, 42, 50 and 51 for glad.
    assert "pixel with dm: not told from no difference, or not tested +0.3 [" in said
    assert "glad with dm" not in said  # the baseline
    assert [tag.attributes["class"] for tag in page.all("line")].count("none") == 1


def test_the_line_at_no_difference_is_on_the_scale():
    rows = [("a", [Value(2.0, 1.0, 3.0, 0, "+2.0")]), ("b", [Value(4.0, None, None, 1, "+4.0")])]
    plot = dot_plot("key", "title", rows, ("marked", "not"), "differences", line_at=0.0)
    ((_, _, (first,)), (_, _, (second,))) = plot.rows
    assert plot.line_x < first.low < first.x < first.high < second.x
    assert second.x - plot.line_x == pytest.approx(
        2 * (first.x - plot.line_x), abs=0.2
    )  # places are rounded to a tenth
    assert dot_plot("key", "title", rows, ("marked", "not"), "accuracies").line_x is None


def test_accuracies_over_steps_are_means_over_seeds_and_architectures(comparison_folder, parsed):
    folder = comparison_folder()
    (path,) = folder.glob("rows/pixel-dm-seed0*/metrics.jsonl")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        if record.get("network") == "AlexNet":  # 51.5 at step 1 and 52.5 at step 3, as at the two other seeds
            record["accuracies"] = [value + 3 for value in record["accuracies"]]
    records.append(
        {"step": 2, "images": "distilled", "network": "AlexNet", "accuracies": [99.0]}
    )  # no other seed has it
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    page = parsed(write_report(folder))
    said = {tag.text.partition(" over steps. ")[0]: tag.text.partition(". ")[2] for tag in page.all("desc")}
    others = "glad with dm: 51.5 at step 1, 52.5 at step 3."
    where = "in the distillation, tiny, 1 per class"
    assert (
        said[f"Accuracy, %, architectures not used {where}"]
        == f"pixel with dm: 52.5 at step 1, 53.5 at step 3; {others}"
    )
    assert (
        said[f"Accuracy, %, architectures used {where}"] == f"pixel with dm: 51.5 at step 1, 52.5 at step 3; {others}"
    )


def test_seeds_without_an_architecture_are_left_out_of_a_line_and_counted(comparison_folder, parsed):
    folder = comparison_folder()
    (first,) = folder.glob("rows/pixel-dm-seed0*/metrics.jsonl")
    first.write_text("")  # no evaluation at all
    (second,) = folder.glob("rows/pixel-dm-seed1*/metrics.jsonl")
    second.write_text(second.read_text().replace("50.0", "40.0"))
    page = parsed(write_report(folder))
    (said,) = [tag.text for tag in page.all("desc") if tag.text.startswith("Accuracy, %, architectures not used")]
    # Step 1: the means of (40, 53) and (50, 53); step 3: of (40, 55) and (50, 55).
    assert "pixel with dm, 2 of 3 seeds: 49 at step 1, 50 at step 3" in said
    assert "glad with dm: 51.5 at step 1" in said


def test_lines_with_the_same_name_are_told_apart():
    assert _unlike("a", ()) == "a"
    assert _unlike("a", ("a", "a (2)")) == "a (3)"


def test_links_start_where_the_page_is(comparison_folder, parsed, tmp_path):
    folder = comparison_folder()
    page = parsed(write_report(folder, tmp_path / "pages" / "a.html"))
    links = [tag.attributes["href"] for tag in page.all("a") if "rows/" in tag.attributes["href"]]
    assert all(link.startswith("../comparison/rows/") for link in links)


@pytest.mark.parametrize("label", ["../../outside", "/etc", "..", ""])
def test_a_row_outside_of_the_comparison_is_refused(comparison_folder, label):
    folder = comparison_folder()
    content = json.loads((folder / "manifest.json").read_text())
    content["rows"][0]["label"] = label
    (folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(ArtefactError, match=r"manifest\.json"):
        write_report(folder)


def test_a_folder_without_anything_is_refused(tmp_path):
    with pytest.raises(ArtefactError, match=str(tmp_path)):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_the_page_and_says_where(ld3m, run_folder, tmp_path):
    outcome = ld3m("report", run_folder(), "--out", "there/page.html")
    assert outcome.code == 0
    assert "there/page.html" in outcome.out
    assert (tmp_path / "there" / "page.html").stat().st_size > 10_000


def test_the_command_refuses_a_folder_as_file(ld3m, run_folder, tmp_path):
    assert "--out" in ld3m("report", run_folder(), "--out", tmp_path).error


def test_the_command_refuses_a_name_that_is_no_utf8(ld3m, run_folder):
    assert "udcff" in ld3m("report", run_folder(), "--out", "half\udcff").error


def test_metadata_of_any_types_makes_a_page(run_folder, parsed):
    deep = {}
    for _ in range(50):
        deep = {"deeper": deep}
    wrong = {"seen_networks": 3, "storage": [], "config": {"generator": [deep]}, "learned_by": deep}
    page = parsed(write_report(run_folder(accuracies=None, start=False, **wrong)))
    assert "unknown with unknown on unknown" in page.all("h1")[0].text
    assert "not evaluated" in page.all("main")[0].text


@pytest.mark.slow
def test_settings_are_counted(run_folder):
    path = write_report(run_folder(config={f"setting {number}": "x" * 500 for number in range(20_000)}))
    assert path.stat().st_size < 2**20
