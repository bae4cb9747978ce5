"""What was found as a page: everything that was judged is on it, and what is no number is not shown as one."""

from html.parser import HTMLParser

import msgspec

from penstock.quality.findings import Finding
from penstock.quality.log_replay import Example
from penstock.quality.skew_log import DAY, HOUR, SkewEntry
from penstock.quality.skew_report import skew_page
from tests.quality.skew_entries import entry, judged
from tests.world import MONDAY


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


def test_what_users_wrote_is_text() -> None:
    page = skew_page(windows(), "a < b", "shop")
    assert "<b>ann" not in page
    assert "customer=<b>ann</b>" in Texts(page).all


def test_a_view_of_which_nothing_was_served_says_so() -> None:
    assert "Nothing of it was served." in Texts(skew_page([entry(MONDAY)], "t", "s")).all
