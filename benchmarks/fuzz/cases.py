"""The kinds of cases. Each makes an input from its generator, and hands it to the product."""

import contextlib
import io
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import yaml

from backtest_batch.analysis.ranking import Ranking
from backtest_batch.api.batches import Task, run_batch
from backtest_batch.cli import compare
from backtest_batch.cli.main import exit_code_of
from backtest_batch.compose.arguments import read_arguments, read_batch_file, readable
from backtest_batch.core.data.cache import cache_dir
from backtest_batch.core.data.load import load_panel
from backtest_batch.core.data.sources import Csv, Parquet
from backtest_batch.records import RunRecord, RunResult, RunSpec
from backtest_batch.store.address import resolve_uri
from backtest_batch.store.mlflow_run import BatchInfo, EquityCurve
from backtest_batch.store.selection import select_runs
from backtest_batch.store.spool import Spool, record_spool
from backtest_batch.store.store import open_store
from benchmarks.fuzz.mutation import (
    chosen,
    damaged_bytes,
    damaged_text,
    some_text,
    swapped_lines,
)

SMALL = ("data=synthetic", "data.n_bars=300", "data.n_assets=3", "n_jobs=1")
KEYS = (
    *("commission_bps", "seed", "rebalance", "start_date", "max_weight", "execution_price"),
    *("batch_name", "description", "tags", "tags.suite", "tag_names", "rank_by", "constraints"),
    *("strategy", "strategy.fast", "strategy.slow", "strategy._target_", "data", "data.symbols"),
    *("data.freq", "walk_forward", "walk_forward.train", "param_grid", "runs", "n_jobs", "top_n"),
    *("output_dir", "tracking.uri", "tracking.experiment", "resume", "best", "batch_file"),
    *("experiment", "hydra.mode", "hydra.launcher.backend", "hydra/launcher", "hydra.verbose"),
    *("scenario_axes", "filter_tags", "periods_per_year", "nope", "strategi", "a b", "é", ""),
)
LIKELY = {
    "commission_bps": ("0", "0.5", "-1", "nan", "1e400", "abc", "null", "[1,2]"),
    "max_weight": ("0.1", "null", "0", "${max_gross_exposure}", "${nope}", "true"),
    "start_date": ("2002-01-01", "2002", "20020101", "02/01/2002", "null", "2050-01-01", "today"),
    "execution_lag": ("0", "1", "1_000", "1.5", "-0"),
    "rebalance": ("W", "M", "bar", "w", "null"),
    "strategy": ("custom", "equal_weight", "glob(*)", "null", "{fast: 5}", "it's", "../x", "."),
    "strategy.fast": ("5", "90", "range(5,20,5)", "five", "null", "{a: 1}", "1e3"),
    "strategy._target_": (
        "os.system",
        "nope",
        "mine.A",
        "backtest_batch.strategies.EqualWeight",
    ),
    "data.symbols": ("[S00,S01]", "[^GSPC]", "S00", "[]", "null", "[1,true]", "[S00,S00]"),
    "data.freq": ("1d", "5min", "1y", "null"),
    "tags": ("{a: 1}", "{a: {b: [1]}}", "{1: 2}", "{batch_id: x}", "{'S&P': 1}", "x", "null"),
    "tag_names": ("[a,b]", "['']", "a", "[mlflow.x]", "[1]"),
    "param_grid": ("{seed: [1,2]}", "{seed: []}", "{n_jobs: [1,2]}", "{}", "[1]", "{a: {b: 1}}"),
    "runs": ("[{id: a}, {id: a}]", "[{seed: 1}]", "[]", "[1]", "{a: 1}", "[{nope: 1}]"),
    "rank_by": ("sharpe", "nope", "{sharpe: 1}", "{sharpe: -1}", "null", "[sharpe]"),
    "constraints": ("{sharpe: >= 1}", "{sharpe: x}", "sharpe", "{nope: > 1}", "[1]"),
    "walk_forward": ("rolling", "none", "combinatorial", "null", "{train: x}"),
    "n_jobs": ("-1", "0", "2.5", "1e3"),
    "profiling": ("true", "{enabled: true}", "{nope: 1}"),
    "hydra.launcher.backend": ("loky", "nope", "null"),
    "hydra/launcher": ("joblib", "basic", "nope"),
    "hydra/sweeper": ("basic", "batch"),
    "batch_file": ("inputs/batch.yaml", "inputs/none.yaml", "inputs", "/dev/null"),
    "best": ("inputs/wide.csv", "none", "inputs"),
    "resume": ("latest", "none", "''"),
    "output_dir": ("inputs/out", "inputs/wide.csv/x", "''"),
    "tracking.uri": ("file:///x", "http://[::1", "sqlite:///inputs/wide.csv", "nope://x", "''"),
}
OPTIONS = ("-m", "--multirun", "--config-dir", "--cfg", "--info", "-x", "--nope=1", "--", "-")
BATCH = {
    "batch_name": "costs",
    "data": "synthetic",
    "start_date": "2002-01-01",
    "tags": {"suite": "a b", "n": 3},
    "strategy": {"fast": 10, "weights": {"BRK.B": 0.5}},
    "rank_by": {"sharpe": 0.5, "calmar": 0.5},
    "param_grid": {"max_gross_exposure": [0.6, 1.0], "commission_bps": [0.0, 1e-3]},
}
FILTERS = (
    "metrics.sharpe > 0.5",
    "params.`strategy.fast` = '10'",
    "tags.suite = 'x' and metrics.calmar <= 1e-3",
    "attributes.status = 'FINISHED'",
    "tags.batch_name LIKE '%a%'",
)
CONSTRAINTS = (
    {"max_drawdown": ">= -0.3"},
    {"trades": "> 10", "sharpe": ">=0.5"},
    {"sharpe": "!= 1", "turnover": "<= 1e2"},
)


