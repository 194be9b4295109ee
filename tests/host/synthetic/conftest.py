"""The loops of docs/existing-code.md: what its diffs say before and after."""

import contextlib
import io
import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "existing-code.md").read_text(encoding="utf-8")


class ExistingCode:
    """The page: `setup` (blocks up to the task), `blocks` (all that run), `diffs` by name of the loop."""

    def __init__(self):
        self.blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
        self.setup = self.blocks[:2]
        diffs = re.findall(r"```diff\n(.*?)```", PAGE, re.DOTALL)
        self.diffs = dict(zip(("dm", "dc", "mtt"), diffs, strict=True))

    def before(self, name):
        """The loop as somebody has it."""
        return "".join(line[1:] + "\n" for line in self.diffs[name].splitlines() if line[0] != "+")

    def after(self, name):
        """The loop with `Synthetic`."""
        return "".join(line[1:] + "\n" for line in self.diffs[name].splitlines() if line[0] != "-")

    def run(self, *sources, **names):
        """Run sources one after the other in one namespace, which is returned; seeds are set, and set back."""
        names = {"__name__": "existing_code", **names}
        with torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(io.StringIO()):
            torch.manual_seed(0)
            for source in sources:
                exec(compile(source, "docs/existing-code.md", "exec"), names)  # noqa: S102 (the page's own code)
        return names


@pytest.fixture(scope="session")
def existing_code():
    return ExistingCode()
