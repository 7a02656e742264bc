"""What a strategy is."""

from typing import Protocol, runtime_checkable

from backtest_batch.market.panel import FloatArray, IntArray, Panel


@runtime_checkable
class Strategy(Protocol):
    """Turns prices into target weights.

    Any class with this method is a strategy; nothing needs to be inherited. Two more members are
    optional: ``fit(panel)``, which walk-forward calls on training bars only and which returns
    ``self``, and ``warmup_bars``, the number of bars needed before the first meaningful weight
    (an attribute or a property; 0 without it).
    """

    def target_weights(self, panel: Panel, decisions: IntArray) -> FloatArray:
        """Return the weights wanted at each decision bar.

        A DataFrame is taken by its labels: columns by symbol (those that it lacks have weight 0),
        rows by the timestamps of the decisions.

        Parameters
        ----------
        panel
            Prices of shape (n_bars, n_assets).
        decisions
            Increasing positions of the decision bars, shape (n_decisions,).

        Returns
        -------
        ndarray of shape (n_decisions, n_assets)
            Fractions of equity, negative for shorts; row i may use bars ``<= decisions[i]`` only.
        """
        ...
