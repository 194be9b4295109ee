"""The `ld3m` command in this process, and what may not be in what it prints."""

from __future__ import annotations

import io
import os
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from ld3m_plugin import cli
from ld3m_plugin.errors import HostError

#: Characters that move a terminal's cursor, break a line, or turn the order of the letters after them.
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class RefusedError(HostError):
    """A command refused its input with an exit code and a line."""


class RawCharactersError(Exception):
    """Output has control characters that came from the input."""


def command(folder: Path, *words: str) -> None:
    """Run `ld3m` with these words.

    Raises:
        RefusedError: it ended with another exit code than 0.
        RawCharactersError: it printed control characters.
        Exception: what it did not turn into a line.
    """
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    before, code = sys.argv, 0
    sys.argv = ["ld3m", *words]
    os.chdir(folder)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            cli.main()
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    finally:
        sys.argv = before
        os.chdir("/")
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())  # type: ignore[attr-defined]
    if found := RAW.search("".join(texts)):
        raise RawCharactersError(
            f"ld3m {words[0]} printed {found[0]!r}: ...{''.join(texts)[max(0, found.start() - 60) :]!r:.200}"
        )
    if code:
        errors = [line for line in texts[1].splitlines() if line.startswith(("error: ", "Error"))]
        raise RefusedError(errors[-1] if errors else f"exit code {code}: {texts[1][-200:]!r}")


def check_text(path: Path) -> None:
    """Raise `RawCharactersError` if a text file that was written has raw characters of the input."""
    if found := RAW.search(path.read_text(encoding="utf-8")):
        raise RawCharactersError(f"{path.name} was written with {found[0]!r}")
