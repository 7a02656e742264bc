import pytest

from backtest_batch.core.data.wording import check_known, read_symbols_file
from backtest_batch.errors import DataError, DataNotFoundError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("AAPL\nMSFT\n", ("AAPL", "MSFT")),
        ("\ufeffAAPL\r\n\r\n  MSFT  \r\n", ("AAPL", "MSFT")),
        ("# technology\nAAPL  # Apple\n\nMSFT\nAAPL\n", ("AAPL", "MSFT")),
        ("ES#C\nBRK.B\n", ("ES#C", "BRK.B")),
        ("symbol\nAAPL\nMSFT\n", ("AAPL", "MSFT")),
        ("name,Symbol\n# a comment\nApple,AAPL\n\n'Microsoft',MSFT\n", ("AAPL", "MSFT")),
        ('symbol,name\nAAPL,"Apple, Inc."\nMSFT\n', ("AAPL", "MSFT")),
        ("NA\nTRUE\n", ("NA", "TRUE")),
    ],
)
def test_symbols_files(tmp_path, text, expected):
    file = tmp_path / "wanted.txt"
    file.write_bytes(text.encode())
    assert read_symbols_file(str(file)) == expected


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "symbol\n", "symbol,x\n,1\n"])
def test_files_that_name_no_symbol(tmp_path, text):
    (tmp_path / "wanted.txt").write_text(text)
    with pytest.raises(DataError, match=r"wanted\.txt names no symbol"):
        read_symbols_file(str(tmp_path / "wanted.txt"))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"symbols_file .*none\.txt: no such file"):
        read_symbols_file(str(tmp_path / "none.txt"))
    with pytest.raises(DataError, match="cannot be read"):
        read_symbols_file(str(tmp_path))
    (tmp_path / "latin.txt").write_bytes("Börse\n".encode("latin-1"))
    with pytest.raises(DataError, match="cannot be read"):
        read_symbols_file(str(tmp_path / "latin.txt"))
    (tmp_path / "table.csv").write_text("ticker,name\nAAPL,Apple\n")
    with pytest.raises(DataError, match="needs a column `symbol`, but has ticker, name"):
        read_symbols_file(str(tmp_path / "table.csv"))


def test_unknown_symbols_are_named_with_close_matches():
    check_known(("AAPL",), ("AAPL", "MSFT"))
    with pytest.raises(DataError) as caught:
        check_known(("AAPL", "aapl", "MSTF", "12345"), ("MSFT", "AAPL", "XOM"))
    assert str(caught.value) == (
        "unknown symbol aapl (did you mean AAPL?), MSTF (did you mean MSFT?), 12345; "
        "the data have 3 symbols: AAPL, MSFT, XOM"
    )


def test_many_unknown_symbols_are_counted():
    with pytest.raises(DataError, match=r"unknown symbol 0, 1, 2, 3, 4 and 2 more; the data have"):
        check_known([str(number) for number in range(7)], ["A"])
