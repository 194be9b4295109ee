"""Files: bounded readers, writers that leave a complete file or none, locks, and the versions that records name."""

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
    check_writable,
    complete_file,
    complete_folder,
    is_temporary,
    own_temporary,
    put_in_place,
    remove_leftovers,
    write_json,
    write_tensors,
    write_text,
)
from ld3m_plugin.storage.held_signals import signals_held
from ld3m_plugin.storage.locks import LOCK, InUseError, locked
from ld3m_plugin.storage.package_versions import needed, versions
from ld3m_plugin.storage.regular_files import naming, open_regular
from ld3m_plugin.storage.sealed import read_sealed, write_sealed

__all__ = [
    "LOCK",
    "InUseError",
    "Refusal",
    "check_writable",
    "complete_file",
    "complete_folder",
    "is_temporary",
    "locked",
    "naming",
    "needed",
    "open_regular",
    "open_tensors",
    "own_temporary",
    "parse_json",
    "put_in_place",
    "read_json",
    "read_json_lines",
    "read_sealed",
    "read_tensors",
    "read_text",
    "remove_leftovers",
    "signals_held",
    "versions",
    "write_json",
    "write_sealed",
    "write_tensors",
    "write_text",
]
