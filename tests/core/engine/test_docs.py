import re
from pathlib import Path

from backtest_batch.core.engine.metrics import EXECUTION_METRICS, METRICS, RESULT_METRICS

DOCS = Path(__file__).parents[3] / "docs"
ARROWS = {"↑": 1, "↓": -1, "·": 0}


def test_the_table_of_metrics_is_complete_and_has_the_directions() -> None:
    text = (DOCS / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.) \|.*\|$", text, re.MULTILINE)
    assert tuple(name for name, _ in rows) == RESULT_METRICS + EXECUTION_METRICS
    assert {name: ARROWS[arrow] for name, arrow in rows} == {
        name: metric.direction for name, metric in METRICS.items()
    }
