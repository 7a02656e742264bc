"""What a batch tries: its trials, and the source of the prices that they are tried on."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backtest_batch.analysis.scenarios import AxisKinds
from backtest_batch.arrays import FloatArray
from backtest_batch.batch.plan import Plan
from backtest_batch.config.schema import SWEEPABLE
from backtest_batch.core.data.sources.no_prices import has_no_prices
from backtest_batch.core.fingerprint import digest, is_neutral, without_neutral
from backtest_batch.records import BatchRequest, RunSpec

_OURS = "backtest_batch."


def decision_labels(runs: Sequence[RunSpec], kinds: AxisKinds) -> list[str]:
    """Return a hash of the researcher's choices in each run: equal choices, equal label.

    A user's strategy with changed code is another choice: changing it and running it again are two
    trials.

    Parameters
    ----------
    runs
        Planned runs.
    kinds
        Which keys are conditions rather than choices.
    """
    names = [
        name for name in sorted(SWEEPABLE) if kinds.divides(name) or not kinds.is_scenario(name)
    ]
    divided = frozenset(filter(kinds.divides, names))
    conditions = frozenset(filter(kinds.is_scenario, names))
    # Runs share the nodes of their data; there may be ten thousand runs.
    nodes: dict[int, str] = {}
    labels = []
    for run in runs:
        chosen: dict[str, Any] = {}
        for name in names:
            value = run.config[name]
            if isinstance(value, Mapping):
                if id(value) not in nodes:
                    part = _chosen(name, value, kinds) if name in divided else value
                    nodes[id(value)] = digest(without_neutral(name, part))
                chosen[name] = nodes[id(value)]
            elif name not in conditions and not is_neutral(name, value):
                chosen[name] = value
        own = not str(run.config["strategy"]["_target_"]).startswith(_OURS)
        labels.append(digest([chosen, run.code_fingerprint if own else None]))
    return labels


def _chosen(name: str, node: Mapping[str, Any], kinds: AxisKinds) -> dict[str, Any]:
    """Return the chosen part of a node, where keys below it are named."""
    chosen = {}
    for key, value in node.items():
        below = f"{name}.{key}"
        if kinds.divides(below) and isinstance(value, Mapping):
            chosen[key] = _chosen(below, value, kinds)
        elif not kinds.is_scenario(below):
            chosen[key] = value
    return chosen


def source_label(config: Mapping[str, Any]) -> str:
    """Return a hash of where the prices come from, whatever part of them is used."""
    node = config["data"]
    label = {key: node.get(key) for key in ("_target_", "path", "seed")}
    if has_no_prices(node):
        label["path"] = node.get("files")
    return digest(label)


def source_kind(config: Mapping[str, Any]) -> str:
    """Return the kind of the price source, such as ``CsvFile``."""
    return str(config["data"]["_target_"]).rpartition(".")[2]


@dataclass(frozen=True, kw_only=True)
class OneTrial:
    """Which runs are the same trial, because their returns are.

    Attributes
    ----------
    labels
        What was chosen in each run, as :func:`decision_labels` has it, and the label of the first
        run with the same returns in its scenario.
    same_as
        Position of that first run, by position of each further one.
    """

    labels: list[str]
    same_as: dict[int, int]

    def notes(self, names: Sequence[str]) -> list[str]:
        """Return one sentence that names such runs; none without any."""
        if not self.same_as:
            return []
        pairs = [f"{names[run]} = {names[first]}" for run, first in self.same_as.items()]
        more = f" and {len(pairs) - _SHOWN:,} more" if len(pairs) > _SHOWN else ""
        what = "1 run has" if len(pairs) == 1 else f"{len(pairs):,} runs have"
        return [
            f"{what} the returns of another run of the same scenario, bit for bit, and count as "
            f"one trial with it: {', '.join(pairs[:_SHOWN])}{more}"
        ]


_SHOWN = 3


def one_trial_each(
    labels: Sequence[str], scenarios: Sequence[str], returns: Sequence[FloatArray | None]
) -> OneTrial:
    """Give runs with the same returns in one scenario the same label.

    Parameters
    ----------
    labels, scenarios
        What was chosen in each run, and the conditions of the run, shape (n_runs,).
    returns
        Returns of each run, shape (n_bars,); None for runs that are not compared.
    """
    first: dict[tuple[str, bytes], int] = {}
    found, same_as = list(labels), {}
    for run, values in enumerate(returns):
        if values is None:
            continue
        plain = np.where(np.isnan(values), np.nan, values) + 0.0  # one zero, one NaN
        key = (scenarios[run], hashlib.sha256(plain.tobytes()).digest())
        earlier = first.setdefault(key, run)
        if labels[earlier] != labels[run]:
            found[run], same_as[run] = labels[earlier], earlier
    return OneTrial(labels=found, same_as=same_as)


def tried(request: BatchRequest, plan: Plan, labels: Sequence[str] = ()) -> dict[str, Any]:
    """Return what a batch tries by price source, and the kind of each source.

    Parameters
    ----------
    request, plan
        The batch.
    labels
        What is chosen in each run; without them what the configurations say.
    """
    labels = labels or decision_labels(plan.runs, AxisKinds.of(request.config))
    tried: dict[str, set[str]] = {}
    sources: dict[str, str] = {}
    for run, label in zip(plan.runs, labels, strict=True):
        source = source_label(run.config)
        tried.setdefault(source, set()).add(label)
        sources[source] = source_kind(run.config)
    return {
        "decisions": {source: sorted(found) for source, found in tried.items()},
        "kinds": sources,
    }
