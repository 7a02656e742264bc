"""The probability of backtest overfitting, by combinatorially symmetric cross-validation."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np

from backtest_batch.analysis.overfitting.samples import FloatArray, IntArray

# Sharpe ratios per bar closer than this are equal: rounding neither breaks a tie nor is a loss.
_TIE = 1e-13
# Number of values in a temporary array: small enough to stay in the processor's cache.
_VALUES_AT_ONCE = 200_000

# numpy reduces short rows one by one: with fewer runs than this, storing columns contiguously is
# several times faster.
_FEW_RUNS = 64


@dataclass(frozen=True, kw_only=True)
class CrossValidation:
    """How the in-sample best fares out of sample, over all splits.

    Attributes
    ----------
    probability
        PBO, the share of splits in which the in-sample best ranks at or below the median.
    probability_of_loss
        Share of splits in which it loses out of sample (negative Sharpe ratio).
    logits
        lambda of each split, shape (n_splits,).
    """

    probability: float
    probability_of_loss: float
    logits: FloatArray


def cross_validate(returns: FloatArray, blocks: int = 16) -> CrossValidation:
    """Return the probability of backtest overfitting of a matrix of returns.

    The newest ``blocks * (n_bars // blocks)`` bars are cut into S contiguous blocks; each choice
    of S/2 of them is in-sample once. With the out-of-sample rank of the in-sample best (1 is the
    worst of N, ties share their average), ``omega = rank / (N + 1)``,
    ``lambda = ln(omega / (1 - omega))``, and PBO is the share of ``lambda <= 0``.

    Parameters
    ----------
    returns
        Shape (n_bars, n_runs), finite, at least two runs.
    blocks
        S, even, at most ``n_bars``.

    Raises
    ------
    ValueError
        When there are fewer than two runs, fewer bars than blocks, or S is odd.

    References
    ----------
    Bailey, Borwein, Lopez de Prado and Zhu (2017), The Probability of Backtest Overfitting.
    """
    n_bars, n_runs = returns.shape
    if blocks % 2 or not 2 <= blocks <= n_bars or n_runs < 2:
        raise ValueError(
            "`blocks` must be even and at most the number of bars, and there must be two runs, "
            f"but got blocks={blocks} and returns of shape {returns.shape}."
        )
    return cross_validate_blocks(*block_sums(returns, blocks), bars_per_block=n_bars // blocks)


def block_sums(returns: FloatArray, blocks: int) -> tuple[FloatArray, FloatArray]:
    """Return sum r and sum r^2 of each block, each of shape (blocks, n_runs).

    The oldest ``n_bars % blocks`` bars are dropped.
    """
    n_bars, n_runs = returns.shape
    length = n_bars // blocks
    in_blocks = returns[n_bars - blocks * length :].reshape(blocks, length, n_runs)
    return in_blocks.sum(axis=1), np.square(in_blocks).sum(axis=1)


def cross_validate_blocks(
    sums: FloatArray, squares: FloatArray, *, bars_per_block: int
) -> CrossValidation:
    """Return what :func:`cross_validate` does, from the block sums.

    Parameters
    ----------
    sums, squares
        sum r and sum r^2 of each block, shape (n_blocks, n_runs).
    bars_per_block
        Number of bars in a block.

    Notes
    -----
    A half (S/2 blocks) is a set of the older S/2 blocks together with a set of the newer S/2. The
    sums of all 2^(S/2) sets of either kind are tabulated, so that each half costs one addition per
    run. Unlike a matrix product, this gives equal columns equal bits wherever they are, which the
    handling of ties requires.
    """
    blocks, n_runs = sums.shape
    half_bars = bars_per_block * blocks // 2
    score = _Scores(sums, squares, half_bars)
    n_splits, overfit, losses = 0, 0, 0
    logits = []
    for chosen in _halves(blocks, max(1, _VALUES_AT_ONCE // n_runs)):
        others = 2**blocks - 1 - chosen
        one, other = score(chosen), score(others)
        if n_runs < _FEW_RUNS:
            one, other = np.asfortranarray(one), np.asfortranarray(other)
        for inside, outside in ((one, other), (other, one)):
            doubled_rank, achieved = _out_of_sample(inside, outside)
            n_splits += len(doubled_rank)
            # In integers: omega <= 1/2 exactly when 2 rank <= N + 1.
            overfit += int(np.count_nonzero(doubled_rank <= n_runs + 1))
            losses += int(np.count_nonzero(achieved < -_TIE))
            omega = doubled_rank / (2.0 * (n_runs + 1))
            logits.append(np.log(omega / (1.0 - omega)))
    return CrossValidation(
        probability=overfit / n_splits,
        probability_of_loss=losses / n_splits,
        logits=np.concatenate(logits),
    )


def _halves(blocks: int, at_once: int) -> Iterator[IntArray]:
    """Yield the halves that hold block 0, as bit masks; the other splits are their complements."""
    masks = _masks(blocks)
    for first in range(0, len(masks), at_once):
        yield masks[first : first + at_once]


@lru_cache(maxsize=4)
def _masks(blocks: int) -> IntArray:
    rest = combinations(range(1, blocks), blocks // 2 - 1)
    masks = np.array([1 + sum(1 << block for block in chosen) for chosen in rest], dtype=np.int64)
    masks.setflags(write=False)
    return masks


class _Scores:
    """Sharpe ratios (ddof 0) of all runs on a set of blocks given as a bit mask."""

    def __init__(self, sums: FloatArray, squares: FloatArray, half_bars: int) -> None:
        self._split = len(sums) // 2
        self._bars = half_bars
        self._sums = [_subset_sums(part) for part in np.split(sums, 2)]
        self._squares = [_subset_sums(part) for part in np.split(squares, 2)]

    def __call__(self, masks: IntArray) -> FloatArray:
        older, newer = masks & (2**self._split - 1), masks >> self._split
        total: FloatArray = self._sums[0][older]
        total += self._sums[1][newer]
        scale = self._squares[0][older]
        scale += self._squares[1][newer]
        scale *= self._bars
        # Below this the variance is only rounding: the run does not vary here, and its ratio is 0.
        floor = scale * 1e-13
        scale -= total * total
        flat = scale <= floor
        np.copyto(scale, 1.0, where=flat)
        np.sqrt(scale, out=scale)
        total /= scale
        np.copyto(total, 0.0, where=flat)
        return total


def _subset_sums(rows: FloatArray) -> FloatArray:
    """Return the sums of all subsets of the rows, shape (2^n_rows, n_columns), by bit mask."""
    table = np.zeros((1, rows.shape[1]))
    for row in rows:
        table = np.concatenate([table, table + row])
    return table


def _out_of_sample(inside: FloatArray, outside: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return twice the out-of-sample rank of each split's in-sample best, and its Sharpe ratio.

    When several runs tie as in-sample best, the first in the order of the columns is taken.
    """
    ceiling = inside.max(axis=1, keepdims=True)
    best = np.argmax(inside >= ceiling - _TIE, axis=1)
    achieved = outside[np.arange(len(best)), best]
    below = np.count_nonzero(outside < (achieved - _TIE)[:, None], axis=1)
    up_to = np.count_nonzero(outside <= (achieved + _TIE)[:, None], axis=1)
    return (below + up_to + 1).astype(np.int64), achieved
