"""Long texts cut to a length, and how long the texts of a failed run may be where."""

RECORDED_MESSAGE = 10_000
"""Characters of an error message that a run keeps; both ends of a longer one."""

RECORDED_TRACEBACK = 1_000_000
"""Characters of a traceback that a run keeps; both ends of a longer one."""

REPORTED_MESSAGE = 2_000
"""Characters of an error message that a report shows."""

REPORTED_VALUE = 200
"""Characters of a value that a report shows; rankings.csv has all of them."""

LOGGED_MESSAGE = 300
"""Characters of an error message in a line of the log."""


def cut(text: str, length: int) -> str:
    """Return ``text``, or so many characters from its beginning and an ellipsis."""
    return text if len(text) <= length else f"{text[:length]}…"


def cut_text(text: str, length: int = REPORTED_VALUE) -> str:
    """Return ``text``, or its beginning with a note of how long it is."""
    return text if len(text) <= length else f"{text[:length]}… ({len(text):,} characters)"


def cut_in_the_middle(text: str, length: int) -> str:
    """Return ``text``, or its two ends with a note of how much is left out between them."""
    if len(text) <= length:
        return text
    half = length // 2
    return f"{text[:half]}\n... ({len(text) - 2 * half:,} characters left out) ...\n{text[-half:]}"
