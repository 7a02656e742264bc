"""Sweep a trading strategy over a grid, track every backtest in MLflow, and rank the runs."""
