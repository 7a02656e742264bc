"""Damage to texts and bytes, and odd words to put into them; a generator decides all of it."""

import random
from collections.abc import Sequence

CHARACTERS = "abz01 9.,:;=+-_/\\'\"()[]{}<>#&!~^|@%?*$`\t\n\r\0\x07\x1b\x7f\x85äß交🙂\u2028\ufeff"
WORDS = (
    *("null", "true", "NaN", "inf", "-0.0", "1e-7", "1e400", "0x1F", "0700", "1_000", "12:30"),
    *("2020-01-31", "2020-13-45", "99999999999999999999", "-1", "0", "0.5", "???", "${seed}"),
    *("${oc.env:HOME}", "${", "[", "]", "{", "}", "[1,2]", "{a: 1}", "range(0,3)", "choice(a,b)"),
    *("glob(*)", "interval(0,1)", "a,b", "a=b", "it's", "S&P 500", "^GSPC", "%s", "../../x"),
    *("/dev/null/x", "~", "*", "&a [*a]", "!!python/object:x", "<<", "\x1b[31m", "Größe", " ", ""),
)
PIECES = (b"\n", b"\r\n", b",", b";", b"\t", b'"', b"''", b"\0", b"\xff\xfe", b"\xef\xbb\xbf")


def some_text(rng: random.Random, longest: int = 12) -> str:
    """Return a word from the list, or characters at random."""
    if rng.random() < 0.6:
        return rng.choice(WORDS)
    return "".join(rng.choice(CHARACTERS) for _ in range(rng.randint(0, longest)))


def damaged_text(rng: random.Random, text: str) -> str:
    """Return a text with one to four pieces put in, taken out, doubled or exchanged."""
    for _ in range(rng.randint(1, 4)):
        start = rng.randint(0, len(text))
        end = min(len(text), start + rng.randint(0, 12))
        piece = rng.choice(("", some_text(rng), text[start:end] * 2, rng.choice(CHARACTERS)))
        text = text[:start] + piece + text[end:]
    return text


def damaged_bytes(rng: random.Random, content: bytes) -> bytes:
    """Return bytes of which some were changed, cut out, doubled, or cut off at the end."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        start = rng.randint(0, max(0, len(data) - 1))
        length = rng.choice((1, 1, 2, 8, 64))
        match rng.randint(0, 5):
            case 0:
                data[start : start + length] = rng.randbytes(length)
            case 1:
                del data[start : start + length]
            case 2:
                data[start:start] = data[start : start + length]
            case 3:
                data[start:start] = rng.choice(PIECES)
            case 4:
                data[start : start + 1] = bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF))])
            case _:
                if rng.random() < 0.3:
                    del data[start:]
    return bytes(data)


def swapped_lines(rng: random.Random, text: str) -> str:
    """Return a text whose lines were exchanged, left out or doubled."""
    lines = text.split("\n")
    for _ in range(rng.randint(1, 3)):
        one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        lines[one] = rng.choice((lines[other], "", lines[one] + "," + some_text(rng)))
    return "\n".join(lines)


def chosen(rng: random.Random, items: Sequence[str], least: int, most: int) -> list[str]:
    """Return some items, perhaps one of them twice."""
    return [rng.choice(items) for _ in range(rng.randint(least, most))]
