"""What the name of a column tells: a field, a symbol, both, or that it holds no prices."""

import ast
import functools
import re
import unicodedata
from collections.abc import Iterable, Sequence

CLOSE_LIKE = frozenset({"close", "adj_close", "last", "price"})
"""Meanings of columns that may be an asset's closes."""


PRICES = frozenset({"open", "high", "low", "adj_open", "adj_high", "adj_low", *CLOSE_LIKE})
"""Meanings of columns of prices of one asset."""


_FIELD_WORDS = {
    "open": "open|open price|opening price|price open|px open",
    "high": "high|high price|highest price|price high|px high",
    "low": "low|low price|lowest price|price low|px low",
    "close": "close|close price|closing price|price close|close last",
    "volume": "volume|vol|px volume",
}
_LAST = (
    "last|last price|price last|px last|price|prc|obs value|trade price|settle|settle price|"
    "settlement|settlement price"
)
_OTHER_PRICES = "bid|ask|mid|vwap|prev close|previous close"
_NO_PRICES = (
    "tick volume|tickvol|real volume|total volume|quote volume|quote asset volume|base volume|"
    "taker buy volume|taker buy quote volume|taker buy base asset volume|"
    "taker buy quote asset volume|total traded quantity|shares traded|quantity|turnover|"
    "open interest|open int|openint|dividend|dividends|dividend amount|div cash|ex dividend|"
    "repaired?|split|splits|stock splits|split factor|split ratio|split coefficient|"
    "capital gains|trades|trade count|"
    "number of trades|no of trades|count|change|change %|% change|chg|spread|shares outstanding|"
    "market cap|marketcap|total assets|net assets|ignore|time|open time|close time|per|period|"
    "unix|shrout|permno|permco|cfacpr|cfacshr"
)
# Names that exports in German, French, Spanish, Italian, Portuguese, Dutch, Polish, Russian,
# Turkish, Japanese, Chinese and Korean have, of banks, Yahoo, investing.com and stooq.pl among
# others. Words that are tickers (MAX, MIN, ALTO) are not among them.
_FOREIGN_FIELD_WORDS = {
    "open": "eröffnung|eroeffnung|eröffn|eröffnungskurs|eroeffnungskurs|"
    "eröffnungspreis|erster|erster kurs|offen|ouverture|ouv|cours d'ouverture|apertura|"
    "precio de apertura|prezzo di apertura|abertura|otwarcie|откр|"
    "открытие|açılış|始値|"
    "开盘|开盘价|開盤|開盤價|시가",
    "high": "hoch|höchst|hoechst|höchstkurs|hoechstkurs|tageshoch|plus haut|"
    "cours le plus haut|élevé|máximo|máxima|precio máximo|massimo|"
    "prezzo massimo|hoog|hoogste|najwyższy|макс|"
    "максимум|yüksek|高値|最高|"
    "最高价|最高價|高|고가",
    "low": "tief|tiefst|tiefstkurs|tagestief|niedrig|plus bas|cours le plus bas|faible|"
    "mínimo|mínima|precio mínimo|minimo|prezzo minimo|laag|laagste|najniższy|"
    "мин|минимум|düşük|安値|"
    "最低|最低价|最低價|低|저가",
    "close": "schluss|schlusskurs|schlusspreis|clôture|cours de clôture|cierre|"
    "precio de cierre|chiusura|prezzo di chiusura|fechamento|slotkoers|zamknięcie|"
    "закр|закрытие|kapanış|"
    "終値|收盘|收盘价|收盤|收盤價|종가",
    "volume": "volumen|umsatz|stücke|stuecke|stück|handelsvolumen|volumi|wolumen|"
    "объем|объём|hacim|hac|出来高|"
    "成交量|交易量|거래량|wol",
}
_FOREIGN_ADJUSTED = (
    "clôture ajustée|cierre ajustado|chiusura aggiustata|fechamento ajustado|"
    "bereinigter schlusskurs|調整後終値"
)
_FOREIGN_LAST = (
    "zuletzt|letzter|letzter kurs|kurs|dernier|dernier cours|último|último precio|"
    "precio|ultimo prezzo|prezzo|laatste|şimdi|цена|ostatnio"
)
_FOREIGN_NO_PRICES = (
    "+ %|variation|variation %|% var|var %|var%|veränderung|differenz|verschil %|"
    "zmiana|zmiana %|zmiana%|"
    "изм %|fark %|変化率 %|変化率|涨跌幅|"
    "成交额|成交額|변동 %"
)


