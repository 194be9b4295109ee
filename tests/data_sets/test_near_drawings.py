"""`scripts/near_drawings.py`: which drawings of different groups look alike."""

import pytest
import torch


def test_likeness_by_hand(load_script):
    ink = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    found = load_script("near_drawings").likeness(ink)
    # 1 - |a - b|^2 / (|a|^2 + |b|^2): the same 1, nothing in common 0, half in common 1 - 1 / 3.
    assert found[0].tolist() == pytest.approx([1.0, 1.0, 0.0, 2 / 3])
    assert found[2, 3].item() == pytest.approx(1 - 2 / 6)


@pytest.mark.slow
def test_in_one_task_no_two_drawings_but_faces_look_alike_across_groups(load_script, capsys, monkeypatch):
    script = load_script("near_drawings")
    monkeypatch.setattr("sys.argv", ["near_drawings.py"])
    script.main()
    first, *others = capsys.readouterr().out.splitlines()
    assert first == "583 pairs above 0.93, 507 of two faces; the others:"
    assert len(others) == 76
    (line,) = (line for line in others if not line.endswith("no task"))
    assert line == "0.937  face with hand over mouth (validation), rosette (test): main"
