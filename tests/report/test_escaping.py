import pytest

from backtest_batch.report.tables import code_block, markdown_text, one_line, short_numbers


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain text, ünïcode …", "plain text, ünïcode …"),
        ("two\nlines\tand\r", "two\\nlines\\tand\\r"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
    ],
)
def test_a_line_holds_no_control_characters(text, line):
    assert one_line(text) == line


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("run_0.5_0.8", "run_0.5_0.8"),
        ("a|b", "a\\|b"),
        ("two\nlines", "two lines"),
        ("*x* `y` <b> [z](u) ~~s~~ $1$", "\\*x\\* \\`y\\` \\<b> \\[z\\](u) \\~\\~s\\~\\~ \\$1\\$"),
        ("__init__() got\\", "\\_\\_init\\_\\_() got\\\\"),
        ("S&P 500 &lt; &#60;", "S&P 500 \\&lt; \\&#60;"),
        (" padded ", "padded"),
    ],
)
def test_markdown_shows_text_as_it_is(text, escaped):
    assert markdown_text(text) == escaped


def test_a_command_with_backticks_stays_one_block():
    assert code_block("echo hi") == "```sh\necho hi\n```"
    assert code_block("echo ```x```") == "````sh\necho ```x```\n````"


def test_numbers_are_short_and_never_zero_by_rounding():
    assert short_numbers("sharpe", [1.23456, -0.5, float("nan"), 0.0, 0.0001234, 123456.7]) == [
        "1.235",
        "-0.500",
        "",
        "0.000",
        "0.00012",
        "123,457",
    ]
    for name, zero in {"max_drawdown": "0.00%", "trades": "0", "sharpe": "0.000"}.items():
        assert short_numbers(name, [-1e-17 if name == "max_drawdown" else -0.0]) == [zero]
    assert short_numbers("max_drawdown", [-0.00004, -0.0001]) == ["0.00%", "-0.01%"]
    assert short_numbers("trades", [1200.0, float("nan"), 7.0]) == ["1,200", "", "7"]
    for name in ("cagr", "volatility", "max_drawdown", "oos_cagr"):
        assert short_numbers(name, [0.12345, -0.5]) == ["12.35%", "-50.00%"]
    assert short_numbers("turnover_annual", [2.0]) == short_numbers("unknown", [2.0]) == ["2.000"]
    assert short_numbers("sharpe", [float("nan")]) == [""]
    assert short_numbers("sharpe", []) == []
