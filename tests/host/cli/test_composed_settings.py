"""Settings of `ld3m distill`: how files, presets and options compose, and that a dry run prints what a run writes."""

import yaml


def test_files_presets_settings_and_flags_compose_in_that_order(ld3m, tmp_path):
    (tmp_path / "a.yaml").write_text("{render_batch: 3, steps: 1, seed: 1, images_per_class: 9, checkpoint_every: 1}")
    (tmp_path / "b.yaml").write_text("{checkpoint_every: 2}")
    outcome = ld3m(
        *("distill", "--dry-run", "--ipc", "4", "--set", "seed=3", "--set", "images_per_class=3", "--preset", "demo"),
        *("--config", "a.yaml", "--config", "b.yaml", "--steps", "5", "-O", "batch_real=7"),
    )
    assert outcome.code == 0, outcome.err
    resolved = yaml.safe_load(outcome.out)
    assert resolved["render_batch"] == 3  # the first file alone
    assert resolved["checkpoint_every"] == 2  # the second file over the first
    assert resolved["data"]["name"] == "fashion-mnist:embedded"  # the preset alone
    assert resolved["seed"] == 3  # --set over the file
    assert resolved["images_per_class"] == 4  # the flag over --set, over the preset
    assert resolved["steps"] == 5  # the flag over the preset
    assert resolved["objective"]["options"]["batch_real"] == 7  # -O over the preset


def test_a_dry_run_fed_back_prints_the_same(ld3m, tmp_path):
    arguments = ["--ipc", "2", "-G", "init=gaussian", "-O", "network_settings={width: 8}", "--networks", "ConvNet,ViT"]
    first = ld3m("distill", "--dry-run", "--no-evaluate", "-D", "image_size=16", *arguments)
    assert (first.code, first.err) == (0, "")
    (tmp_path / "resolved.yaml").write_text(first.out)
    again = ld3m("distill", "--config", "resolved.yaml", "--dry-run")
    assert (again.code, again.out) == (0, first.out)
    assert list(tmp_path.iterdir()) == [tmp_path / "resolved.yaml"]


def test_the_run_folder_holds_what_a_dry_run_prints(ld3m, small, small_dm, tmp_path):
    printed = ld3m("distill", *small, *small_dm, "--dry-run").out
    outcome = ld3m("distill", *small, *small_dm, "--out", "run")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "run" / "config.yaml").read_text() == printed
    assert "distilled set: run/distilled" in outcome.out
    assert "Traceback" not in outcome.err


def test_a_preset_that_is_shown_is_a_configuration_file(ld3m, tmp_path):
    (tmp_path / "demo.yaml").write_text(ld3m("presets", "show", "demo").out)
    by_file = ld3m("distill", "--config", "demo.yaml", "--dry-run")
    assert by_file.out == ld3m("distill", "--preset", "demo", "--dry-run").out


def test_a_dry_run_of_a_comparison_counts_its_rows_and_can_be_fed_back(ld3m, tmp_path):
    arguments = ("--generators", "pixel,glad", "--seeds", "0,1", "--controls", "mean", "--rate-factors", "1,2")
    printed = ld3m("compare", *arguments, "--dry-run").out
    counted = "# 12 rows: 8 that distil, 2 of pictures that learn nothing, 2 of random real images"
    assert printed.splitlines()[0] == counted
    (tmp_path / "grid.yaml").write_text(printed)
    assert ld3m("compare", "--grid", "grid.yaml", "--dry-run").out == printed


def test_a_dry_run_of_a_comparison_refuses_what_the_comparison_would(ld3m):
    refused = ld3m("compare", "--generators", "pixel", "--rate", "pixel.pixles=1", "--dry-run")
    assert refused.code == 2
    assert "did you mean 'pixels'" in refused.err
