"""The page: templates with escaping on, and a policy that lets nothing but its own style, script and images act."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ld3m_plugin.errors import visible

if TYPE_CHECKING:
    from jinja2 import Environment

_PARTS = files("ld3m_plugin.report") / "page_parts"
_NUMBER = re.compile(r"\s*<?\s*([-+]?[\d,]*\.?\d+(?:e[-+]?\d+)?)", re.IGNORECASE)


def rendered(template: str, **content: Any) -> str:
    """Render a template of `page_parts/`, with every text of `content` escaped and its hidden characters visible."""
    style, script = _part("style.css"), _part("sorting.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    from markupsafe import Markup

    own = {"policy": policy, "style": Markup(style), "script": Markup(script)}  # noqa: S704 (files of this package)
    return _environment().get_template(template).render(**content, **own)


def sort_value(cell: str) -> str:
    """What a cell is sorted by: its leading number, else its text.

    >>> sort_value("68.5 ± 2.1"), sort_value("<0.001"), sort_value("pixel")
    ('68.5', '0.001', 'pixel')
    """
    found = _NUMBER.match(cell)
    return found[1].replace(",", "") if found else cell


def numeric_columns(rows: Sequence[Sequence[str]]) -> set[int]:
    """The columns after the first in which a cell is a number: they are aligned at the right.

    >>> numeric_columns([("pixel", "", "dm"), ("glad", "1.5 ± 2", "dm")])
    {1}
    """
    columns = list(zip(*rows, strict=True))
    return {place for place, cells in enumerate(columns) if place and any(map(_NUMBER.match, cells))}


@cache
def _environment() -> Environment:
    from jinja2 import DictLoader, Environment, StrictUndefined

    sources = {part.name: part.read_text(encoding="utf-8") for part in _PARTS.iterdir() if part.name.endswith(".html")}
    environment = Environment(
        loader=DictLoader(sources),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters |= {"sort_value": sort_value, "numeric_columns": numeric_columns}
    return environment


def _finalize(value: Any) -> Any:
    """Applied to everything that a template prints, before it is escaped. Markup is a subclass of str and passes."""
    return visible(value) if type(value) is str else value


def _part(name: str) -> str:
    return (_PARTS / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
