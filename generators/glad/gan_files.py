"""Names of the files of a GAN prior, and the folders of those that are shipped; reading them imports no torch."""

from __future__ import annotations

from pathlib import Path

SHAPE, WEIGHTS = "network.json", "network.safetensors"

_EMBEDDED = Path(__file__).parent / "embedded"
#: Names that `network` accepts beside folders; `ld3m prior info` knows those that end in -gan.
SHIPPED = {
    "embedded": _EMBEDDED / "fashion-mnist",
    "embedded-gan": _EMBEDDED / "fashion-mnist",
    "embedded-emoji-gan": _EMBEDDED / "emoji",
}
