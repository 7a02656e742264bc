"""The verdict and the walk-forward: each figure with its meaning, its limits and its source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from backtest_batch.analysis.overfitting.explanations import EXPLANATIONS
from backtest_batch.analysis.run_table import result_metric_names
from backtest_batch.analysis.walk_forward.tables import sentences
from backtest_batch.report.html.data import WalkForwardView
from backtest_batch.report.html.tables import TextTable, metric_meaning, number_text, table_of_frame
from backtest_batch.report.tables import short_numbers

UNDEFINED = "undefined"

_WORDS = {
    "skill": ("Skill", "✓"),
    "luck": ("Luck", "✗"),
    "cannot_tell": ("Cannot tell", "?"),
    "invalid": ("Invalid", "!"),
}

_TILES = ("n_trials", "spa_pvalue", "benchmark_spa_pvalue", "dsr", "pbo")

_TILE_TITLES = {
    "n_trials": "trials",
    "spa_pvalue": "p against zero",
    "benchmark_spa_pvalue": "p against the benchmark",
    "dsr": "deflated Sharpe ratio",
    "pbo": "probability of overfitting",
}

_PER_SCENARIO = (
    ("scenario", "scenario"),
    ("run_id", "best run"),
    ("n_bars", "bars"),
    ("spa_pvalue", "p against zero"),
    ("benchmark_spa_pvalue", "p against the benchmark"),
    ("psr", "PSR"),
    ("dsr", "DSR"),
    ("pbo", "PBO"),
)

_SURVIVORS_SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure of the verdict.

    Attributes
    ----------
    key
        Its name in overfitting.json.
    title, what, what_not, source
        Its explanation.
    value
        Computed on the returns themselves.
    adjusted
        Computed on the returns beyond the benchmark; empty where there is no such figure.
    reason
        Why the value is undefined.
    """

    key: str
    title: str
    what: str
    what_not: str
    source: str
    value: str
    adjusted: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class VerdictView:
    """What the first section shows of overfitting.json.

    Attributes
    ----------
    label
        ``skill``, ``luck``, ``cannot_tell`` or ``invalid``.
    word, mark
        The label for people, and a mark that shows it without colour.
    sentence
        The verdict, without its label.
    reasons
        The figures behind it, one line each.
    tiles
        The most important figures: title and value.
    figures
        All of them.
    run_id, basis
        The winner among the trials, and the data that it was judged on.
    scenarios, excluded
        The same figures in other scenarios, and runs left out; None without any.
    audit
        What the audit of the best strategies found; None where none was audited.
    """

    label: str
    word: str
    mark: str
    sentence: str
    reasons: Sequence[str]
    tiles: Sequence[tuple[str, str]]
    figures: Sequence[Figure]
    basis: str
    scenarios: TextTable | None
    excluded: TextTable | None
    audit: TextTable | None = None


def verdict_view(document: Mapping[str, Any]) -> VerdictView:
    """Return what the page shows of overfitting.json.

    Parameters
    ----------
    document
        The whole mapping. Keys that it lacks are left out.
    """
    verdict = document.get("verdict") or {}
    label = str(verdict.get("label", "cannot_tell"))
    word, mark = _WORDS.get(label, (label, "?"))
    sentence = str(verdict.get("sentence", ""))
    head, colon, rest = sentence.partition(": ")
    if colon and head.replace(" ", "_") == label:
        sentence = rest[:1].upper() + rest[1:]
    return VerdictView(
        label=label,
        word=word,
        mark=mark,
        sentence=sentence if sentence.endswith(".") or not sentence else sentence + ".",
        reasons=[str(reason) for reason in verdict.get("reasons", ())],
        tiles=[
            (_TILE_TITLES[key], figure_text(key, document[key]))
            for key in _TILES
            if document.get(key) is not None
        ],
        figures=[
            _figure(key, document)
            for key in EXPLANATIONS
            if key != "verdict" and _holds(document, key)
        ],
        basis=_basis(document),
        scenarios=_scenarios(document),
        excluded=_excluded(document),
        audit=_audited(document.get("audit") or {}),
    )


