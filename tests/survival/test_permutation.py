"""kill -9 while the permutation test runs: what is known of the markets is not computed again."""

import json
from pathlib import Path

from tests.support.commands import SMALL_MARKET, Command, wait_for

SWEEP = (
    *("-m", *SMALL_MARKET, "n_jobs=2", "strategy=custom", "strategy._target_=unhurried.Unhurried"),
    *("strategy.number=1,2,3", "permutation_test.n=40"),
)

UNHURRIED = """
import time
import numpy as np


class Unhurried:
    def __init__(self, number: int = 0):
        self.number = number

    def target_weights(self, panel, decisions):
        time.sleep(0.02)
        rising = panel.close.pct_change(5 * self.number).to_numpy()[decisions] > 0
        return rising / panel.n_assets
"""


def begin(command: Command):
    command.folder.mkdir(exist_ok=True)
    (command.folder / "unhurried.py").write_text(UNHURRIED)
    return command.start(*SWEEP)


def markets(folder: Path) -> list[tuple[int, float]]:
    """Return what has been written down."""
    (file,) = [*folder.glob("mlruns/batches/*/.scratch-*/permuted_markets.jsonl")] or [None]
    lines = [] if file is None else file.read_text().splitlines()
    found = [json.loads(line)[1] for line in lines if line.endswith("]")]
    return [(values["number"], values["best"]) for values in found]


def result(command: Command) -> dict[str, object]:
    return json.loads(command.report("overfitting.json").read_text())["permutation"]


def test_killed_in_the_middle_the_test_goes_on_with_the_markets_that_are_left(
    command: Command, tmp_path: Path, environment: dict[str, str]
) -> None:
    whole = Command(tmp_path / "whole", environment)
    ended = whole.end(begin(whole))
    assert ended.returncode == 0, ended.stderr
    assert "on 40 permuted markets" in ended.stderr
    process = begin(command)
    wait_for(lambda: len(markets(command.folder)) >= 5, of=process)
    process.kill()
    process.communicate()
    known = markets(command.folder)
    assert 5 <= len(known) < 40
    process = command.start("resume=latest", "n_jobs=1")
    wait_for(lambda: len(markets(command.folder)) > len(known), of=process)
    assert [number for number, _ in markets(command.folder)][: len(known)] == [
        number for number, _ in known
    ]
    ended = command.end(process)
    assert ended.returncode == 0, ended.stderr
    assert result(command) == result(whole)
    assert result(command)["n"] == 40
    runs = command.recorded().runs
    assert sorted(runs["status"]) == ["FINISHED"] * 3
    again = command.run("resume=latest")
    assert "is complete" in again.stdout
