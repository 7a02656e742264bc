"""What a batch tries: its trials, and the source of the prices that they are tried on."""

from collections.abc import Mapping, Sequence
from typing import Any

from backtest_batch.analysis.scenarios import AxisKinds
from backtest_batch.batch.plan import Plan
from backtest_batch.config.schema import SWEEPABLE
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
    return digest({key: node.get(key) for key in ("_target_", "path", "seed")})


def source_kind(config: Mapping[str, Any]) -> str:
    """Return the kind of the price source, such as ``CsvFile``."""
    return str(config["data"]["_target_"]).rpartition(".")[2]


def tried(request: BatchRequest, plan: Plan) -> dict[str, Any]:
    """Return what a batch tries by price source, and the kind of each source."""
    labels = decision_labels(plan.runs, AxisKinds.of(request.config))
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
