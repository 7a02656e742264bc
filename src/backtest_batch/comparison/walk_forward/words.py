"""The findings of a walk-forward in plain sentences."""

from collections.abc import Iterator, Mapping
from typing import Any

SIGNIFICANT_T = 1.96
"""t-statistic from which a mean return is told from zero at 95 %."""


def sentences(finding: Mapping[str, Any]) -> list[str]:
    """Say what a walk-forward found, most important first.

    Parameters
    ----------
    finding
        One scenario of :func:`.summary.summarise`.
    """
    return [*_figures(finding), *finding["notes"]]


def _figures(finding: Mapping[str, Any]) -> Iterator[str]:
    yield _out_of_sample(finding)
    adjusted = finding["beta_adjusted"]
    if adjusted is not None and adjusted["t_statistic"] is not None:
        benchmark = _number(finding["benchmark"], "sharpe")
        yield (
            f"Against the benchmark (Sharpe ratio {benchmark} on the same bars), at equal beta: "
            f"t = {adjusted['t_statistic']:.2f}, Sharpe ratio {adjusted['sharpe']:.2f}"
            f"{_interval(adjusted['sharpe_ci'])}."
        )
    best = finding["best_overall"]
    if best is not None:
        yield (
            f"{best['run_id']}, the best over everything in hindsight, has a Sharpe ratio of "
            f"{_number(best['metrics'], 'sharpe')} on the same bars."
        )
    modal = finding["modal_choice"]
    if modal["run_id"] is not None:
        yield (
            f"{modal['run_id']} was chosen most often, in {modal['share']:.0%} of "
            f"{finding['n_splits']} splits; {_switches(finding['switches'])} cost "
            f"{finding['switch_cost']:.2%} of equity in all."
        )
    efficiency = finding["efficiency"]
    if efficiency is None:
        yield "Walk-forward efficiency is undefined: the choices did not grow in-sample."
    else:
        yield (
            f"Walk-forward efficiency: {efficiency:.0%} of the annual growth that the choices had "
            "in-sample was left out-of-sample."
        )
    if finding["ruined"] is not None:
        yield f"The stitched curve was ruined on {finding['ruined']}."


def _out_of_sample(finding: Mapping[str, Any]) -> str:
    span = (
        f"Out of sample, {finding['test_start']} to {finding['test_end']}, "
        f"{finding['n_splits']} splits"
    )
    t = finding["t_statistic"]
    if t is None:
        return f"{span}: the returns do not vary."
    meaning = "not told from zero"
    if abs(t) >= SIGNIFICANT_T:
        meaning = "a gain" if t > 0 else "a loss"
    sharpe = _number(finding["metrics"], "sharpe")
    return (
        f"{span}: t = {t:.2f} ({meaning} at 95 %), Sharpe ratio {sharpe}"
        f"{_interval(finding['sharpe_ci'])}."
    )


def _switches(number: int) -> str:
    return "1 switch" if number == 1 else f"{number} switches"


def _interval(interval: Mapping[str, float] | None) -> str:
    if interval is None:
        return ""
    return f" ({interval['level']:.0%} interval {interval['low']:.2f} to {interval['high']:.2f})"


def _number(metrics: Mapping[str, float], name: str) -> str:
    return f"{metrics[name]:.2f}" if name in metrics else "undefined"
