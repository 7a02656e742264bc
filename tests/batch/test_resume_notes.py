from pathlib import Path

from backtest_batch.batch.returns import NAME, ResumeNotes


def test_what_was_added_is_read_back_exactly(tmp_path: Path) -> None:
    notes = ResumeNotes([tmp_path])
    notes.add("benchmark", {"x": {"sharpe": 0.1 + 0.2, "trades": 3}})
    notes.add("benchmark", {"y": {"sharpe": float("nan")}})
    notes.add("in_sample", {"x": {"sharpe": (0.5, float("inf"))}})
    found = notes.read("benchmark")
    assert found["x"] == {"sharpe": 0.1 + 0.2, "trades": 3}
    assert found["y"]["sharpe"] != found["y"]["sharpe"]
    assert notes.read("in_sample") == {"x": {"sharpe": [0.5, float("inf")]}}


def test_a_line_that_was_cut_off_costs_itself_alone(tmp_path: Path) -> None:
    notes = ResumeNotes([tmp_path])
    notes.add("benchmark", {"x": {"sharpe": 1.0}})
    file = tmp_path / NAME
    file.write_bytes(file.read_bytes()[:-9])
    notes.add("benchmark", {"y": {"sharpe": 2.0}})
    assert notes.read("benchmark") == {"y": {"sharpe": 2.0}}


def test_the_next_folder_stands_in(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    notes = ResumeNotes([tmp_path / "file", tmp_path / "spare"])
    notes.add("benchmark", {"x": {"sharpe": 1.0}})
    assert notes.read("benchmark") == {"x": {"sharpe": 1.0}}
    assert (tmp_path / "spare" / NAME).exists()


def test_nothing_makes_no_file(tmp_path: Path) -> None:
    ResumeNotes([tmp_path / "folder"]).add("benchmark", {})
    assert not (tmp_path / "folder").exists()
    assert ResumeNotes([tmp_path / "folder"]).read("benchmark") == {}
