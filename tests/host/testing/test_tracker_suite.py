"""`check_tracker`: sound trackers pass, and each clause catches a tracker that breaks it."""

import json
from pathlib import Path

import pytest
import torch

from ld3m_plugin.contracts import Tracker
from ld3m_plugin.testing import check_tracker
from ld3m_plugin.trackers.jsonl import JsonLines


class Sound(Tracker):
    """Adds lines to a file."""

    def start(self, folder, config):
        self.path = folder / "lines.txt"

    def log(self, record):
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def test_sound_trackers_pass():
    check_tracker(Sound)
    check_tracker(JsonLines)


class Forgets(Sound):
    def start(self, folder, config):
        super().start(folder, config)
        self.path.write_text("", encoding="utf-8")


class ChangesRecords(Sound):
    def log(self, record):
        super().log(record)
        record["step"] = 0


class Beside(Sound):
    def start(self, folder, config):
        super().start(folder.parent, config)


class Here(Sound):
    def start(self, folder, config):
        super().start(Path(), config)


class Draws(Sound):
    def log(self, record):
        torch.rand(1)


@pytest.mark.parametrize(
    ("broken", "clause"),
    [
        (Forgets, "lines.txt has lost"),
        (ChangesRecords, "change neither"),
        (Beside, "run folder alone"),
        (Here, "run folder alone"),
        (Draws, "global random stream"),
        (dict, "dict is not"),
    ],
)
def test_each_clause_catches(broken, clause, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError, match=clause):
        check_tracker(broken)
