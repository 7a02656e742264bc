"""Names of files and symbols as they can be printed and recorded."""

from pathlib import Path


def printable_name(name: str | Path) -> str:
    r"""Return a name with bytes that are no UTF-8 and control characters written as ``\xff``."""
    text = str(name)
    if text.isprintable():
        return text
    # What Python kept of bytes that are no UTF-8 (PEP 383) becomes these bytes again.
    return "".join(
        character
        if not _is_odd(character)
        else f"\\x{ord(character) - 0xDC00 if character >= chr(0xD800) else ord(character):02x}"
        for character in text
    )


def is_plain(text: str) -> bool:
    """Return whether a text has neither control characters nor halves of characters."""
    return text.isprintable() or not any(_is_odd(character) for character in text)


def _is_odd(character: str) -> bool:
    return character < " " or "\x7f" <= character <= "\x9f" or "\ud800" <= character <= "\udfff"
