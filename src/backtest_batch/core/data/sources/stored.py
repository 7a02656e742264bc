"""Prices that are already in the cache."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from backtest_batch.core.data.cache import find_link, open_panel, save_link, store
from backtest_batch.core.data.gains import Gains
from backtest_batch.core.data.panel import Panel
from backtest_batch.core.data.sources.base import Source
from backtest_batch.core.data.tables import Reading, bars_of_frames
from backtest_batch.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Stored(Source):
    """A panel that was put into the cache before: prices from a notebook, for example.

    Anything in the cache may be deleted. These prices are then gone, until they are stored again,
    which gives them the same fingerprint.

    Parameters
    ----------
    fingerprint
        sha256 of the panel's content; see :attr:`Panel.fingerprint`.
    """

    fingerprint: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch("[0-9a-f]{64}", self.fingerprint):
            raise ValueError(
                "`fingerprint` must be 64 hexadecimal digits, but got "
                f"fingerprint={self.fingerprint}."
            )

    def identity(self) -> dict[str, Any]:
        """Return the options, including the fingerprint, and the notes on the panel."""
        return {**self.parameters(), "notes": list(self._notes())}

    def read(self, wanted: Sequence[str] | None) -> Reading:
        """Return the panel, reduced to the wanted symbols."""
        panel = open_panel(self.fingerprint)
        known = set(panel.symbols)
        chosen = [
            symbol for symbol in (panel.symbols if wanted is None else wanted) if symbol in known
        ]
        if self.gains == Gains():
            return Reading(
                available=panel.symbols,
                bars=[],
                in_order=True,
                notes=self._notes(),
                panel=panel.of_symbols(chosen),
            )
        if panel.members is not None or panel.feature_arrays:
            raise DataError(
                "a stored panel with members or features holds prices already: `data.values` and "
                "`data.kind` are arguments of panel_from_frames"
            )
        return Reading(
            available=panel.symbols,
            bars=bars_of_frames({name: panel.frame(name)[chosen] for name in panel.fields}),
            in_order=True,
            notes=self._notes(),
        )

    def _notes(self) -> tuple[str, ...]:
        link = find_link(_notes_key(self.fingerprint))
        return () if link is None else link.notes


def store_with_notes(panel: Panel) -> Panel:
    """Put a panel and its notes into the cache; return the panel mapped into memory."""
    stored = store(panel)
    if panel.notes:
        save_link(_notes_key(stored.fingerprint), stored, panel.notes)
    return stored


def _notes_key(fingerprint: str) -> str:
    return f"notes-{fingerprint}"
