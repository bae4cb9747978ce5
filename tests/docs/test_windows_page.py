"""The example of docs/windows.md is a view, and what the page says of its functions is so."""

import re
from pathlib import Path

from penstock.contract import Entity, FeatureView, Source

PAGE = Path(__file__).parents[2] / "docs" / "windows.md"


def test_the_example_is_a_view_with_every_function_it_imports() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    columns = {"customer": "string", "article": "string", "amount": "float64", "event_time": "timestamp"}
    defined = {"customer": Entity("customer", {"customer": "string"}), "orders": Source("orders", schema=columns, owner="shop")}
    exec(example, defined)
    view = defined["VIEW"]
    assert isinstance(view, FeatureView)
    assert {"amount_p95_30d", "article_distinct_30d", "orders_7d", "amount_std_30d"} <= set(view.feature_names)
