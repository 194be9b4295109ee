"""Rewrite the blocks of docs/commands.md that show what `ld3m` prints. A test compares them.

usage: python scripts/update_commands.py
"""

import re
import subprocess
import sys
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "commands.md"


def printed(match: re.Match[str]) -> str:
    """The block of a command, with what the command prints now."""
    environment = {"PATH": "", "LD3M_PLUGINS": "", "COLUMNS": "100", "TERMINAL_WIDTH": "100"}
    command = [sys.executable, "-P", "-m", "ld3m_plugin", *match[1].split()]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout  # noqa: S603
    return f"```\n$ ld3m {match[1]}\n{output.rstrip()}\n```"


text = DOCUMENT.read_text(encoding="utf-8")
DOCUMENT.write_text(re.sub(r"```\n\$ ld3m (.*)\n(?:.*\n)*?```", printed, text), encoding="utf-8")