@dataclass(frozen=True)
class Ground:
    """What the cases share: a working directory with a store that has runs, and whole files."""

    folder: Path

    @property
    def inputs(self) -> Path:
        """Folder of what the cases write themselves."""
        return self.folder / "inputs"


def prepare(folder: Path) -> Ground:
    """Make the ground in an empty folder, which is the working directory."""
    ground = Ground(folder)
    ground.inputs.mkdir()
    index = pd.bdate_range("2020-01-01", periods=40, name="timestamp")
    steps = np.random.default_rng(1).normal(0, 0.01, (40, 3)).cumsum(axis=0)
    closes = pd.DataFrame(100 * np.exp(steps), index, ["A", "B", "C D"])
    stacked: Any = closes.rename_axis(columns="symbol").stack()
    bars = stacked.rename("close").reset_index()
    bars["volume"] = 1_000.0
    for name, frame in (("wide", closes.reset_index()), ("long", bars)):
        frame.to_csv(ground.inputs / f"{name}.csv", index=False)
        frame.to_parquet(ground.inputs / f"{name}.parquet")
    asked = read_arguments(["-m", *SMALL, "strategy.fast=5,10", "tags.suite=x"])
    run_batch(asked, Task(io.StringIO()))
    return ground


def _likely(rng: random.Random) -> list[str]:
    """Return keys that exist, with values that they might have."""
    given = []
    for key in dict.fromkeys(chosen(rng, sorted(LIKELY), 1, 4)):
        values = chosen(rng, LIKELY[key], 1, rng.choice((1, 1, 3)))
        given.append(f"{key}={','.join(values)}")
    if rng.random() < 0.6:
        given += _typed(rng)[:1]
    return given


def _typed(rng: random.Random) -> list[str]:
    arguments = []
    for _ in range(rng.randint(1, 4)):
        if rng.random() < 0.1:
            arguments.append(rng.choice(OPTIONS))
            continue
        values = ",".join(some_text(rng) for _ in range(rng.choice((1, 1, 1, 2, 3))))
        prefix, sign = rng.choice(("", "", "", "", "+", "~", "++")), rng.choice("=====  ")
        argument = f"{prefix}{rng.choice(KEYS)}{sign}{values}"
        arguments.append(damaged_text(rng, argument) if rng.random() < 0.2 else argument)
    # No shell can pass it on.
    return [argument.replace("\0", "") for argument in arguments]


def arguments(rng: random.Random, ground: Ground) -> None:
    """Read arguments as a shell hands them over."""
    typed = readable(_typed(rng))
    list(read_arguments(typed).given())


def command(rng: random.Random, ground: Ground) -> None:
    """Run a command in this process, up to the batch that it would run."""

    def keep(request: Any, **_: Any) -> SimpleNamespace:
        for number, _composition in enumerate(request.compositions):
            if number == 20:
                break
        return SimpleNamespace(exit_code=0, values=[])

    given = [*SMALL, *_likely(rng)]

    def work() -> int:
        run_batch(read_arguments(readable(given)), Task(io.StringIO(), keep))
        return 0

    _said(given, lambda: exit_code_of(work))


def comparison(rng: random.Random, ground: Ground) -> None:
    """Compare in this process."""
    condition = damaged_text(rng, rng.choice(FILTERS)).replace("\0", "")
    constraints = damaged_text(rng, "{sharpe: >= 0.5}").replace("\0", "")
    given = ["batch=latest", f"filter={condition}", f"constraints={constraints}"]
    given = rng.sample(given, rng.randint(1, 3))
    _said(given, lambda: compare.main(given))


