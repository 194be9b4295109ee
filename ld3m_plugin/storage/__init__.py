"""Files: bounded readers, writers that leave a complete file or none, and the versions that records name."""

from ld3m_plugin.storage.bounded import (
    Refusal,
    open_tensors,
    parse_json,
    read_json,
    read_json_lines,
    read_tensors,
    read_text,
)
from ld3m_plugin.storage.complete import (
    complete_folder,
    is_temporary,
    own_temporary,
    remove_leftovers,
    write_json,
    write_tensors,
    write_text,
)
from ld3m_plugin.storage.package_versions import versions
from ld3m_plugin.storage.regular_files import naming, open_regular

__all__ = [
    "Refusal",
    "complete_folder",
    "is_temporary",
    "naming",
    "open_regular",
    "open_tensors",
    "own_temporary",
    "parse_json",
    "read_json",
    "read_json_lines",
    "read_tensors",
    "read_text",
    "remove_leftovers",
    "versions",
    "write_json",
    "write_tensors",
    "write_text",
]
