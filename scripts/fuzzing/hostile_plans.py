"""Plans of hostile inputs, drawn by hypothesis. A plan is plain data; nothing here imports the package.

Hypothesis draws constants of the modules that are loaded. Where the package is not loaded, a change of the package does not
change what the number of an input stands for.
"""

from __future__ import annotations

import warnings
import zlib
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisWarning

#: One damage: what is done, and how.
Damage = tuple[Any, ...]
Plan = list[Damage]

#: Inputs are drawn in batches of this many, so that an input does not depend on how many are asked for.
BATCH = 50

#: Values that `damage.as_json` writes out: a plan stays short.
DEEP, LONG_TEXT, LONG_NUMBER, LONG_LIST = "<deep>", "<long text>", "<long number>", "<long list>"
NAMES = (
    *("a,b", "a\nb", "a\r\nb", "\x1b[31mred", "a\x00b", "\u202egnp.exe", "\u2028", "\ud800", "\udcff", "", " ", "."),
    *(
        "..",
        "../../x",
        "~root",
        "-x",
        "con",
        "a=b",
        "[bold]x",
        "<b>",
        "|a|b|",
        "```",
        "$(id)",
        "%s",
        "{0}",
        "é",
        "e\u0301",
    ),
    *("\ufeffa", "no", "1", "0x1F", "1e3", "null", "C#", "C++", "/dev/zero", "/proc/self/mem", "x" * 300, "犬", "🐕"),
)
_JUNK = (
    *(None, [], {}, [[]], [None], {"": None}, True, False, -1, 0, 1, 2, 3, 10**9, 2**31, 2**63, 10**30, -(2**63)),
    *(0.0, -0.0, 0.5, 1e308, 1e-320, float("nan"), float("inf"), -float("inf"), "nan", "true", "auto", "cuda:99"),
    *(DEEP, LONG_TEXT, LONG_NUMBER, LONG_LIST, "fuzz_canary:run", "ld3m_plugin.cli:main"),
)

junk = st.one_of(
    st.sampled_from(_JUNK),
    st.sampled_from(NAMES),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.recursive(
        st.sampled_from(_JUNK), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)
    ),
)
_where = st.lists(st.integers(0, 40), min_size=1, max_size=6)
_file = st.integers(0, 63)
_share = st.integers(0, 9999)  # of the file's length, in ten thousandths

json_edit = st.tuples(
    st.just("json"), _file, _where, st.sampled_from(["set", "set", "set", "delete", "add", "rename", "repeat"]), junk
)
header_edit = st.tuples(
    st.just("header"), _file, _where, st.sampled_from(["set", "set", "delete", "add", "rename"]), junk
)
tensor_edit = st.tuples(
    st.just("tensor"),
    _file,
    st.integers(0, 200),
    st.sampled_from(["nan", "inf", "empty", "drop", "half", "int", "bool", "complex", "rank", "row", "big", "rename"]),
)
bytes_edit = st.tuples(
    st.just("bytes"),
    _file,
    st.sampled_from(["flip", "flip", "cut", "insert", "zero", "append", "swap", "start"]),
    _share,
    st.binary(min_size=1, max_size=16),
)
file_edit = st.tuples(
    st.just("file"),
    _file,
    st.sampled_from(
        ["fifo", "zero", "folder", "dangling", "loop", "empty", "missing", "huge", "memory", "utf16", "own"]
    ),
)
text_edit = st.tuples(
    st.just("text"),
    _file,
    _share,
    st.sampled_from(
        [
            "!!python/object/apply:fuzz_canary.run []",
            "!!python/name:os.system ",
            "&a [*a]",
            "&a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
            "{" * 5000,
            "[" * 5000,
            "- " * 5000,
            "? " * 200,
            "<<: *a",
            "---\n",
            "...\n",
            "%YAML 9.9\n---\n",
            "%TAG ! x\n",
            "\x00",
            "\t",
            "\ufeff",
            "'",
            '"\\ud800"',
            '"\\x07"',
            "9" * 5000,
            "1e99999",
            "NaN",
            "Infinity",
            "0o777",
            "!!binary AAAA",
            "!!timestamp 2001-01-01",
            "=: 1\n",
            "\n\n",
            "#",
            "|",
            ">",
            "@",
        ]
    ),
)
pickle_edit = st.tuples(
    st.just("pickle"),
    _file,
    st.sampled_from(
        [
            "system",
            "popen",
            "exec",
            "eval",
            "import",
            "canary",
            "canary_object",
            "getattr",
            "codecs",
            "bomb",
            "memo",
            "deep",
            "long",
            "zeros",
            "hash",
            "number",
            "text",
            "none",
            "list",
            "numpy_load",
            "torch_load",
            "ctypes",
            "loader",
        ]
    ),
    st.integers(0, 5),
)
picture_edit = st.tuples(
    st.just("picture"),
    _file,
    st.sampled_from(
        [
            "postscript",
            "huge",
            "long",
            "sixteen",
            "float",
            "animated",
            "palette",
            "cmyk",
            "exif",
            "exif_bad",
            "ztxt",
            "iccp",
            "bmp",
            "gif",
            "webp",
            "tiff",
            "tiff_bad",
            "ppm_huge",
            "svg",
            "fits",
            "ico",
            "jpeg_cut",
            "apng",
            "dib",
            "text",
            "one_pixel",
            "tga_bomb",
        ]
    ),
)
name_edit = st.tuples(
    st.just("name"), _file, st.sampled_from([name for name in NAMES if "\x00" not in name and len(name) < 256])
)
_assignment = st.tuples(
    st.just("option"),
    st.sampled_from(["--set", "--set", "-G", "-O", "-D", "--networks", "--protocol", "--data", "-g", "-o", "--device"]),
    st.integers(0, 200),
    st.one_of(st.sampled_from(NAMES), st.sampled_from(_JUNK).map(str), st.text(max_size=12)),
    st.sampled_from(["plain", "plain", "list", "quoted", "nested", "no equals", "deeper"]),
)


