"""On-demand views in training sets: computed, named in the manifest, and made again by the same code or not at all."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from penstock.clock import FixedClock
from penstock.contract import Feature, FeatureService, OnDemandView
from penstock.errors import SpineError, TrainingSetError
from penstock.offline.lake import Lake
from penstock.point_in_time.joined import Resources
from penstock.point_in_time.spine import table_rows
from penstock.registry.project import Project
from penstock.training_set.manifest import find_manifest
from penstock.training_set.sets import TrainingSets
from tests.functions import DOUBLE, function_in, on_demand_in
from tests.point_in_time.tables import DAY, HOUR, a_view, write_rows

UTC_MICROS = pa.timestamp("us", tz="UTC")
SPEND = a_view()


def no_spark() -> Any:
    raise AssertionError("this needs no Spark")


@dataclass(frozen=True)
class Shop:
    lake: Lake
    folder: Path
    view: OnDemandView

    @property
    def sets(self) -> TrainingSets:
        service = FeatureService("basket", views=[SPEND], on_demand=[self.view], owner="tests")
        plain = FeatureService("plain", views=[SPEND], owner="tests")
        project = Project("shop", (SPEND,), (service, plain), (self.view,))
        return TrainingSets(self.lake, project, Resources(no_spark, 2, 10**8), FixedClock(DAY + 300 * HOUR), table_rows, lambda: "registry")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    lake = Lake(str(tmp_path / "lake"))
    write_rows(lake, SPEND, [{"user": n, "at": DAY, "amount": float(n)} for n in range(7)])
    return Shop(lake, tmp_path, on_demand_in(tmp_path, inputs=[SPEND]))


def a_spine() -> pa.Table:
    times = pa.array([DAY + row * HOUR for row in range(40)], UTC_MICROS)
    return pa.table({"user": [row % 8 for row in range(40)], "n": [float(row) for row in range(40)], "event_time": times})


def test_it_is_a_feature_of_the_set_and_made_again_it_is_equal(shop: Shop) -> None:
    made = shop.sets.build("baskets", a_spine(), "basket", mode="assumed", split="hash:0.3:user")
    loaded = shop.sets.load("baskets")
    assert loaded.features == ["spend__amount", "doubled__twice"]
    rows = loaded.to_arrow()
    # twice n where the amount is known: an on-demand view without nulls wants all its columns
    expected = [
        None if amount is None else 2 * n for n, amount in zip(rows["n"].to_pylist(), rows["spend__amount"].to_pylist(), strict=True)
    ]
    assert rows["doubled__twice"].to_pylist() == expected
    assert None in expected
    assert loaded.statistics()["doubled__twice"].rows == 40
    (one,) = made.on_demand
    assert (one.view, one.version, one.features, one.request) == ("doubled", 1, ["twice"], ["n"])
    assert (one.function, one.code) == ("functions:double", shop.view.function.fingerprint)
    assert made.format == 3
    assert find_manifest(shop.lake, "baskets") == made
    assert shop.sets.rebuild("baskets").content == made.content
    assert [one.feature for one in shop.sets.leakage("baskets").features] == ["spend__amount"]  # it leaks as its inputs do


def test_a_set_without_has_the_manifest_it_had(shop: Shop) -> None:
    made = shop.sets.build("plain", a_spine(), "plain", mode="assumed")
    assert made.format == 2
    assert "on_demand" not in msgspec.to_builtins(made)


def test_other_code_is_refused_by_name_and_a_comment_is_no_other_code(shop: Shop) -> None:
    made = shop.sets.build("baskets", a_spine(), "basket", mode="assumed")

    def with_code(text: str) -> Shop:
        return replace(shop, view=replace(shop.view, compute=function_in(shop.folder, text)))

    assert with_code(DOUBLE + "# said\n").sets.rebuild("baskets").content == made.content
    other = with_code(DOUBLE.replace("2.0", "2.5"))
    with pytest.raises(TrainingSetError) as caught:
        other.sets.rebuild("baskets")
    before, now = shop.view.function.fingerprint, other.view.function.fingerprint
    assert f"doubled@1 was computed by functions:double ({before}); its function is now functions:double ({now})" in caught.value.message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "was computed by doubled@1, which this project no longer defines"),
        ({"features": [Feature("twice", "float64", unit="euro")]}, "was built under contract"),
        ({"handles_nulls": True}, "was built under contract"),
    ],
)
def test_another_definition_is_refused(shop: Shop, changes: dict[str, Any], message: str) -> None:
    shop.sets.build("baskets", a_spine(), "basket", mode="assumed")
    other = replace(shop, view=on_demand_in(shop.folder, inputs=[SPEND], **changes))
    with pytest.raises(TrainingSetError, match=message):
        other.sets.rebuild("baskets")


def test_a_spine_without_a_request_field_is_refused_before_anything_is_written(shop: Shop) -> None:
    with pytest.raises(SpineError, match="request field 'n' of doubled@1 is missing"):
        shop.sets.build("baskets", a_spine().drop_columns(["n"]), "basket")
    assert list(shop.sets.list()) == []
