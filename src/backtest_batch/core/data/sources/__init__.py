"""Where market data come from: constructors that ``data._target_`` names.

Each is imported when it is asked for: what reads files and databases is not needed for other data.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backtest_batch.core.data.sources.base import Source
    from backtest_batch.core.data.sources.files import Csv, Excel, Parquet
    from backtest_batch.core.data.sources.no_prices import NoPrices
    from backtest_batch.core.data.sources.sp500 import Sp500
    from backtest_batch.core.data.sources.sql import Sql
    from backtest_batch.core.data.sources.stored import Stored
    from backtest_batch.core.data.sources.synthetic import Synthetic
    from backtest_batch.core.data.sources.yahoo import Yahoo

__all__ = [
    "Csv",
    "Excel",
    "NoPrices",
    "Parquet",
    "Source",
    "Sp500",
    "Sql",
    "Stored",
    "Synthetic",
    "Yahoo",
]

_MODULES = {
    "Csv": "files",
    "Excel": "files",
    "NoPrices": "no_prices",
    "Parquet": "files",
    "Source": "base",
    "Sp500": "sp500",
    "Sql": "sql",
    "Stored": "stored",
    "Synthetic": "synthetic",
    "Yahoo": "yahoo",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
