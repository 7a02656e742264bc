"""What trading costs, and what is too little to count."""

BASIS_POINT = 1e-4

TRADE_THRESHOLD = 1e-9
"""A change of position up to this fraction of equity is no trade: it is neither charged nor
counted. Otherwise rounding alone would trade at each rebalance."""

DUST = 1e-4
"""Cash that costs took is not fetched back from the positions up to this fraction of them. Selling
4 to pay for a cost of 4, and then 0.008 for the cost of that, is nothing that anybody would do."""

ROUNDING = 1e-12
"""Equity up to this fraction of what was added up to it is rounding, and counts as zero."""


def cost_rate(*, commission_bps: float, spread_bps: float, impact_bps: float) -> float:
    """Return the cost of trading one unit of currency.

    ``(commission_bps + spread_bps / 2 + impact_bps) * 1e-4``: a trade crosses half of the spread,
    and the impact does not depend on the size of the trade.

    Parameters
    ----------
    commission_bps, spread_bps, impact_bps
        Basis points of traded value.
    """
    return (commission_bps + spread_bps / 2 + impact_bps) * BASIS_POINT
