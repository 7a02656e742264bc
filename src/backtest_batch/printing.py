"""The way out for words: to a terminal, and into a log.

Names and messages come from stores, files and strategies of others. A terminal would obey the
control characters in them, and a secret in an address would be shown.
"""

import logging
import sys
from typing import TextIO

from backtest_batch.masking import masked

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def printable(text: str) -> str:
    r"""Return text without control characters; line feeds and tabs stay, others are ``\x1b``.

    Also marks that turn the direction of text, and halves of characters, are such.
    """
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(
        char
        if char in "\n\t" or char.isprintable()
        else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def say(text: str) -> None:
    """Write to standard error what concerns how the command goes."""
    sys.stderr.write(printable(masked(text)))


def tell(text: str, output: TextIO) -> None:
    """Write to ``output`` what was asked for: standard output is the command's to give."""
    output.write(printable(masked(text)))


class PrintableFormatter(logging.Formatter):
    """Formats messages as they may be shown."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a message; see logging."""
        return printable(masked(super().format(record)))
