"""Where market data come from: constructors that ``data._target_`` names."""

from backtest_batch.core.data.sources.base import Source
from backtest_batch.core.data.sources.files import Csv, Excel, Parquet
from backtest_batch.core.data.sources.sp500 import Sp500
from backtest_batch.core.data.sources.sql import Sql
from backtest_batch.core.data.sources.stored import Stored
from backtest_batch.core.data.sources.synthetic import Synthetic
from backtest_batch.core.data.sources.yahoo import Yahoo

__all__ = ["Csv", "Excel", "Parquet", "Source", "Sp500", "Sql", "Stored", "Synthetic", "Yahoo"]