def _plans(*damages: st.SearchStrategy[Damage], most: int = 3) -> st.SearchStrategy[Plan]:
    return st.lists(st.one_of(*damages), min_size=1, max_size=most)


#: Kind of input -> its plans.
STRATEGIES: dict[str, st.SearchStrategy[Plan]] = {
    "config": _plans(json_edit, json_edit, json_edit, text_edit, bytes_edit, file_edit),
    "options": _plans(_assignment),
    "protocol": _plans(json_edit, json_edit, text_edit, bytes_edit, file_edit),
    "class-map": _plans(json_edit, text_edit, bytes_edit, file_edit),
    "class-list": _plans(json_edit, text_edit, bytes_edit, file_edit),
    "distilled": _plans(json_edit, json_edit, header_edit, tensor_edit, bytes_edit, file_edit),
    "latents": _plans(header_edit, tensor_edit, tensor_edit, bytes_edit, file_edit),
    "published-set": _plans(pickle_edit, bytes_edit, file_edit),
    "run": _plans(json_edit, header_edit, tensor_edit, tensor_edit, bytes_edit, text_edit, file_edit),
    "experts": _plans(json_edit, json_edit, header_edit, header_edit, tensor_edit, bytes_edit, file_edit),
    "buffer": _plans(pickle_edit, bytes_edit, bytes_edit, file_edit),
    "ldm": _plans(json_edit, json_edit, json_edit, header_edit, tensor_edit, bytes_edit, file_edit),
    "gan": _plans(json_edit, json_edit, json_edit, header_edit, tensor_edit, bytes_edit, file_edit),
    "stylegan": _plans(pickle_edit, bytes_edit, bytes_edit, bytes_edit, file_edit),
    "compvis": _plans(json_edit, json_edit, pickle_edit, bytes_edit, text_edit, file_edit),
    "cifar": _plans(pickle_edit, bytes_edit, bytes_edit, file_edit),
    "idx": _plans(bytes_edit, bytes_edit, file_edit),
    "some-pictures": _plans(picture_edit, picture_edit, bytes_edit, name_edit, file_edit),
    "pictures": _plans(picture_edit, picture_edit, bytes_edit, name_edit, file_edit),
}
#: Of 1,000 inputs, how many are of each kind.
SHARES = {
    **{"config": 110, "options": 110, "protocol": 40, "class-map": 40, "class-list": 40, "distilled": 100, "run": 70},
    **{"latents": 60, "published-set": 40},
    **{"experts": 80, "buffer": 40, "ldm": 80, "gan": 70, "stylegan": 60, "compvis": 30, "cifar": 50, "idx": 30},
    **{"pictures": 50, "some-pictures": 50},
}


def draw_plans(kind: str, start: int, batch: int) -> list[Plan]:
    """Draw the plans of inputs `BATCH * batch` to `BATCH * (batch + 1) - 1` of a kind.

    Args:
        start: seed of all draws.
    """
    plans: dict[str, Plan] = {}

    @seed(zlib.crc32(f"{kind} {start} {batch}".encode()))
    @settings(
        max_examples=8 * BATCH,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(STRATEGIES[kind])
    def collect(plan: Plan) -> None:
        plans[repr(plan)] = plan

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HypothesisWarning)
        collect()
    # Neighbours are alike, since hypothesis also changes what it drew before.
    step = max(1, len(plans) // BATCH)
    return list(plans.values())[step - 1 :: step][:BATCH]
