"""The files that docs/data.md shows are read by what it says to type."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.sources import Csv

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text("utf-8")
TABLE = PAGE.partition("### Text\n")[2].partition("\n### ")[0]
ROWS = {
    cells[0].strip(): (cells[1], cells[2])
    for cells in (line.strip("|").split(" | ") for line in TABLE.splitlines())
    if len(cells) == 3 and "data.path" in cells[2]
}


@pytest.mark.parametrize("name", ROWS)
def test_a_file_that_is_shown_is_read_by_what_stands_beside_it(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    lines, command = ROWS[name]
    words = shlex.split(re.findall(r"`([^`]+)`", command)[0])
    assert words[0] == "data=csv"
    keys = dict(word.removeprefix("data.").split("=", 1) for word in words[1:])
    options = {key: yaml.safe_load(value) for key, value in keys.items()}
    file = Path(options["path"])
    file.parent.mkdir(exist_ok=True)
    file.write_text("\n".join([*re.findall(r"`([^`]+)`", lines), ""]), encoding="utf-8")
    panel = load_panel(Csv(**options))
    assert panel.n_bars in (2, 3)
    assert panel.close.iloc[0].min() > 1


def test_every_kind_of_file_is_there():
    assert len(ROWS) >= 13
