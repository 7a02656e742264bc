"""The prices that the demo runs on."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backtest_batch.core.data.layout import ColumnNames
from backtest_batch.core.data.paths import hash_file
from backtest_batch.core.data.sources.base import Source
from backtest_batch.core.data.tables import Reading, read_table
from backtest_batch.core.data.timestamps import TimestampRules
from backtest_batch.errors import DataNotFoundError

_INSIDE_SKFOLIO = Path("datasets", "data", "sp500_dataset.csv.gz")


@dataclass(frozen=True, kw_only=True)
class Sp500(Source):
    """Daily closes of 20 stocks of the S&P 500, 1990 to 2022: the file that skfolio ships.

    8,313 bars, adjusted for splits and dividends, rounded to 0.001. The stocks were chosen after
    the fact: they are survivors, and any long-only book of them looks good.
    """

    def identity(self) -> dict[str, Any]:
        """Return the options and the sha256 of the file."""
        return {**self.parameters(), "file": hash_file(sp500_file())}

    def read(self, wanted: Sequence[str] | None) -> Reading:
        """Return the bars of the file."""
        # Once its panel is in the cache, the file is not read again.
        from backtest_batch.core.data.csv_file import CsvFile

        return read_table(
            CsvFile(sp500_file()),
            symbol="",
            names=ColumnNames(timestamp="Date", close=None),
            rules=TimestampRules(),
            wanted=None if wanted is None else frozenset(wanted),
        )


def sp500_file() -> Path:
    """Return the file that skfolio ships, without importing skfolio.

    Raises
    ------
    DataNotFoundError
        When skfolio is not installed, or no longer ships it; the message says what to install.
    """
    install = "`pip install 'backtest-batch[demo]'` installs it"
    package = importlib.util.find_spec("skfolio")
    if package is None or package.origin is None:
        raise DataNotFoundError(f"data=sp500 is a file of the package skfolio: {install}")
    file = Path(package.origin).parent / _INSIDE_SKFOLIO
    if not file.is_file():
        raise DataNotFoundError(
            f"data=sp500 is a file of the package skfolio, but there is no {file}: {install}"
        )
    return file
