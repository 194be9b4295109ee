"""The loops of docs/existing-code.md before and after the change: lines changed, last loss, and peak memory; a table in Markdown.

    python scripts/measure_own_loops.py [dm dc mtt]

Each form runs in a process of its own, forked once the page's setup has run.
Memory is the growth of the largest resident set (MiB) from before the loop to its end.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import resource
import sys
from pathlib import Path

_CONFTEST = Path(__file__).parents[1] / "tests" / "host" / "synthetic" / "conftest.py"
_LINE = 'syn = ld3m.Synthetic("ld3m", task, steps=2)'
_FORMS = {
    "before": None,
    "after": 'syn = ld3m.Synthetic("ld3m", task, steps=10, memory="graph")',
    "after, 1 row at a time": 'syn = ld3m.Synthetic("ld3m", task, steps=10, memory="graph", render_batch=1)',
}
_WARM_UP = """network()(images_all[:2]).sum().backward()
with torch.no_grad():
    ld3m.Synthetic("ld3m", task, steps=1, render_batch=1)()
"""


def loops():
    """The loops of the page."""
    spec = importlib.util.spec_from_file_location("existing_code_of_tests", _CONFTEST)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ExistingCode()


def peak() -> float:
    """Largest resident set of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(code, names, source: str, answer) -> None:
    """Run one form of one loop, and send its last loss and its memory."""
    code.run(_WARM_UP, **names)  # libraries count once they are read
    before = peak()
    found = code.run(source, **names)
    answer.send(f"{float(found['loss'].detach()):.4g} | {peak() - before:.0f}")


def main() -> None:
    """Print the table."""
    code, fork = loops(), multiprocessing.get_context("fork")
    names = code.run(*code.setup)
    print("| loop | lines changed | form | last loss | peak memory (MiB) |\n| --- | ---: | --- | ---: | ---: |")
    for style in sys.argv[1:] or code.diffs:
        changed = sum(line[0] == "+" for line in code.diffs[style].splitlines())
        for form, line in _FORMS.items():
            source = code.before(style) if line is None else code.after(style).replace(_LINE, line)
            ours, theirs = fork.Pipe()
            process = fork.Process(target=measure, args=(code, names, source, theirs))
            process.start()
            print(f"| {style.upper()} | {changed} | {form} | {ours.recv()} |", flush=True)
            process.join()


if __name__ == "__main__":
    main()
