"""What was found as a page: everything that was judged is on it, and what is no number is not shown as one."""

from html.parser import HTMLParser

import msgspec
import numpy as np
import pyarrow as pa

from penstock.contract import Feature
from penstock.offline.statistics import Reference, statistics_of
from penstock.quality.cases import Example
from penstock.quality.findings import Finding
from penstock.quality.skew_log import DAY, HOUR, SkewEntry
from penstock.quality.skew_report import Beside, skew_page
from tests.quality.skew_entries import entry, judged
from tests.world import MONDAY, attempt_entry, view_of_orders


class Texts(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.all: list[str] = []
        self.feed(page)

    def handle_data(self, data: str) -> None:
        self.all.append(data.strip())


def windows(features: int = 2) -> list[SkewEntry]:
    names = [f"feature_{n}" for n in range(features)]
    found = [judged(MONDAY + hour * HOUR, {**dict.fromkeys(names, 0), names[0]: 10 * hour}) for hour in range(1, 25)]
    example = Example(
        "request", 0, MONDAY, {"customer": "<b>ann</b>"}, Finding.STALE, (MONDAY - HOUR, 900), MONDAY, {names[0]: (1.5, None)}
    )
    return [*found[:-1], msgspec.structs.replace(found[-1], examples=[example]), entry(MONDAY + DAY, DAY)]


def test_every_view_feature_and_verdict_is_on_the_page() -> None:
    page = skew_page(windows(), "Served and trained", "shop")
    texts = Texts(page).all
    assert page.count("<svg") == 2
    assert {"last_order@1", "2026-03-02 23:00 to 00:00", "2026-03-02", "feature_0", "feature_1"} <= set(texts)
    assert "critical (240)" in texts
    numbers = {label: texts[n - 1] for n, label in enumerate(texts) if label in ("windows judged", "critical", "warnings")}
    assert numbers == {"windows judged": "25", "critical": "15", "warnings": "5"}


def test_of_many_features_those_are_shown_that_differed() -> None:
    texts = Texts(skew_page(windows(100), "Served and trained", "shop")).all
    assert [text for text in texts if text.startswith("feature_") and "=" not in text] == ["feature_0"]
    assert "99 of 100 features were never another than training is given." in texts


def test_distributions_are_drawn_where_a_day_can_be_compared() -> None:
    view = view_of_orders(features=[Feature("amount", "float64"), Feature("shop", "string"), Feature("basket", "list[int64]")])
    chance = np.random.default_rng(1)
    rows = {"amount": chance.gamma(4.0, 5.0, 2_000), "shop": chance.choice(["<b>", "south"], 2_000), "basket": [[1]] * 2_000}
    statistics = statistics_of(pa.table(rows), list(rows))
    entries = [entry(MONDAY + DAY, DAY, served=statistics, rows=2_000, differing={"amount": 0}, compared={"amount": 2_000})]
    page = skew_page(entries, "t", "s", {view: Beside([Reference("orders of 2026-02-01", statistics)])})
    assert page.count("<svg") == skew_page(entries, "t", "s").count("<svg") + 1
    assert {"served on 2026-03-02", "orders of 2026-02-01", "amount", "shop", "<b>"} <= set(Texts(page).all)
    assert "basket" not in Texts(page).all
    assert skew_page(entries, "t", "s", {view: Beside([Reference("others", {})])}) == skew_page(entries, "t", "s")


def test_days_that_were_refused_or_warned_of_are_told_with_why() -> None:
    view, days = view_of_orders(), [(MONDAY + n * DAY).date() for n in range(3)]
    kept = {day: attempt_entry(day) for day in days}
    texts = Texts(skew_page(windows(), "t", "s", {view: Beside(attempts=kept)})).all
    assert "All 3 day(s) that were computed kept the view's contract." in texts
    odd = {
        **kept,
        days[0]: attempt_entry(days[0], state="quarantined", reasons=["has_rows: 0, expected at least 1"], warnings=["<b>"]),
        days[1]: attempt_entry(days[1], warnings=["amount_at_most_100: 1 row(s), expected none"]),
    }
    texts = Texts(skew_page(windows(), "t", "s", {view: Beside(attempts=odd)})).all
    assert {"refused", "has_rows: 0, expected at least 1; <b>", "committed, with a warning"} <= set(texts)
    assert "The other 1 day(s) kept it." in texts


def test_what_users_wrote_is_text() -> None:
    page = skew_page(windows(), "a < b", "shop")
    assert "<b>ann" not in page
    assert "customer=<b>ann</b>" in Texts(page).all


def test_a_view_of_which_nothing_was_served_says_so() -> None:
    assert "Nothing of it was served." in Texts(skew_page([entry(MONDAY)], "t", "s")).all
