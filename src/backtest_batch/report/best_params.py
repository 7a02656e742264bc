"""The best runs with everything needed to repeat them, for programs and for people."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from backtest_batch.analysis.ranking import Ranking
from backtest_batch.analysis.run_table import NEIGHBOURHOOD, Label, RunTable, result_metric_names
from backtest_batch.analysis.scenarios import plain_value, value_as_typed
from backtest_batch.analysis.stability import edges
from backtest_batch.masking import masked_values
from backtest_batch.ownership import sign
from backtest_batch.report.tables import code_block, markdown_text, short_numbers

_FINGERPRINTS = ("data_fingerprint", "code_fingerprint")

ENVIRONMENT = ("host", "platform", "machine", "python", "hash_seed", "packages")
"""Facts about where a run was computed; if they are equal, so are its results, bit for bit."""

SIGNED_COMMAND = "command of best_params.json"
"""Purpose of the signature beside a command; see :func:`.ownership.sign`."""

COMMAND_KEYS = frozenset(
    ("batch_file", "best", "dry_run", "output_dir", "resume", "trust", "verify")
)
"""Keys of the command that computed a run, but not of the one that repeats it.

A run's own arguments hold ``param_grid`` and ``runs`` only as null, in case a file sets them.
"""


@dataclass(frozen=True, kw_only=True)
class RunDetails:
    """What the run table does not hold about a run.

    Attributes
    ----------
    config
        The full resolved configuration, plain values.
    command
        The command that repeats the run, one item per argument, not quoted, and without
        :data:`COMMAND_KEYS`. Empty when it is not known.
    mlflow_run_id
        Its id in the store; None if it was not recorded.
    environment
        Where it was computed: those of :data:`ENVIRONMENT` that are known.
    is_own
        Whether the command is this user's own, rather than one that others may have recorded.
    """

    config: Mapping[str, Any]
    command: Sequence[str]
    mlflow_run_id: str | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    is_own: bool = False

    @property
    def shell_command(self) -> str:
        """The command as typed into a shell."""
        return shlex.join(
            item for item in self.command if item.lstrip("+~").partition("=")[0] not in COMMAND_KEYS
        )


def best_rows(ranked: pd.DataFrame, top_n: int) -> list[Label]:
    """Return the index labels of the runs that best_params.json describes.

    Parameters
    ----------
    ranked
        What :func:`.rank_runs` returned.
    top_n
        How many of the best; the best of each scenario follow.
    """
    overall = list(ranked.index[ranked["rank"].notna()][:top_n])
    return list(dict.fromkeys([*overall, *ranked.index[ranked["rank_in_scenario"] == 1]]))


def best_params(
    table: RunTable,
    ranked: pd.DataFrame,
    ranking: Ranking,
    *,
    top_n: int,
    details: Mapping[Label, RunDetails],
    verdict: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return best_params.json.

    Parameters
    ----------
    table
        The runs.
    ranked
        What :func:`.rank_runs` returned for them.
    ranking
        How they were ranked.
    top_n
        How many of the best to describe.
    details
        By index label of the table, for each of :func:`best_rows`.
    verdict
        Skill or luck, as in overfitting.json.

    Returns
    -------
    dict
        Plain values: rank_by (metric: share), normalise, constraints, n_runs, n_ranked, verdict,
        ``top`` (the best runs in order of rank) and ``scenarios`` (the best run of each scenario,
        best scenario first). Each run: rank, rank_in_scenario, scenario, run_id, batch_id,
        run_key, mlflow_run_id, params (swept, typed), score, pareto, metrics (result metrics that
        are defined), sharpe_neighbourhood (null without neighbours), edges (ordered parameters at
        the lowest or highest value tried), data_fingerprint, code_fingerprint, command
        (shell-quoted), command_signature (only where the command is this user's own), config.
    """
    rows = best_rows(ranked, top_n)
    ranks, runs = _rows(ranked, rows), _rows(table.runs, rows)
    params, values = _rows(table.params, rows), _rows(table.metrics, rows)
    on_edge = _rows(edges(table), rows)
    positions = dict(zip(rows, table.runs.index.get_indexer(pd.Index(rows)).tolist(), strict=True))

    def entry(row: Label) -> dict[str, Any]:
        ranking, facts, about = ranks[row], runs[row], details[row]
        metrics = {name: value for name, value in values[row].items() if value == value}
        return {
            "rank": int(ranking["rank"]),
            "rank_in_scenario": int(ranking["rank_in_scenario"]),
            "scenario": table.scenario[row],
            "run_id": str(facts["run_id"]),
            "batch_id": plain_value(facts.get("batch_id")),
            "run_key": plain_value(facts.get("run_key")),
            "mlflow_run_id": about.mlflow_run_id,
            "params": {
                name: plain_value(value)
                for name, value in params[row].items()
                if table.levels[name].has[positions[row]]
            },
            "score": float(ranking["score"]),
            "pareto": bool(ranking["pareto"]),
            "metrics": {
                name: float(metrics[name])
                for name in result_metric_names(metrics)
                if name != NEIGHBOURHOOD
            },
            NEIGHBOURHOOD: plain_value(metrics.get(NEIGHBOURHOOD)),
            "edges": {name: side for name, side in on_edge[row].items() if side},
            **{name: plain_value(facts.get(name)) for name in _FINGERPRINTS},
            "environment": {
                name: about.environment[name] for name in ENVIRONMENT if name in about.environment
            },
            "command": about.shell_command,
            **_signature(about),
            "config": masked_values(about.config),
        }

    entries = {row: entry(row) for row in rows}
    return {
        "rank_by": dict(ranking.weights),
        "normalise": ranking.normalise,
        "constraints": {
            item.metric: f"{item.operator} {item.bound!r}" for item in ranking.constraints
        },
        "n_runs": len(table),
        "n_ranked": int(ranked["rank"].notna().sum()),
        "verdict": None if verdict is None else dict(verdict),
        "top": [item for item in entries.values() if item["rank"] <= top_n],
        "scenarios": [item for item in entries.values() if item["rank_in_scenario"] == 1],
    }


