"""report.html and equity.html: self-contained pages that need no network."""

from backtest_batch.report.html.data import Curves, ReportData, SelectionSamples, WalkForwardView
from backtest_batch.report.html.figures import render_equity
from backtest_batch.report.html.page import render_report

__all__ = [
    "Curves",
    "ReportData",
    "SelectionSamples",
    "WalkForwardView",
    "render_equity",
    "render_report",
]
