"""Mistakes in a command line: one line that names them, and the exit code."""

import pytest

#: Arguments, and what the error must name: the mistake, where it was made or what was meant.
USAGE = {
    "generator": (["-g", "pixle"], ["'pixle'", "'pixel'"]),
    "objective": (["-o", "DN"], ["'DN'", "'dm'"]),
    "option of the generator": (["-G", "inti=noise"], ["'pixel'", "'inti'", "'init'"]),
    "option of the objective": (["-O", "batch_rael=4"], ["'dm'", "'batch_rael'", "'batch_real'"]),
    "value of an option": (["-O", "batch_real=none"], ["'dm'", "batch_real", "'none'"]),
    "no assignment": (["-O", "batch_real"], ["'batch_real'", "key=value"]),
    "setting": (["--set", "stepz=1"], ["'stepz'", "'steps'"]),
    "value of a setting": (["--set", "seed=-1"], ["seed", "-1"]),
    "preset": (["--preset", "dmeo"], ["'dmeo'", "'demo'"]),
    "configuration file": (["--config", "missing.yaml"], ["missing.yaml"]),
    "data set": (["--data", "fashion-mnits"], ["'fashion-mnits'", "'fashion-mnist'"]),
    "protocol": (["--protocol", "quik"], ["'quik'", "'quick'"]),
    "network of the evaluation": (["--networks", "ConvNet,Alexnett"], ["'Alexnett'", "'AlexNet'"]),
    "tracker": (["--set", "trackers=[jsnol]"], ["'jsnol'", "'jsonl'"]),
    "mixed precision": (["--autocast", "fp8"], ["autocast", "'fp8'"]),
}
ONLY_IN_A_RUN = {
    "device": (["--device", "gpu"], ["'gpu'"]),
    "device that is not here": (["--device", "cuda:77"], ["'cuda:77'"]),
    "network of the objective": (["-O", "network=ConvNett"], ["'ConvNett'", "'ConvNet'"]),
    "setting of that network": (["-O", "network_settings={widht: 8}"], ["'widht'", "'width'"]),
    "option of the data": (["-D", "image_sise=16"], ["'image_sise'", "'image_size'"]),
    "rate of another latent": (["--set", "optimizer.learning_rates.w=1"], ["'w'", "pixels"]),
    "no rate for SGD": (["--set", "optimizer.name=sgd"], ["pixels", "sgd", "--set"]),
}


@pytest.mark.parametrize(("arguments", "words"), USAGE.values(), ids=USAGE)
@pytest.mark.parametrize("dry", [True, False], ids=["dry run", "run"])
def test_a_wrong_name_or_value_is_one_line_and_code_2(ld3m, small, tmp_path, arguments, words, dry):
    outcome = ld3m("distill", *small, *arguments, "--out", "run", *(["--dry-run"] if dry else []))
    assert (outcome.code, outcome.out) == (2, "")
    assert [word for word in words if word not in outcome.error] == []
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("arguments", "words"), ONLY_IN_A_RUN.values(), ids=ONLY_IN_A_RUN)
def test_what_only_a_run_can_tell_is_one_line_and_code_2(ld3m, small, arguments, words):
    outcome = ld3m("distill", *small, *arguments, "--out", "run")
    assert (outcome.code, outcome.out) == (2, "")
    assert [word for word in words if word not in outcome.error] == []


CODES = {
    "help": (["--help"], 0),
    "version": (["--version"], 0),
    "nothing": ([], 2),
    "plugins": (["plugins"], 0),
    "presets": (["presets"], 0),
    "a preset": (["presets", "show", "demo"], 0),
    "dry run": (["distill", "--dry-run"], 0),
    "no distilled set": (["evaluate", "nowhere"], 2),
    "no distilled set to show": (["show", "nowhere"], 2),
    "no distilled set to export": (["export", "nowhere", "--to", "npz", "--out", "x"], 2),
    "no run to resume": (["distill", "--resume", "nowhere"], 2),
    "no run to report": (["report", "nowhere"], 2),
    "no comparison": (["compare", "status", "nowhere"], 2),
    "no prior": (["prior", "info", "nowhere"], 2),
    "unknown command": (["distil"], 2),
    "unknown flag": (["distill", "--stepz", "1"], 2),
    "flag below its range": (["distill", "--ipc", "0"], 2),
    "flag of another type": (["distill", "--steps", "many"], 2),
    "unknown backend to show": (["plugins", "show", "pixle"], 2),
    "unknown kind to show": (["plugins", "show", "pixel", "--kind", "generatr"], 2),
    "unknown preset to show": (["presets", "show", "dmeo"], 2),
    "resume with a setting": (["distill", "--resume", "nowhere", "--steps", "3"], 2),
    "resume with a dry run": (["distill", "--resume", "nowhere", "--dry-run"], 2),
}


@pytest.mark.parametrize(("arguments", "code"), CODES.values(), ids=CODES)
def test_exit_codes(ld3m, arguments, code):
    outcome = ld3m(*arguments)
    assert outcome.code == code, outcome
    assert "Traceback" not in outcome.err
    assert bool(outcome.err) == (code != 0)


@pytest.mark.slow
def test_an_error_of_a_real_process_is_one_line(new_process):
    done = new_process("-m", "ld3m_plugin", "plugins", "show", "pixle")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "'pixle'" in line
    assert "'pixel'" in line
