"""Target weights to equity, trades and metrics."""
