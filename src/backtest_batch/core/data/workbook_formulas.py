"""Formulas of workbooks whose values were never calculated, as libraries write them."""

import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree as ET

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
# A cell with a formula, and no value or an empty one behind it.
_CELL = re.compile(
    rb'<c r="([A-Z]{1,3})(\d+)"[^>]*>\s*<f(?:\s[^>]*)?(?:/>|>[^<]*</f>)\s*'
    rb"(?:<v\s*/>|<v>\s*</v>)?\s*</c>"
)


def formulas_without_values(path: Path, sheet: str) -> dict[int, list[int]]:
    """Return the rows of formulas without a stored value, by column; both count from 0.

    Only workbooks of the kind xlsx are looked at; for others the result is empty.

    Parameters
    ----------
    path
        The workbook.
    sheet
        Name of the sheet.
    """
    if not zipfile.is_zipfile(path):
        return {}
    with zipfile.ZipFile(path) as archive:
        name = _part_of(archive, sheet)
        cells = b"" if name is None else archive.read(name)
    found: dict[int, list[int]] = {}
    for letters, row in _CELL.findall(cells):
        column = 0
        for letter in letters:
            column = 26 * column + letter - ord("A") + 1
        found.setdefault(column - 1, []).append(int(row) - 1)
    return found


def _part_of(archive: zipfile.ZipFile, sheet: str) -> str | None:
    """Return the name in the archive of a sheet's cells; None if it is not found."""
    names = set(archive.namelist())
    book, relations = "xl/workbook.xml", "xl/_rels/workbook.xml.rels"
    if not {book, relations} <= names:
        return None
    held = ET.fromstring(archive.read(book)).iter(f"{_MAIN}sheet")
    number = next((each.get(_RELATION) for each in held if each.get("name") == sheet), None)
    for each in ET.fromstring(archive.read(relations)):
        if number is not None and each.get("Id") == number:
            target = str(each.get("Target"))
            part = target.removeprefix("/") if target.startswith("/") else f"xl/{target}"
            return part if part in names else None
    return None
