"""Print the oldest versions that the project states for its dependencies, one `name==version` a line, for pip.

torch and torchvision are left out: they belong together, are large, and the gate chooses them itself.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

LEFT_OUT = {"torch", "torchvision"}


def floors(extras: tuple[str, ...] = ("test",)) -> list[str]:
    """`name==version` of every requirement `name>=version` of the project and of `extras`."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stated = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    pairs = [re.fullmatch(r"([\w-]+)>=([\d.]+)", line) for line in stated]
    return [f"{pair[1]}=={pair[2]}" for pair in pairs if pair and pair[1] not in LEFT_OUT]


if __name__ == "__main__":
    print("\n".join(floors()))
