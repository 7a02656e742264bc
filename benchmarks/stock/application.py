"""The stock application: one Hydra job a backtest, vectorbt as engine, MLflow's fluent API.

python benchmarks/stock/application.py -m commission_bps=0,0.5,1 max_gross_exposure=0.6,0.8,1.0
"""

import importlib.util
from pathlib import Path

import hydra
import numpy as np
import pandas as pd
from omegaconf import DictConfig


def prices() -> pd.DataFrame:
    """Read the prices that skfolio ships."""
    spec = importlib.util.find_spec("skfolio")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    path = Path(spec.submodule_search_locations[0], "datasets", "data", "sp500_dataset.csv.gz")
    return pd.read_csv(path, index_col=0, parse_dates=True)


@hydra.main(version_base="1.3", config_path=".", config_name="config")
def main(config: DictConfig) -> float:
    """Run one backtest of a moving-average crossover, rebalanced monthly, and track it."""
    import mlflow
    import vectorbt

    close = prices()
    fast = close.ewm(span=config.fast, adjust=False).mean()
    slow = close.ewm(span=config.slow, adjust=False).mean()
    rising = (fast > slow).astype(float)
    weights = rising.div(rising.sum(axis=1).replace(0, np.nan), axis=0).fillna(0.0)
    month_end = pd.DatetimeIndex(close.index).to_period("M")
    decided = weights[month_end != np.roll(month_end, -1)]
    size = decided.reindex(close.index).shift(1) * config.max_gross_exposure

    mlflow.set_tracking_uri(config.tracking_uri)
    mlflow.set_experiment("stock")
    with mlflow.start_run():
        portfolio = vectorbt.Portfolio.from_orders(
            close,
            size=size,
            size_type="targetpercent",
            group_by=True,
            cash_sharing=True,
            call_seq="auto",
            fees=config.commission_bps * 1e-4,
            init_cash=1e6,
            freq="1D",
        )
        sharpe = float(portfolio.sharpe_ratio())
        mlflow.log_params(dict(config))
        mlflow.log_metric("sharpe", sharpe)
        mlflow.log_metric("total_return", float(portfolio.total_return()))
        mlflow.log_metric("max_drawdown", float(portfolio.max_drawdown()))
    return sharpe


if __name__ == "__main__":
    main()