def unaccented(text: str) -> str:
    """Return a text without accents: ``cloture`` for ``clôture``."""
    if text.isascii():
        return text
    parts = unicodedata.normalize("NFKD", text)
    return "".join(part for part in parts if not unicodedata.combining(part))


_WORDS = {
    word: field
    for table in (_FIELD_WORDS, _FOREIGN_FIELD_WORDS)
    for field, words in table.items()
    for word in words.split("|")
}
_MEANINGS = (
    _WORDS
    | {
        f"{adjusted} {word}": f"adj_{field}"
        for word, field in _WORDS.items()
        for adjusted in ("adj", "adjusted")
    }
    | dict.fromkeys(("adjclose", "adjusted", "close adj", "close adjusted"), "adj_close")
    | dict.fromkeys(_FOREIGN_ADJUSTED.split("|"), "adj_close")
    | dict.fromkeys(f"{_LAST}|{_FOREIGN_LAST}".split("|"), "last")
    | dict.fromkeys(_OTHER_PRICES.split("|"), "price")
    | dict.fromkeys(f"{_NO_PRICES}|{_FOREIGN_NO_PRICES}".split("|"), "no price")
)
_ABBREVIATED = {"max.": "high", "min.": "low"}  # without the point they are tickers
_MEANINGS |= {unaccented(word): meaning for word, meaning in _MEANINGS.items()}
# 4. close (Alpha Vantage), <CLOSE> (Stooq, MetaTrader), Adj Close** (Yahoo's pages).
_ORNAMENT = re.compile(
    r"^#\s*|^\d+[.:]\s*|[<>*\ufeff]|\s*[(\[](?:usd|eur|gbp|chf|jpy|[$\u20ac\u00a3\u00a5])[)\]]$",
    re.I,
)
_CRSP = frozenset({"permno", "permco", "ret", "retx", "shrout", "bidlo", "askhi", "cfacpr"})
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_GAP = re.compile(r"[\s_./-]+")


@functools.lru_cache(maxsize=1 << 14)
def plain(name: str) -> str:
    """Return a name in lower case with single spaces: ``adj close`` for ``adjClose``."""
    return _GAP.sub(" ", _HUMP.sub(" ", _ORNAMENT.sub("", name.strip()))).strip().casefold()


def column_meaning(name: str) -> str | None:
    """Return what a column of this name holds; None if the name tells nothing.

    The result is a field of a panel; ``adj_close`` or another adjusted field; ``last`` for what may
    be closes under another name (last, price, settle); ``price`` for other prices (bid, vwap); or
    ``no price`` for counts, dividends and the like.
    """
    if name.strip().casefold() in _ABBREVIATED:
        return _ABBREVIATED[name.strip().casefold()]
    short = plain(name)
    found = _MEANINGS.get(unaccented(short))
    if found is None and short.startswith("volume "):  # Volume USDT
        return "no price"
    return found


def pair_of(column: str) -> tuple[str, str] | None:
    """Return the two labels of a column that pandas wrote as ``('Close', 'AAPL')``.

    None if the text has another form. A level without a name of its own is empty.
    """
    if not (column.startswith("(") and column.endswith(")")) or len(column) > 1_000:
        return None
    try:
        labels = ast.literal_eval(column)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if not (isinstance(labels, tuple) and len(labels) == 2):
        return None
    first, second = ("" if str(each).startswith("Unnamed: ") else str(each) for each in labels)
    return first.strip(), second.strip()


