from backtest_batch.values import cut, cut_in_the_middle, cut_text


def test_a_text_of_the_allowed_length_is_whole():
    for way in (cut, cut_text, cut_in_the_middle):
        assert way("abcd", 4) == "abcd"


def test_a_longer_text_says_that_it_was_cut():
    assert cut("abcdef", 3) == "abc…"
    assert cut_text("abcdef", 3) == "abc… (6 characters)"
    assert cut_in_the_middle("abcdefgh", 4) == "ab\n... (4 characters left out) ...\ngh"