def process(rng: random.Random, ground: Ground) -> None:
    """Run a command in a process of its own."""
    module = rng.choice(("backtest_batch", "backtest_batch", "backtest_batch.compare"))
    small = [] if module.endswith("compare") else [*SMALL, "dry_run=true"]
    given = [*small, *(_likely(rng) if small else _typed(rng))]
    done = subprocess.run(
        [sys.executable, "-m", module, *given],
        check=False,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )
    check_ending(given, done.returncode, done.stderr.decode())


def _said(given: list[str], work: Callable[[], int]) -> None:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = work()
    check_ending(given, code, err.getvalue())


def check_ending(given: list[str], code: int, err: str) -> None:
    """Say what is wrong with the ending of a command.

    Raises
    ------
    AssertionError
        When the exit code is not a documented one, or its message is no message.
    """
    assert code in (0, 1, 2, 3), f"{given}: exit {code}: {err}"
    if code == 2:
        assert err.strip(), f"{given}: exit 2 without a word"
        check_message(err)
    else:
        assert "Traceback" not in err, f"{given}: {err}"


INTERNAL = (
    *("Traceback", "HYDRA_FULL_ERROR", "full_key", "object_type", " object at 0x", "NoneType"),
    *("LexerNoViableAlt", "mismatched input", "extraneous input", "<class ", "hydra.cc"),
    *("omegaconf.", "pandas.", "sqlalchemy", "sqlite3.", "pyarrow."),
)
"""Words of what is inside, which nobody outside can use."""


def check_message(text: str) -> None:
    """Say what makes a message unreadable.

    Raises
    ------
    AssertionError
        When it holds control characters or words of what is inside, or is endless.
    """
    odd = [char for char in text if not char.isprintable() and char not in "\n\t"]
    assert not odd, f"control characters {odd[:5]} in {text!r}"
    found = [word for word in INTERNAL if word in text]
    assert not found, f"words of the inside {found} in {text!r}"
    assert len(text) < 8_000, f"{len(text)} characters: {text[:500]!r}"


def batch_file(rng: random.Random, ground: Ground) -> None:
    """Read a batch file, YAML or JSON."""
    suffix = rng.choice((".yaml", ".yaml", ".json"))
    text = json.dumps(BATCH, indent=1) if suffix == ".json" else yaml.safe_dump(BATCH)
    text = swapped_lines(rng, text) if rng.random() < 0.5 else damaged_text(rng, text)
    path = ground.inputs / f"batch{suffix}"
    path.write_bytes(
        damaged_bytes(rng, text.encode()) if rng.random() < 0.3 else text.encode(errors="replace")
    )
    for item in read_batch_file(path):
        readable([item.text])


def constraint(rng: random.Random, ground: Ground) -> None:
    """Read what ranks: a metric, weights and constraints."""
    given: Any = dict(rng.choice(CONSTRAINTS))
    for name in list(given):
        if rng.random() < 0.7:
            given[name] = rng.choice((damaged_text(rng, given[name]), None, 3, [1], {}, True))
        if rng.random() < 0.3:
            given[some_text(rng)] = given.pop(name)
    weights = {some_text(rng): rng.choice((1, -1, 0, "x", None, float("nan"), 1e308, True))}
    rank_by: Any = rng.choice(("sharpe", some_text(rng), weights, {"sharpe": 1.0} | weights, [], 3))
    Ranking.parse(rank_by, rng.choice((given, some_text(rng), None, [])), "rank")


def condition(rng: random.Random, ground: Ground) -> None:
    """Select runs by a filter in MLflow's language, tags and names of batches."""
    store = open_store(resolve_uri(None, ground.folder), "backtest_batch", create=False)
    with contextlib.closing(store):
        text = rng.choice(("", damaged_text(rng, rng.choice(FILTERS))))
        tags = rng.choice((None, None, {"suite": "x"}, {some_text(rng): some_text(rng)}, ["a", 3]))
        batch = rng.choice((None, "latest", some_text(rng), chosen(rng, ("latest", "x", ""), 1, 3)))
        select_runs(store, batch=batch, filter_tags=tags, filter_string=text)


def csv_bytes(rng: random.Random, ground: Ground) -> None:
    """Load a damaged CSV file."""
    content = (ground.inputs / rng.choice(("wide.csv", "long.csv"))).read_bytes()
    if rng.random() < 0.5:
        content = swapped_lines(rng, content.decode()).encode(errors="replace")
    else:
        content = damaged_bytes(rng, content)
    path = ground.inputs / "damaged.csv"
    path.write_bytes(content)
    options: Any = {} if rng.random() < 0.7 else {"separator": rng.choice(";\t|ä"), "decimal": ","}
    load_panel(Csv(path=str(path), **options))


def parquet_bytes(rng: random.Random, ground: Ground) -> None:
    """Load a damaged Parquet file."""
    content = (ground.inputs / rng.choice(("wide.parquet", "long.parquet"))).read_bytes()
    path = ground.inputs / "damaged.parquet"
    path.write_bytes(damaged_bytes(rng, content))
    load_panel(Parquet(path=str(path)))


