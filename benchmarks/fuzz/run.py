"""Run one case, and find out what is wrong with its ending."""

import contextlib
import os
import random
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from backtest_batch.errors import BacktestBatchError
from benchmarks.fuzz.cases import KINDS, Ground, check_message, prepare

LONGEST_SECONDS = 20.0


@dataclass(frozen=True)
class Finding:
    """What a case brought to light."""

    said: str
    error: BaseException | None = None


@contextlib.contextmanager
def place(folder: Path) -> Iterator[Ground]:
    """Prepare a folder for cases, and work in it."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield prepare(folder)
    finally:
        os.chdir(before)


def run_case(kind: str, number: int, seed: int, ground: Ground) -> Finding | None:
    """Run a case; None when it ended as it should."""
    run, _ = KINDS[kind]
    there = _names(ground.folder)
    begun = _processor_seconds()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run(random.Random(f"{seed} {kind} {number}"), ground)
    except BacktestBatchError as error:
        try:
            check_message(str(error))
        except AssertionError as wrong:
            return Finding(str(wrong), error)
    except AssertionError as wrong:
        return Finding(str(wrong), wrong)
    except BaseException as error:  # noqa: BLE001 - whatever comes is what is looked for
        return Finding(f"{type(error).__name__}: {error}", error)
    seconds = _processor_seconds() - begun
    if seconds > LONGEST_SECONDS:
        return Finding(f"took {seconds:.0f} s of processor time")
    new = _names(ground.folder) - there
    if new - {"mlruns"}:
        return Finding(f"wrote {sorted(new)}")
    return None


def _processor_seconds() -> float:
    """Return what this process and its ended children took, however busy the machine is."""
    return sum(os.times()[:4])


def _names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}
