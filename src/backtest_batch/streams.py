"""Output: standard streams that always exist, and whose failures fail nothing else.

Names and messages come from stores, files and strategies of others. A terminal would obey control
characters in them, and an address could reveal a secret.

A command may have closed streams (a daemon, ``2>&-``), a full disk (``> log``), a pipe whose reader
leaves (``| head -1``), or a terminal that is closed while it runs. None of this is a reason to lose
a batch: what cannot be written is left out.
"""

import contextlib
import io
import logging
import os
import select
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from backtest_batch.masking import masked

STANDARD = ("stdin", "stdout", "stderr")


class ForgivingWriter(io.RawIOBase):
    """Writes to a descriptor, and silently leaves out what cannot be written.

    Attributes
    ----------
    error
        The first error because of which something was left out, or None.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.error: OSError | None = None

    def writable(self) -> bool:
        """Return True."""
        return True

    def isatty(self) -> bool:
        """Return whether the descriptor is a terminal."""
        return os.isatty(self._descriptor)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        """Write as much as possible, and return the full length."""
        size = len(data)
        try:
            self._write(memoryview(data).cast("B"))
        except OSError as error:
            self.error = self.error or error
        return size

    def _write(self, rest: memoryview) -> None:
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                # Another process has made the terminal or pipe non-blocking.
                select.select([], [self._descriptor], [])


def forgiving(
    descriptor: int,
    *,
    encoding: str = "utf-8",
    errors: str = "backslashreplace",
    line_buffering: bool = True,
    write_through: bool = False,
) -> tuple[io.TextIOWrapper, ForgivingWriter]:
    """Return a stream that writes text to a descriptor and never fails, and its raw writer."""
    writer = ForgivingWriter(descriptor)
    # With PYTHONUNBUFFERED text is written through, but the buffer keeps it until a flush.
    buffer: Any = writer if write_through else io.BufferedWriter(writer)
    stream = io.TextIOWrapper(
        buffer,
        encoding=encoding,
        errors=errors,
        line_buffering=line_buffering,
        write_through=write_through,
    )
    return stream, writer


def open_missing() -> None:
    """Open those standard streams on the null device that were closed when this process started.

    Otherwise the next opened file gets the descriptor of one, and printed text ends in that file.
    """
    for descriptor in range(len(STANDARD)):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free descriptor: this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name in STANDARD:
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115


class Output:
    """Tells what became of printed text.

    Attributes
    ----------
    writer
        The raw writer of standard output; None if that is not the process's own.
    """

    writer: ForgivingWriter | None = None

    @property
    def lost(self) -> str:
        """Why not all text could be written; empty if it was, or if the reader is gone."""
        error = None if self.writer is None else self.writer.error
        if error is None or isinstance(error, BrokenPipeError):
            return ""
        return str(error.strerror or error)


@contextlib.contextmanager
def forgiving_output() -> Iterator[Output]:
    """Make standard output and error forgiving during the block.

    Streams that replace them (in a notebook, in a test) stay.
    """
    open_missing()
    output, before = Output(), (sys.stdout, sys.stderr)
    ours = sys.__stdout__, sys.__stderr__
    if ours[0] is not None and sys.stdout is ours[0]:
        sys.stdout, output.writer = _like(ours[0], 1)
    if ours[1] is not None and sys.stderr is ours[1]:
        sys.stderr, _ = _like(ours[1], 2)
    try:
        yield output
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        sys.stdout, sys.stderr = before


def _like(stream: TextIO, descriptor: int) -> tuple[io.TextIOWrapper, ForgivingWriter]:
    """Return a forgiving stream like another, after flushing that one."""
    with contextlib.suppress(OSError, ValueError):
        stream.flush()
    return forgiving(
        descriptor,
        encoding=stream.encoding,
        # A name that the terminal cannot show must not end a batch either.
        errors="backslashreplace" if stream.errors == "strict" else stream.errors or "strict",
        line_buffering=bool(getattr(stream, "line_buffering", True)),
        write_through=bool(getattr(stream, "write_through", False)),
    )


LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def printable(text: str) -> str:
    r"""Return text without control characters; line feeds and tabs stay, others are ``\x1b``.

    That includes marks that reverse the direction of text, and lone surrogates.
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
    """Write a message about the progress of the command to standard error."""
    sys.stderr.write(printable(masked(text)))


def tell(text: str, output: TextIO) -> None:
    """Write results to ``output``, which for a command is standard output."""
    output.write(printable(masked(text)))


class PrintableFormatter(logging.Formatter):
    """Formats messages so that they are safe to show."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a message; see logging."""
        return printable(masked(super().format(record)))