def _holds(document: Mapping[str, Any], key: str) -> bool:
    head, _, inner = key.partition(".")
    return head in document and (not inner or inner in (document[head] or {}))


def _value(document: Mapping[str, Any], key: str) -> Any:
    head, _, inner = key.partition(".")
    found = document.get(head)
    return (found or {}).get(inner) if inner else found


def _figure(key: str, document: Mapping[str, Any]) -> Figure:
    explanation = EXPLANATIONS[key]
    adjusted = document.get("benchmark_adjusted") or {}
    undefined = document.get("undefined") or {}
    given, beyond = _value(document, key), _value(adjusted, key)
    value = figure_text(key, given)
    if key == "n_trials" and document.get("n_trials_experiment", document[key]) != document[key]:
        value += f" in this batch, {document['n_trials_experiment']:,} in the experiment"
    return Figure(
        key=key,
        title=explanation.title,
        what=explanation.what,
        what_not=explanation.what_not,
        source=explanation.source,
        value=value,
        adjusted=figure_text(key, beyond) if beyond is not None else "",
        reason=str(undefined.get(key, "")) if given is None else "",
    )


def figure_text(key: str, value: Any) -> str:
    """Return a figure of overfitting.json for people.

    Parameters
    ----------
    key
        Its name; decides decimals and unit.
    value
        Its value; None is undefined.
    """
    if value is None:
        return UNDEFINED
    if key == "sharpe_ci":
        return f"{value['low']:.2f} to {value['high']:.2f} a year ({value['level']:.0%})"
    if key == "adjusted_pvalues":
        names = (("holm", "Holm"), ("benjamini_yekutieli", "Benjamini-Yekutieli"))
        return ", ".join(f"{name} {pvalue_text(value[key])}" for key, name in names)
    if key == "stepm_survivors":
        return _survivors(value)
    if key == "permutation":
        return f"p = {pvalue_text(value['pvalue'])}, {value['n']:,} markets"
    if key == "factors":
        return _factors_text(value)
    if key.endswith("pvalue"):
        return pvalue_text(value)
    if key == "sharpe_lower_bound":
        return f"{value:.2f} a year"
    key = key.removeprefix("inference.").removeprefix("trials_band.")
    if key in ("psr", "dsr", "pbo", "p_oos_loss", "psr_null", "power", "observed_fdr", "rho"):
        return f"{value:.3f}"
    if key in ("sr0", "haircut_sharpe", "sharpe_per_period", "critical_sharpe"):
        return f"{value:.4f} a bar"
    if key in ("min_track_record_length_bars", "min_track_record_bars"):
        return f"{value:,.0f} bars"
    if key == "mean_block":
        return f"{value:g} bars"
    if key in ("onc", "flips_at"):
        return f"{value:,}"
    if key == "min_backtest_length_years":
        return f"{value:.2f} years"
    return number_text(float(value)) if isinstance(value, int | float) else str(value)


def _factors_text(value: Mapping[str, Any]) -> str:
    """Return the test against the factors: its p-value, t, and the slopes of the winner."""
    pvalue, t_statistic = value["spa_pvalue"], value["alpha_t"]
    parts = [
        "no test" if pvalue is None else f"p {pvalue_text(pvalue)}",
        *([] if t_statistic is None else [f"t {t_statistic:.1f}"]),
        *(f"{name} {slope:.2f}" for name, slope in value["betas"].items() if slope is not None),
    ]
    return ", ".join(parts)


def pvalue_text(value: float) -> str:
    """Return a p-value with three decimals; never 0.000."""
    return "< 0.001" if value < 0.0005 else f"{value:.3f}"