def fields_by_symbol(
    pairs: Sequence[tuple[str, str]],
) -> list[tuple[str, str]] | None:
    """Return (field's label, symbol) for labels that pair fields with symbols, in either order.

    None if neither level holds only fields, or both do and cannot be told apart.
    """
    sides = []
    for side in (0, 1):
        meanings = {column_meaning(pair[side]) for pair in pairs}
        if None not in meanings and meanings & CLOSE_LIKE:
            sides.append(side)
    if len(sides) != 1:
        return None
    (field,) = sides
    return [(pair[field], pair[1 - field]) for pair in pairs]


def split_names(columns: Sequence[str]) -> list[tuple[str, str]] | None:
    """Return (field's label, symbol) for names such as ``AAPL.Close`` and ``Volume_MSFT``.

    None unless all names begin, or all end, with a field, and there is more than one field.
    """
    for at_front in (True, False):
        pairs = [_split(column, at_front=at_front) for column in columns]
        known = [pair for pair in pairs if pair is not None]
        meanings = {column_meaning(field) for field, _ in known}
        # Open Text and Change Healthcare are companies: a field that occurs once tells nothing.
        several = len({symbol for _, symbol in known}) < len(known)
        if len(known) == len(pairs) and len(meanings) > 1 and (several or meanings & CLOSE_LIKE):
            return known
    return None


def is_no_price(column: str) -> bool:
    """Return whether a column is no price by its name: ``Dividends``, ``AAPL_Volume``."""
    if column_meaning(column) in ("volume", "no price"):
        return True
    front, back = (_split(column, at_front=at_front) for at_front in (True, False))
    # Change Healthcare is a company, so only a volume counts at the front of a name.
    return (front is not None and column_meaning(front[0]) == "volume") or (
        back is not None and column_meaning(back[0]) in ("volume", "no price")
    )


def _split(column: str, *, at_front: bool) -> tuple[str, str] | None:
    cuts: Iterable[re.Match[str]] = re.finditer(r"[\s_.|/:-]", column.strip())
    # Take the longest field: `Adj Close` of `Adj Close AAPL`, not `Adj`.
    for cut in sorted(cuts, key=lambda cut: cut.start(), reverse=at_front):
        front, back = column.strip()[: cut.start()], column.strip()[cut.end() :]
        field, symbol = (front, back) if at_front else (back, front)
        if symbol and column_meaning(field) is not None:
            return field, symbol
    return None


def is_of_crsp(columns: Iterable[str]) -> bool:
    """Return whether one of the columns beside a price or a return has a name that CRSP gives."""
    return any(plain(column) in _CRSP for column in columns)


def _are_of_crsp(columns: Sequence[str], meanings: Sequence[str | None]) -> bool:
    """Return whether a column is CRSP's price, and all others are its or known."""
    others = [column for column in columns if plain(column) != "prc"]
    if len(others) == len(columns) or not is_of_crsp(others):
        return False
    return all(
        meaning is not None or plain(column) in _CRSP
        for column, meaning in zip(columns, meanings, strict=True)
    )


def looks_like_bars(columns: Sequence[str]) -> bool:
    """Return whether the columns are fields of one asset rather than assets.

    ``LOW`` and ``OPEN`` are symbols too. So unless there are both a high and a low, more than half
    of the columns must have known names, or half of them if one of these may hold closes.
    """
    if {"o", "h", "l", "c"} <= {column.strip().casefold() for column in columns}:
        return True
    meanings = [column_meaning(column) for column in columns]
    if _are_of_crsp(columns, meanings):
        return True
    known = [each for each in meanings if each is not None]
    if {"high", "low"} <= set(known):
        return True
    most = len(columns) - (1 if CLOSE_LIKE.intersection(known) else 0)
    return bool(PRICES.intersection(known)) and len(known) > 1 and 2 * len(known) > most
