"""The figures of one kind of return (r, or a) of the trials of one scenario."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from backtest_batch.comparison.overfitting.cscv import CrossValidation, cross_validate_blocks
from backtest_batch.comparison.overfitting.moments import Moments, all_equal
from backtest_batch.comparison.overfitting.sharpe import (
    deflated_sharpe_ratio,
    expected_maximum,
    expected_maximum_sharpe,
    probabilistic_sharpe_ratio,
    sharpe_variance,
)
from backtest_batch.comparison.overfitting.superior import SuperiorAbility, superior_ability
from backtest_batch.comparison.overfitting.trials import FloatArray


@dataclass
class Figures:
    """Figures by name; what is undefined is None and has its reason in ``undefined``."""

    values: dict[str, Any] = field(default_factory=dict)
    undefined: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, value: Any, reason: str = "") -> None:
        """Enter a figure; None, or a number that is not finite, is undefined for ``reason``."""
        if isinstance(value, float | np.floating):
            value = float(value) if math.isfinite(value) else None
        self.values[name] = value
        if value is None:
            self.undefined[name] = reason

    def nest(self, name: str, inner: "Figures") -> None:
        """Enter figures below one name; their reasons stand under ``name.figure``."""
        self.values[name] = inner.values
        for key, reason in inner.undefined.items():
            self.undefined[f"{name}.{key}"] = reason


@dataclass(frozen=True, kw_only=True)
class SelectionEvidence:
    """What the trials of one scenario say together, on one kind of return.

    Attributes
    ----------
    names
        run_ids of the trials, in the order of the plan.
    moments
        Their moments; every std is positive.
    n_bars, n_trials
        T, and N as it is counted.
    ability
        Reality check, SPA and StepM; None where there is no selection.
    validation
        Cross-validation; None where there is no selection, the trials do not differ on this kind
        of return, or there are fewer bars than blocks.
    nothing
        Why there is no selection; empty when there is.
    alike
        Why the trials do not differ on this kind of return; empty when they do.
    """

    names: tuple[str, ...]
    moments: Moments
    n_bars: int
    n_trials: int
    ability: SuperiorAbility | None
    validation: CrossValidation | None
    nothing: str
    alike: str

    @property
    def variance(self) -> float | None:
        """V, the variance (ddof 1) of the trials' Sharpe ratios; None where they are alike."""
        return None if self.nothing or self.alike else float(np.var(self.moments.sharpe, ddof=1))

    @property
    def sr0(self) -> float | None:
        """SR0, 0 for a single trial; None when the trials' variance is not known."""
        if self.n_trials == 1:
            return 0.0
        variance = self.variance
        return None if variance is None else expected_maximum_sharpe(self.n_trials, variance)

    @property
    def survivors(self) -> tuple[str, ...] | None:
        """run_ids that StepM names; None without a selection."""
        if self.ability is None:
            return None
        return tuple(self.names[position] for position in self.ability.survivors)

    def psr(self) -> FloatArray:
        """PSR(0) of each trial, NaN where undefined."""
        moments = self.moments
        return np.asarray(
            probabilistic_sharpe_ratio(
                moments.sharpe, self.n_bars, skew=moments.skew, kurtosis=moments.kurtosis
            )
        )

    def dsr(self) -> FloatArray:
        """DSR of each trial, NaN where undefined."""
        moments = self.moments
        if self.sr0 is None:
            return np.full(len(self.names), np.nan)
        return np.asarray(
            deflated_sharpe_ratio(
                moments.sharpe,
                self.n_bars,
                n_trials=self.n_trials,
                variance=self.variance or 0.0,
                skew=moments.skew,
                kurtosis=moments.kurtosis,
            )
        )

    def noise_sharpe(self, position: int) -> float | None:
        """SR0 when the trials' ratios differ by no more than the sampling error of one of them.

        Trials that truly differ make V large, and SR0 with it, although nothing is luck; the
        smaller of V and the sampling variance is what chance can account for.
        """
        if self.variance is None:
            return None
        moments = self.moments
        sampling = sharpe_variance(
            moments.sharpe[position], moments.skew[position], moments.kurtosis[position]
        ) / (self.n_bars - 1)
        return math.sqrt(min(self.variance, float(sampling))) * expected_maximum(self.n_trials)

    def put_run(self, figures: Figures, run_id: str, reason: str) -> None:
        """Enter the figures of a single run; ``reason`` says why they are missing, if they are."""
        position = self.names.index(run_id) if run_id in self.names else None
        moments = self.moments
        for name, array in (
            ("sharpe_per_period", moments.sharpe),
            ("skew", moments.skew),
            ("kurtosis", moments.kurtosis),
        ):
            figures.put(name, None if position is None else array[position], reason)

    def put_probabilities(self, figures: Figures, run_id: str, reason: str) -> None:
        """Enter psr, sr0 and dsr of a run."""
        position = self.names.index(run_id) if run_id in self.names else None
        flat = "the variance of the Sharpe ratio's estimate is not positive"
        figures.put("psr", None if position is None else self.psr()[position], reason or flat)
        figures.put("sr0", None if reason else self.sr0, reason or self.nothing or self.alike)
        figures.put(
            "dsr",
            None if position is None else self.dsr()[position],
            reason or self.nothing or self.alike or flat,
        )

    def put_tests(self, figures: Figures) -> None:
        """Enter reality_check_pvalue and spa_pvalue."""
        ability = self.ability
        for name, value in (
            ("reality_check_pvalue", ability and ability.reality_check_pvalue),
            ("spa_pvalue", ability and ability.spa_pvalue),
        ):
            figures.put(name, value, self.nothing)

    def put_validation(self, figures: Figures, blocks: int) -> None:
        """Enter pbo and p_oos_loss."""
        reason = self.nothing or self.alike
        reason = reason or f"{self.n_bars} bars cannot be cut into {blocks} blocks"
        validation = self.validation
        figures.put("pbo", validation and validation.probability, reason)
        figures.put("p_oos_loss", validation and validation.probability_of_loss, reason)


def select(
    names: tuple[str, ...], moments: Moments, *, n_bars: int, n_trials: int, nothing: str
) -> SelectionEvidence:
    """Run the tests of the selection on one kind of return.

    Parameters
    ----------
    names, moments
        The trials and their moments.
    n_bars, n_trials
        T and N.
    nothing
        Why there was no selection; empty when there was.
    """
    alike = ""
    if len(names) < 2:
        alike = "fewer than 2 trials have such returns"
    elif all_equal(moments):
        alike = "all trials have the same returns of this kind"
    ability = validation = None
    bars_per_block = n_bars // len(moments.sums)
    if not nothing:
        ability = superior_ability(moments.mean, moments.std, moments.deviations, n_bars)
    if not nothing and not alike and bars_per_block:
        validation = cross_validate_blocks(
            moments.sums, moments.squares, bars_per_block=bars_per_block
        )
    return SelectionEvidence(
        names=names,
        # The resampled means are by far the largest part, and have done their work.
        moments=replace(moments, deviations=np.empty((0, len(names)))),
        n_bars=n_bars,
        n_trials=n_trials,
        ability=ability,
        validation=validation,
        nothing=nothing,
        alike=alike,
    )
