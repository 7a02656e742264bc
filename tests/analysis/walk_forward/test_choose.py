import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from backtest_batch.analysis.ranking import Ranking, rank_runs
from backtest_batch.analysis.run_table import RunTable
from backtest_batch.analysis.stability import with_neighbourhood
from backtest_batch.analysis.walk_forward import check_ranking
from backtest_batch.analysis.walk_forward.walk import Chooser, needed_metrics
from backtest_batch.errors import ConfigurationError

RANKINGS = [
    Ranking.parse("sharpe"),
    Ranking.parse("volatility"),
    Ranking.parse({"sharpe": 0.5, "volatility": 0.3, "calmar": 0.2}),
    Ranking.parse({"sharpe": 1, "calmar": 1}, None, "zscore"),
    Ranking.parse({"sharpe": 1, "volatility": 2}, {"calmar": ">= 0.1"}, "minmax"),
    Ranking.parse("calmar", {"sharpe": "> 0", "volatility": "<= 2"}),
    Ranking.parse("sharpe_neighbourhood"),
    Ranking.parse({"sharpe": 1, "sharpe_neighbourhood": 1}),
]

VALUES = st.one_of(st.sampled_from([0.0, 0.5, 1.0, np.nan]), st.floats(-3, 3, width=16))


@given(
    ranking=st.sampled_from(RANKINGS),
    rows=st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=12),
)
@hypothesis_settings(deadline=None, max_examples=200)
def test_the_choice_is_the_first_of_the_ranking(ranking, rows):
    metrics = pd.DataFrame(rows, columns=["sharpe", "volatility", "calmar"])
    # Reversed, so that the order of the runs is not that of their names.
    run_ids = [f"run_{len(rows) - number:02d}" for number in range(len(rows))]
    params = pd.DataFrame({"strategy.fast": range(len(rows))})
    runs = pd.DataFrame({"run_id": run_ids, "status": "FINISHED"})
    table = with_neighbourhood(RunTable(runs=runs, params=params, metrics=metrics))
    places = rank_runs(table, ranking)["rank"].dropna()
    expected = None if places.empty else int(places.index[0])

    columns = {name: metrics[name].to_numpy() for name in metrics}
    assert Chooser(ranking, run_ids, params)(columns) == expected


def test_ties_go_to_the_first_name():
    chooser = Chooser(Ranking.parse("sharpe"), ["b", "a", "c"], pd.DataFrame({"x": range(3)}))

    assert chooser({"sharpe": np.array([1.0, 1.0, 0.5])}) == 1


def test_out_of_sample_metrics_are_read_as_in_sample_ones():
    ranking = Ranking.parse({"oos_sharpe": 0.5, "sharpe": 0.5}, {"oos_calmar": "> 0"})

    assert needed_metrics(ranking) == ("sharpe", "calmar")
    chooser = Chooser(ranking, ["a", "b"], pd.DataFrame({"x": range(2)}))
    metrics = {"sharpe": np.array([2.0, 1.0]), "calmar": np.array([-1.0, 1.0])}
    assert chooser(metrics) == 1


def test_metrics_that_windows_lack_are_refused():
    available = ("sharpe", "calmar")
    check_ranking(Ranking.parse({"sharpe": 1, "sharpe_neighbourhood": 1}), available)
    with pytest.raises(ConfigurationError, match="turnover_annual cannot be measured on one"):
        check_ranking(Ranking.parse({"sharpe": 1, "turnover_annual": 1}), available)
    with pytest.raises(ConfigurationError, match="trades cannot be measured on one; the choices"):
        check_ranking(Ranking.parse("sharpe", {"trades": ">= 5"}), available)
    with pytest.raises(ConfigurationError, match="runtime_s"):
        check_ranking(Ranking.parse("runtime_s"), available)
