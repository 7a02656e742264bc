"""The files of one run: configuration, equity, weights, trades, log, and its profile."""

import cProfile
import csv
import io
import json
import pstats
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from backtest_batch.core.backtest import Computed
from backtest_batch.core.data.panel import Panel
from backtest_batch.core.engine.simulation import Simulation
from backtest_batch.core.own_account import OwnAccount
from backtest_batch.masking import masked_values
from backtest_batch.ownership import Origin, origin, sign
from backtest_batch.records import RunSpec

_SIGNED_OVERRIDES = "overrides of run.json"


def write_run_files(
    folder: Path,
    run: RunSpec,
    panel: Panel,
    computed: Computed,
    provenance: Mapping[str, Any],
    signature: str = "",
) -> None:
    """Write the files of a run into ``folder``, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    write_equity(folder / "equity.parquet", panel, computed)
    if isinstance(computed.account, OwnAccount):
        _write_given(folder / "target_weights.parquet", computed.account.weights_given)
        _write_given(folder / "trades.parquet", computed.account.trades_given)
    else:
        _write_target_weights(folder / "target_weights.parquet", panel, computed.account)
        _write_trades(folder / "trades.parquet", panel, computed, computed.account)
    with (folder / "metrics.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["metric", "value"])
        rows.writerows([name, repr(value)] for name, value in computed.metrics.items())
        rows.writerows([name, ""] for name in computed.undefined)
    (folder / "config.yaml").write_text(
        yaml.safe_dump(masked_values(run.config), sort_keys=False, allow_unicode=True),
        encoding="utf-8",
    )
    write_json(folder / "run.json", run_document(run, provenance, signature))


def write_timings(folder: Path, timings: Mapping[str, float]) -> None:
    """Write profile/timings.json, seconds by step, into the folder of a run."""
    (folder / "profile").mkdir(exist_ok=True)
    write_json(folder / "profile" / "timings.json", timings)


def signature_of(overrides: Sequence[str]) -> str:
    """Return the user's signature of the arguments of a run; empty if there is none."""
    return sign(_SIGNED_OVERRIDES, json.dumps(list(overrides)))


def are_own(overrides: Sequence[str], signature: object) -> bool:
    """Return whether this user has signed the arguments of a run."""
    return origin(_SIGNED_OVERRIDES, json.dumps(list(overrides)), signature) is Origin.OWN


def run_document(
    run: RunSpec, provenance: Mapping[str, Any], signature: str = ""
) -> dict[str, Any]:
    """Return everything that is needed to repeat a run."""
    return {
        "run_id": run.run_id,
        "run_name": run.run_name,
        "run_key": run.run_key,
        "config_hash": run.config_hash,
        "data_fingerprint": run.data_fingerprint,
        "code_fingerprint": run.code_fingerprint,
        "strategy_seed": run.strategy_seed,
        "swept": dict(run.swept),
        "overrides": list(run.overrides),
        "signature": signature or None,
        "config": run.config,
        "provenance": dict(provenance),
    }


def write_json(path: Path, document: Any) -> None:
    """Write plain values as indented JSON, without secrets."""
    document = masked_values(document)
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False, default=str)
    path.write_text(text + "\n", encoding="utf-8")


def write_equity(path: Path, panel: Panel, computed: Computed) -> None:
    """Write equity.parquet: one row per measured bar, without columns that are not known."""
    account, skipped = computed.account, computed.n_left_out
    equity, scale = account.equity[skipped:], _scale(computed)
    beside = {
        name: None if values is None else values[skipped:]
        for name, values in (
            ("gross_exposure", account.gross_exposure),
            ("turnover", account.turnover),
            ("cost", account.cost),
        )
    }
    if skipped:
        equity = equity * scale
        # The account looks as if it had been opened at the close of the first measured bar.
        for name, factor in (("turnover", 1.0), ("cost", scale)):
            values = beside[name]
            if values is not None:
                beside[name] = np.concatenate(([0.0], values[1:] * factor))
    stamps = panel.index[computed.first_bar : computed.first_bar + len(equity)]
    peak = np.maximum.accumulate(equity)
    _write(
        path,
        {
            "timestamp": pa.array(stamps),
            "equity": equity,
            "net_return": pa.array(computed.net_return, from_pandas=True),
            "drawdown": equity / peak - 1.0,
            **{name: values for name, values in beside.items() if values is not None},
        },
    )


def _scale(computed: Computed) -> float:
    """Return the factor that makes equity at the first measured bar the initial capital."""
    if computed.n_left_out == 0:
        return 1.0
    account = computed.account
    return float(account.settings.initial_capital / account.equity[computed.n_left_out])


def _write_target_weights(path: Path, panel: Panel, simulation: Simulation) -> None:
    columns: dict[str, Any] = {"timestamp": pa.array(panel.index[simulation.decision_bars])}
    columns |= {
        symbol: np.ascontiguousarray(simulation.target_weights[:, position])
        for position, symbol in enumerate(panel.symbols)
    }
    _write(path, columns)


def _write_trades(path: Path, panel: Panel, computed: Computed, simulation: Simulation) -> None:
    trades, scale = simulation.trades(), _scale(computed)
    # Trades before the first measured bar of a fitted strategy are not in its metrics either.
    measured = trades.bar > computed.first_bar if computed.n_left_out else slice(None)
    symbols = pa.DictionaryArray.from_arrays(
        pa.array(trades.asset[measured], pa.int32()), pa.array(list(panel.symbols), pa.string())
    )
    _write(
        path,
        {
            "timestamp": pa.array(panel.index[trades.bar[measured]]),
            "symbol": symbols.cast(pa.string()),
            "shares": trades.shares[measured] * scale,
            "price": trades.price[measured],
            "value": trades.value[measured] * scale,
            "cost": trades.cost[measured] * scale,
        },
    )


def _write_given(path: Path, table: pd.DataFrame | None) -> None:
    """Write a table as a strategy gave it, its index first; none, if it gave none.

    An index beside a column ``timestamp`` numbers the rows, and is left out unless it has a name.
    """
    if table is None:
        return
    name = str(table.index.name or "timestamp")
    if not isinstance(table.index, pd.RangeIndex) and name not in table:
        table = table.rename_axis(index=name).reset_index()
    _write(path, {str(name): _as_arrow(table.iloc[:, n]) for n, name in enumerate(table.columns)})


def _as_arrow(column: "pd.Series[Any]") -> Any:
    try:
        return pa.array(column, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return pa.array([None if item is None else str(item) for item in column])


def _write(path: Path, columns: Mapping[str, Any]) -> None:
    pq.write_table(pa.table(dict(columns)), path, compression="zstd", use_dictionary=False)


TOP = 50


@contextmanager
def profiled(folder: Path) -> Iterator[None]:
    """Profile the block, and leave ``run.prof`` and ``stats.txt`` in ``folder``.

    The files are written however the block ends: a failing run is worth profiling too.
    """
    profile = cProfile.Profile()
    profile.enable()
    try:
        yield
    finally:
        profile.disable()
        folder.mkdir(parents=True, exist_ok=True)
        profile.dump_stats(folder / "run.prof")
        text = io.StringIO()
        pstats.Stats(profile, stream=text).sort_stats("cumulative").print_stats(TOP)
        (folder / "stats.txt").write_text(text.getvalue(), encoding="utf-8")