def _signature(about: RunDetails) -> dict[str, str]:
    signature = sign(SIGNED_COMMAND, about.shell_command) if about.is_own else ""
    return {"command_signature": signature} if signature else {}


def _rows(frame: pd.DataFrame, rows: Sequence[Label]) -> dict[Label, dict[str, Any]]:
    """Return some rows of a frame as mappings."""
    records = frame.loc[list(rows)].to_dict("records")
    return {
        row: {str(name): value for name, value in record.items()}
        for row, record in zip(rows, records, strict=True)
    }


def json_text(document: Mapping[str, Any]) -> str:
    """Return plain values as indented JSON that ends with a line feed.

    Parameters
    ----------
    document
        Plain values; numbers of numpy, dates and paths are accepted.

    Raises
    ------
    ValueError
        When it holds NaN or infinity, which JSON does not have.
    """
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    return text + "\n"


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)


def best_params_markdown(document: Mapping[str, Any]) -> str:
    """Return best_params_summary.md.

    Parameters
    ----------
    document
        What :func:`best_params` returned.
    """
    by = ", ".join(f"{name} ({share:.3g})" for name, share in document["rank_by"].items())
    lines = ["# Best parameters", ""]
    lines += [f"{document['n_ranked']} of {document['n_runs']} runs are ranked by {by}."]
    bounds = [f"{name} {bound}" for name, bound in document["constraints"].items()]
    if bounds:
        lines += ["", f"Constraints: {markdown_text('; '.join(bounds))}."]
    sentence = (document["verdict"] or {}).get("sentence")
    if sentence:
        lines += ["", f"Verdict: {markdown_text(str(sentence))}"]
    if not document["top"]:
        lines += ["", "No run could be ranked."]
    for item in document["top"]:
        lines += ["", f"## {item['rank']}. {markdown_text(item['run_id'])}", *_body(item)]
    shown = {(item["batch_id"], item["run_id"]) for item in document["top"]}
    rest = document["scenarios"] if len(document["scenarios"]) > 1 else []
    if rest:
        lines += ["", "# Best of each scenario"]
    for item in rest:
        lines += ["", f"## {markdown_text(item['scenario'])}", ""]
        lines += [f"{markdown_text(item['run_id'])}, rank {item['rank']} of all."]
        if (item["batch_id"], item["run_id"]) not in shown:
            lines += _body(item)
    return "\n".join(lines) + "\n"


def _body(item: Mapping[str, Any]) -> list[str]:
    """Return the text below the name of a run: parameters, metrics, command."""
    params = [(name, value_as_typed(value)) for name, value in item["params"].items()]
    metrics = [(name, short_numbers(name, [value])[0]) for name, value in item["metrics"].items()]
    if item[NEIGHBOURHOOD] is not None:
        metrics.append((NEIGHBOURHOOD, short_numbers(NEIGHBOURHOOD, [item[NEIGHBOURHOOD]])[0]))
    lines = [*_two_columns("parameter", params), *_two_columns("metric", metrics)]
    for name, side in item["edges"].items():
        lines += ["", f"{markdown_text(name)} has the {side} value tried: the grid ends there."]
    return [*lines, "", code_block(item["command"])]


def _two_columns(title: str, rows: Sequence[tuple[str, str]]) -> list[str]:
    if not rows:
        return []
    cells = [f"| {markdown_text(name)} | {markdown_text(value)} |" for name, value in rows]
    return ["", f"| {title} | value |", "| --- | ---: |", *cells]
