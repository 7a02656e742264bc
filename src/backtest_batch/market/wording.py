"""How messages name what was read and the keys that decide."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Wording:
    """Names a table, and the keys that decide how it is read.

    Attributes
    ----------
    table
        What the table is called: the file, or the DataFrame.
    in_memory
        Whether it is a DataFrame: its keys are arguments of ``panel_from_frames``.
    """

    table: str
    in_memory: bool = False

    def key(self, name: str) -> str:
        """Return the key of a setting."""
        return f"`{name}`" if self.in_memory else f"`data.{name}`"

    def setting(self, name: str, value: Any) -> str:
        """Return what to type so that ``name`` has this value."""
        if self.in_memory:
            return f"`panel_from_frames(frame, {name}={value!r})`"
        shown = "null" if value is None else str(value).lower() if value in (True, False) else value
        text = f"data.{name}={shown}"
        # What a shell would take apart needs quotes; so does a space within Hydra's own.
        plain = isinstance(shown, str) and shown.replace("_", "").replace(".", "").isalnum()
        return f"`{text}`" if plain else f"`\"data.{name}='{shown}'\"`"

    def leave_out(self, columns: list[str]) -> str:
        """Return what to type so that columns are left out."""
        if self.in_memory:
            return f"`frame.drop(columns={columns!r})`"
        listed = ",".join(columns)
        if listed.replace(",", "").replace(".", "").replace("_", "").isalnum():
            return f"`'data.exclude=[{listed}]'`"
        quoted = ",".join(f"'{column}'" for column in columns)
        return f'`"data.exclude=[{quoted}]"`'