def cache_bytes(rng: random.Random, ground: Ground) -> None:
    """Load prices past a damaged file of the cache: they are the same as without it."""
    source = Csv(path=str(ground.inputs / rng.choice(("wide.csv", "long.csv"))))
    panel = load_panel(source)
    files = [
        path
        for path in sorted(cache_dir().rglob("*"))
        if path.is_file() and path.parent.name != "numba" and "numba" not in path.parts
    ]
    damaged = rng.choice(files)
    content = damaged.read_bytes()
    damaged.chmod(0o600)
    damaged.write_bytes(damaged_bytes(rng, content))
    again = load_panel(source)
    assert again.fingerprint == panel.fingerprint, f"{damaged} changed a panel"
    assert np.array_equal(np.asarray(again.close), np.asarray(closes_of(source))), str(damaged)


def closes_of(source: Csv) -> Any:
    """Return the closes of a source as they stand in its file."""
    frame = pd.read_csv(str(source.path), float_precision="round_trip")
    if "symbol" in frame:
        frame = frame.pivot(index="timestamp", columns="symbol", values="close").reset_index()
    return frame.drop(columns="timestamp").to_numpy(dtype=np.float64)


def spool_bytes(rng: random.Random, ground: Ground) -> None:
    """Record a spool with a damaged file."""
    info = BatchInfo(
        batch_id=f"20260101T000000Z-{rng.getrandbits(24):06x}",
        batch_name="spooled",
        n_runs=1,
        started_ms=1_767_225_600_000,
    )
    uri = resolve_uri(None, ground.folder)
    place = ground.inputs / "spool"
    shutil.rmtree(place, ignore_errors=True)
    spool = Spool(place, store_uri=uri, experiment="backtest_batch", batch=info, parent_run_id=None)
    record = _record(rng, ground)
    spool.add(record)
    steps = np.arange(5, dtype=np.int64)
    spool.add_curve(
        record.spec, EquityCurve(steps=steps, equity=np.arange(1.0, 6.0), drawdown=np.zeros(5))
    )
    spool.add_texts(record.spec, {"equity.html": "<p>"})
    spool.finish("FINISHED", tags={"n_finished": 1}, artifacts=None, note="# One")
    damaged = rng.choice([path for path in sorted(spool.folder.rglob("*")) if path.is_file()])
    damaged.write_bytes(damaged_bytes(rng, damaged.read_bytes()))
    with contextlib.redirect_stdout(io.StringIO()):
        record_spool(spool.folder, store_uri=uri)


def _record(rng: random.Random, ground: Ground) -> RunRecord:
    spec = RunSpec(
        index=0,
        run_id="run_base",
        run_name="base",
        run_key=f"{rng.getrandbits(256):064x}",
        config_hash="c0" * 32,
        swept={"seed": 1},
        config={"batch_name": "spooled", "seed": 1, "data": {}, "strategy": {}, "tags": {}},
        overrides=("seed=1",),
        data_fingerprint="d4" * 32,
        code_fingerprint="e5" * 32,
        strategy_seed=7,
        first_bar=0,
        n_bars=40,
    )
    files = ground.inputs / "files"
    files.mkdir(exist_ok=True)
    (files / "run.json").write_text("{}")
    outcome = RunResult(
        metrics={"sharpe": 0.5},
        undefined_metrics=("calmar",),
        tags={},
        runtime_s=0.25,
        cpu_s=0.125,
        peak_rss_mb=150.5,
        chunk_runs=1,
        artifacts=files,
    )
    times = {"started_ms": 1_767_225_600_000, "ended_ms": 1_767_225_600_500}
    return RunRecord(spec=spec, outcome=outcome, attempts=1, **times)


KINDS: dict[str, tuple[Callable[[random.Random, Ground], None], int]] = {
    "arguments": (arguments, 260),
    "batch_file": (batch_file, 200),
    "constraint": (constraint, 120),
    "csv_bytes": (csv_bytes, 120),
    "parquet_bytes": (parquet_bytes, 80),
    "cache_bytes": (cache_bytes, 50),
    "condition": (condition, 50),
    "spool_bytes": (spool_bytes, 30),
    "command": (command, 60),
    "comparison": (comparison, 20),
    "process": (process, 10),
}
"""The kinds, and how many of a thousand cases are of each."""


def plan(n_cases: int, kinds: list[str] | None = None) -> Iterator[tuple[str, int]]:
    """Yield kind and number of each case."""
    wanted = {name: share for name, (_, share) in KINDS.items() if not kinds or name in kinds}
    total = sum(wanted.values())
    for name, share in wanted.items():
        for number in range(max(1, round(n_cases * share / total))):
            yield name, number
