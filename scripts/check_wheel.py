"""Compare a wheel with the tree: one top-level package, every module and data file in it, nothing else.

usage: python scripts/check_wheel.py WHEEL
"""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOMES = {"ld3m_plugin": "ld3m_plugin", "generators": "ld3m_plugin/generators", "objectives": "ld3m_plugin/objectives"}


def expected() -> set[str]:
    """Where each tracked file of the three folders belongs in the wheel."""
    listed = subprocess.run(  # noqa: S603
        ["git", "ls-files", *HOMES],  # noqa: S607
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\n")
    paths = [Path(line) for line in listed if line]
    return {str(Path(HOMES[path.parts[0]], *path.parts[1:])) for path in paths}


def main(wheel: str) -> int:
    """Print what differs; 0 if nothing does."""
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
    for name in sorted(expected() - shipped):
        print(f"not in the wheel: {name}")
    for name in sorted(shipped - expected()):
        print(f"in the wheel and not in the tree: {name}")
    print(f"{len(shipped)} files in {Path(wheel).name}")
    return int(shipped != expected())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