def _survivors(names: Sequence[str]) -> str:
    if not names:
        return "none"
    more = len(names) - _SURVIVORS_SHOWN
    listed = ", ".join(names[:_SURVIVORS_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
    return f"{len(names):,}: {listed}"


def _basis(document: Mapping[str, Any]) -> str:
    """Return one sentence about the data that the winner was judged on."""
    if document.get("run_id") is None or not document.get("n_bars"):
        return ""
    settings = document.get("settings") or {}
    drawn = ""
    if {"draws", "mean_block", "seed", "blocks"} <= set(settings):
        drawn = (
            f" Resampled {settings['draws']:,} times in blocks of {settings['mean_block']} bars on "
            f"average (seed {settings['seed']}); cross-validated over {settings['blocks']} blocks."
        )
    return (
        f"{document['run_id']} is judged on the {document['n_bars']:,} bars that all trials "
        f"share, in the scenario {document.get('scenario')}.{drawn}"
    )


def _scenarios(document: Mapping[str, Any]) -> TextTable | None:
    others = document.get("scenarios") or ()
    if not others:
        return None
    return TextTable(
        caption="The figures in each scenario",
        head=[title for _, title in _PER_SCENARIO],
        rows=[
            [figure_text(key, item.get(key)) for key, _ in _PER_SCENARIO]
            for item in (document, *others)
        ],
        numbers=frozenset(range(2, len(_PER_SCENARIO))),
    )


_LOOKAHEAD = {"found": "yes", "clean": "no", "untested": "not tested"}
_WARMUP = {"short": "too short", "ok": "enough", "untested": "not tested"}
_REPEATS = {True: "yes", False: "no", None: "not known"}


def _audited(audit: Mapping[str, Any]) -> TextTable | None:
    runs = audit.get("runs") or ()
    if not runs:
        return None
    return TextTable(
        caption="The audit of the best strategies: each was asked again, of fewer bars",
        head=["run_id", "knows the future", "warm-up", "repeats itself", "cuts", "what was seen"],
        rows=[
            (
                str(run["run_id"]),
                _LOOKAHEAD.get(run["lookahead"], str(run["lookahead"])),
                _WARMUP.get(run["warmup"], str(run["warmup"])),
                _REPEATS.get(run["deterministic"], ""),
                str(run["n_decisions"]),
                "; ".join(
                    [
                        *(str(example["sentence"]) for example in run["examples"]),
                        *dict.fromkeys(str(text) for text in run["reasons"].values()),
                    ]
                ),
            )
            for run in runs
        ],
        numbers=frozenset({4}),
    )


def _excluded(document: Mapping[str, Any]) -> TextTable | None:
    left_out = document.get("excluded") or ()
    if not left_out:
        return None
    return TextTable(
        caption="Runs that are not tested",
        head=["run_id", "reason"],
        rows=[(str(item["run_id"]), str(item["reason"])) for item in left_out],
    )


MAX_CHOICES = 300
"""Most splits whose choice the page lists."""


@dataclass(frozen=True, kw_only=True)
class WalkForwardSection:
    """What the page shows of a walk-forward; tables that would be empty are None.

    Attributes
    ----------
    sentences
        The findings, most important first.
    metrics
        The stitched curve beside the benchmark and the run that is best in hindsight.
    drift
        How the chosen parameters move from split to split.
    scenarios, paths
        The main figures of each scenario and of each combinatorial path.
    choices
        The choice made in each split.
    n_choices
        Number of choices, of which the first are listed.
    """

    sentences: Sequence[str]
    metrics: TextTable
    drift: TextTable | None
    scenarios: TextTable | None
    paths: TextTable | None
    choices: TextTable | None
    n_choices: int


def walk_forward_section(view: WalkForwardView) -> WalkForwardSection:
    """Return the section of a walk-forward.

    Parameters
    ----------
    view
        With at least one finding.
    """
    first = view.findings[0]
    choices = view.choices
    n_choices = 0 if choices is None else len(choices)
    return WalkForwardSection(
        sentences=sentences(first),
        metrics=_metrics(first),
        drift=_drift(first["parameter_drift"]),
        scenarios=_walked_scenarios(view.findings) if len(view.findings) > 1 else None,
        paths=_paths(first.get("paths") or ()),
        choices=_choices(choices) if choices is not None and n_choices else None,
        n_choices=n_choices,
    )


def _metrics(finding: Mapping[str, Any]) -> TextTable:
    best = finding["best_overall"] or {"run_id": "", "metrics": {}}
    columns = [finding["metrics"], finding["benchmark"] or {}, best["metrics"]]
    rows = [
        [name, *(_short(name, column) for column in columns), metric_meaning(name)]
        for name in result_metric_names(finding["metrics"])
    ]
    hindsight = f"best in hindsight ({best['run_id']})" if best["run_id"] else "best in hindsight"
    return TextTable(
        caption="Out of sample, on the test bars",
        head=["metric", "walk-forward", "benchmark", hindsight, "meaning"],
        rows=rows,
        numbers=frozenset({1, 2, 3}),
    )


def _short(name: str, metrics: Mapping[str, float]) -> str:
    return short_numbers(name, [metrics[name]])[0] if name in metrics else ""


def _drift(drift: Mapping[str, Mapping[str, Any]]) -> TextTable | None:
    if not drift:
        return None
    keys = ("changed", "mean_steps", "min", "mean", "max")
    return TextTable(
        caption="How the chosen parameters move from split to split",
        head=["parameter", "changes", "mean steps", "lowest", "mean", "highest"],
        rows=[
            [name, *(_stitched_figure(key, of.get(key)) for key in keys)]
            for name, of in drift.items()
        ],
        numbers=frozenset(range(1, 6)),
    )


def _stitched_figure(key: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0%}" if key == "changed" else number_text(float(value))


def _walked_scenarios(findings: Sequence[Mapping[str, Any]]) -> TextTable:
    rows = []
    for finding in findings:
        adjusted = finding["beta_adjusted"] or {}
        figures = (
            finding["t_statistic"],
            finding["metrics"].get("sharpe"),
            (finding["benchmark"] or {}).get("sharpe"),
            adjusted.get("t_statistic"),
            finding["efficiency"],
        )
        texts = ["" if figure is None else f"{figure:.2f}" for figure in figures]
        rows.append([str(finding["scenario"]), f"{finding['n_splits']:,}", *texts])
    return TextTable(
        caption="The walk-forward in each scenario",
        head=[
            "scenario",
            "splits",
            "t-statistic",
            "Sharpe ratio",
            "benchmark's",
            "t beyond the benchmark",
            "efficiency",
        ],
        rows=rows,
        numbers=frozenset(range(1, 7)),
    )


def _paths(paths: Sequence[Mapping[str, Any]]) -> TextTable | None:
    if not paths:
        return None
    return TextTable(
        caption="The combinatorial paths",
        head=["path", "t-statistic", "Sharpe ratio", "cagr", "max_drawdown"],
        rows=[
            [
                str(path["path"]),
                "" if path["t_statistic"] is None else f"{path['t_statistic']:.2f}",
                *(_short(name, path["metrics"]) for name in ("sharpe", "cagr", "max_drawdown")),
            ]
            for path in paths
        ],
        numbers=frozenset(range(1, 5)),
    )


def _choices(choices: pd.DataFrame) -> TextTable:
    choices = choices.head(MAX_CHOICES)
    if "scenario" in choices and choices["scenario"].nunique() == 1:
        choices = choices.drop(columns="scenario")
    shown = table_of_frame("The choice made in each split", choices)
    texts = dict(zip(shown.head, zip(*shown.rows, strict=True), strict=True))
    for name in choices.columns:
        prefix = next((item for item in ("is_", "oos_") if name.startswith(item)), None)
        values = choices[name].tolist()
        if prefix is not None:
            texts[name] = tuple(short_numbers(name.removeprefix(prefix), values))
        elif name == "switch_cost":
            texts[name] = tuple(f"{value:.3%}" for value in values)
    return replace(shown, rows=list(zip(*texts.values(), strict=True)))
