"""Another version of this project in a folder: whether it is one, and which."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

from ld3m_plugin.errors import UsageError

PROJECT = "ld3m-plugin"


def check_worktree(folder: Path) -> Path:
    """Return the folder in full, if it holds the sources of this project.

    Raises:
        UsageError: it does not.
    """
    advice = "give a worktree of this project (git worktree add FOLDER COMMIT)"
    try:
        content = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"--against {folder} has no pyproject.toml that can be read: {advice}") from error
    if content.get("project", {}).get("name") != PROJECT or not (folder / "ld3m_plugin" / "__init__.py").is_file():
        raise UsageError(f"--against {folder} does not hold the sources of {PROJECT}: {advice}")
    return folder.resolve()


def describe(folder: Path) -> dict[str, Any]:
    """The commit of a folder and whether its sources were changed since; empty where git or the history is missing."""
    commit = _git(folder, "rev-parse", "--short=7", "HEAD")
    if not commit or _git(folder, "ls-files", "pyproject.toml") == "":
        return {}
    return {"commit": commit, "changed": bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))}


def _git(folder: Path, *arguments: str) -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (git, found above)
    return done.stdout.strip() if done.returncode == 0 else None
