"""The end of a sweep: its comparison, its files, its last words."""

from backtest_batch.sweep.reporting.comparison import Compared, compare
from backtest_batch.sweep.reporting.ending import finish, publish
from backtest_batch.sweep.reporting.parent import end_parent
from backtest_batch.sweep.reporting.summary import print_summary

__all__ = ["Compared", "compare", "end_parent", "finish", "print_summary", "publish"]
