"""Typed modules: what a gateway serves as classes that a type checker knows, and that a changed contract breaks."""

import asyncio
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.errors import ContractError, ContractMismatch, InvalidEntity, Unavailable
from penstock.sdk import AsyncFeatureClient, FeatureClient, FeatureValue
from penstock.sdk.description import DescribedFeature, ServiceDescription
from penstock.sdk.stubs import generate
from penstock.sdk.testing import AsyncFakeFeatureClient, FakeFeatureClient
from tests.serving.running import Running, running_gateway
from tests.serving.world import NOON

ROOT = Path(__file__).parent.parent.parent
MADE = ["-m", "penstock.cli.main", "sdk", "generate"]

PROJECT = """
from tests.serving.world import DELAYS, FLEET, LOAD, SERVICES

VIEWS = (DELAYS, FLEET, LOAD)
ALL, CARRIERS = SERVICES
"""

RIGHT = """
from datetime import datetime, timedelta

from made import AllFeatures, AsyncCarriers, Carriers, CarriersRow
from penstock.sdk import AsyncFeatureClient, FeatureClient
from penstock.sdk.testing import FakeFeatureClient


def delay(client: FeatureClient, carrier: str | None) -> float:
    row = Carriers(client).get(carrier=carrier)
    age: timedelta | None = row.detail("delays__mean").age
    hubs: list[str] = row.fleet__hubs or []
    flights: int = row.delays__flights or len(hubs)
    return (row.delays__mean or 0.0) + flights + (age.total_seconds() if age is not None else 0)


def delays(client: FakeFeatureClient) -> list[float | None]:
    return [row.delays__mean for row in Carriers(client).get_many([{"carrier": "UA"}, {"carrier": None}])]


def seats(client: FeatureClient, departs: datetime) -> int | None:
    return AllFeatures(client).get(carrier="UA", number=1, departs=departs).load__seats


async def later(client: AsyncFeatureClient) -> CarriersRow:
    return await AsyncCarriers(client).get(carrier="UA")


BY_HAND = CarriersRow(fleet__hubs=None, fleet__since=None, delays__mean=1.5, delays__flights=None)
"""

WRONG = """
from made import AsyncCarriers, Carriers, CarriersRow
from penstock.sdk import AsyncFeatureClient, FeatureClient


def f(client: FeatureClient, other: AsyncFeatureClient) -> None:
    service = Carriers(client)
    row = service.get(carrier="UA")
    row.delays__mode  # attr-defined: no such feature
    row.delays__mean + 1  # operator: it may be None
    hubs: list[int] | None = row.fleet__hubs  # assignment: of another type
    row.detail("delays__mode")  # arg-type: no such feature
    service.get(carier="UA")  # call-arg: no such join key
    service.get()  # call-arg: a join key is missing
    service.get(carrier=1)  # arg-type: of another type
    service.get_many([{"carrier": 1}])  # typeddict-item: of another type
    service.get_many([{}])  # typeddict-item: a join key is missing
    CarriersRow(delays__mean=1.5)  # call-arg: features are missing
    row.delays__mean = 2.5  # misc: what was served does not change
    AsyncCarriers(client)  # arg-type: to wait with, not to be awaited
    Carriers(other)  # arg-type: to be awaited
"""


def run(*command: str, folder: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": str(ROOT), "COLUMNS": "200", **env}
    return subprocess.run([sys.executable, *command], cwd=folder, env=env, capture_output=True, text=True, check=False)


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A module made by the command, of a gateway that runs."""
    folder = tmp_path_factory.mktemp("made")

    async def serve() -> None:
        async with running_gateway(folder) as running:
            ask = ["--url", running.url, "--api-key", "env:KEY"]
            done = await asyncio.to_thread(run, *MADE, "made.py", *ask, folder=folder, KEY=running.key)
            assert (done.returncode, done.stdout) == (0, "made.py: all_features, carriers\n"), done.stderr
            again = await asyncio.to_thread(run, *MADE, "made.py", *ask, "--check", folder=folder, KEY=running.key)
            assert (again.returncode, again.stdout) == (0, "made.py is up to date: all_features, carriers\n")
            few = await asyncio.to_thread(run, *MADE, "few.py", *ask, folder=folder, KEY=running.carriers_key)
            assert (few.returncode, few.stdout) == (0, "few.py: carriers\n")  # what the key may read

    asyncio.run(serve())
    return folder / "made.py"


def test_mypy_takes_the_right_code_and_refuses_each_wrong_line(made: Path, tmp_path: Path) -> None:
    for name, text in (("made.py", made.read_text()), ("right.py", RIGHT), ("wrong.py", WRONG)):
        (tmp_path / name).write_text(text)
    command = ["-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", str(tmp_path / "cache")]
    done = run(*command, "made.py", "right.py", "wrong.py", folder=tmp_path, MYPYPATH=f"{tmp_path}:{ROOT}")
    found = {(line.split(":")[0], line.split(":")[1]): line for line in done.stdout.splitlines() if ": error: " in line}
    expected = {("wrong.py", str(n)): text.split("  # ")[1].split(":")[0] for n, text in enumerate(WRONG.splitlines(), 1) if "  # " in text}
    assert set(found) == set(expected), done.stdout + done.stderr
    assert {where: code for where, code in expected.items() if f"[{code}]" not in found[where]} == {}


def test_values_come_as_attributes_of_their_types(made: Path, tmp_path: Path) -> None:
    module = imported(made)
    by_column = {"carrier": "UA", "number": 1, "departs": NOON}

    def check(row: Any) -> None:
        assert row == module.AllFeaturesRow(
            delays__mean=12.25,
            delays__flights=4,
            delays__worst=[60.0, 7.5],
            fleet__since=datetime(1926, 4, 6, tzinfo=UTC),
            fleet__hubs=["EWR", "ORD"],
            load__seats=151,
        )
        assert row.detail("load__seats") == FeatureValue(151, "PRESENT", NOON - timedelta(minutes=5), timedelta(minutes=5))
        assert row.answer.token.startswith("p1.")

    async def serve(running: Running) -> None:
        async with AsyncFeatureClient(running.url, api_key=running.key, timeout_s=10) as client:
            check(await module.AsyncAllFeatures(client).get(**by_column))
            rows = await module.AsyncCarriers(client).get_many([{"carrier": "XX"}, {"carrier": "UA"}])
            assert [row.delays__mean for row in rows] == [None, 12.25]

    def wait(running: Running) -> None:
        with FeatureClient(running.url, api_key=running.key, timeout_s=10) as client:
            check(module.AllFeatures(client).get(**by_column))
            rows = module.Carriers(client).get_many([{"carrier": "UA"}, {"carrier": None}])
            assert (len(rows), rows[1].delays__mean, rows[1].detail("delays__mean").status) == (2, None, "NOT_FOUND")
            assert [row.fleet__hubs for row in rows[:1]] == [["EWR", "ORD"]]
            assert rows.answer.to_numpy(["delays__mean"]).shape == (2, 1)
            assert list(module.Carriers(client).get_many([])) == []

    run_with_gateway(tmp_path, serve, wait)


def run_with_gateway(folder: Path, serve: Any = None, wait: Callable[[Running], None] | None = None) -> None:
    async def go() -> None:
        async with running_gateway(folder) as running:
            if serve is not None:
                await serve(running)
            if wait is not None:
                await asyncio.to_thread(wait, running)

    asyncio.run(go())


def test_a_module_of_another_contract_is_refused_by_the_gateway_and_found_by_the_check(made: Path, tmp_path: Path) -> None:
    text = made.read_text()
    contract = imported(made).Carriers.service.contract
    (tmp_path / "older.py").write_text(text.replace(contract, "0123456789abcdef"))
    older = imported(tmp_path / "older.py")

    def wait(running: Running) -> None:
        with FeatureClient(running.url, api_key=running.key, timeout_s=10) as client:
            with pytest.raises(ContractMismatch, match=f"served under contract '{contract}', the request pins '0123456789abcdef'"):
                older.Carriers(client).get(carrier="UA")
            assert older.AllFeatures(client).get(carrier="UA", number=1, departs=NOON).load__seats == 151
        ask = [*MADE, "older.py", "--url", running.url, "--api-key", "env:KEY"]
        done = run(*ask, "--check", folder=tmp_path, KEY=running.key)
        assert done.returncode == 1
        assert "older.py is not as the feature services are now: all_features, carriers" in done.stderr
        assert "0123456789abcdef" in (tmp_path / "older.py").read_text()  # a check writes nothing
        done = run(*MADE, "none.py", "--url", running.url, "--api-key", "env:KEY", "--check", folder=tmp_path, KEY=running.key)
        assert (done.returncode, (tmp_path / "none.py").exists()) == (1, False)

    run_with_gateway(tmp_path, wait=wait)


def test_a_projects_definitions_give_the_module_that_its_gateway_gives(made: Path, tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "base.yaml").write_bytes((ROOT / "conf" / "base.yaml").read_bytes())
    (tmp_path / "feature_assets").mkdir()
    (tmp_path / "feature_assets" / "__init__.py").write_text("")
    (tmp_path / "feature_assets" / "world.py").write_text(PROJECT)
    path = f"{tmp_path}:{ROOT}"
    done = run(*MADE, "made.py", "--project", folder=tmp_path, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "made.py").read_text() == made.read_text()
    done = run(*MADE, "one.py", "--project", "--service", "carriers", folder=tmp_path, PYTHONPATH=path)
    assert (done.returncode, done.stdout) == (0, "one.py: carriers\n")
    assert "Made by `penstock sdk generate one.py --service carriers`" in (tmp_path / "one.py").read_text()
    done = run(*MADE, "one.py", "--project", "--service", "nobody", folder=tmp_path, PYTHONPATH=path)
    assert (done.returncode, "no feature service 'nobody' in project 'feature_assets'" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["made"], "made: expected the name of a Python module"),
        (["a-b.py"], "a-b.py: expected the name of a Python module"),
        (["made.py"], "no project here whose gateway to ask"),
        (["made.py", "--url", "http://127.0.0.1:9", "--api-key", "penstock_abc"], "expected where the key is, not the key itself"),
        (["made.py", "--url", "http://127.0.0.1:9", "--api-key", "env:NONE"], "the environment variable NONE is not set"),
        (["made.py", "--url", "http://127.0.0.1:9", "--project"], "--project asks no gateway"),
    ],
)
def test_what_cannot_be_made_says_why(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = run(*MADE, *arguments, folder=tmp_path)
    assert (done.returncode, said in done.stderr, "penstock_abc" in done.stderr) == (1, True, False), done.stderr


def feature(name: str, dtype: str = "float64", **more: Any) -> DescribedFeature:
    return DescribedFeature(name=name, dtype=dtype, **more)


ODD = [
    ServiceDescription(
        name="a_1",
        contract="c1",
        join_keys={"from": "string", "self": "int32", "day": "date", "raw": "binary"},
        request={"amount": "float64"},
        features=[feature("class"), feature("answer", "decimal"), feature("détail__x", "bool"), feature("a b"), feature("a_b")],
    ),
    ServiceDescription(name="a1", contract="c2", join_keys={}, features=[feature("v__one", "list[timestamp]")]),
    ServiceDescription(name="a1_row", contract="c3", join_keys={}, features=[feature("v__one"), feature("v__two")]),
    ServiceDescription(
        name="none",
        contract="c4",
        join_keys={"k" * 48: "string"},
        features=[
            feature("a" * 48 + "__" + "b" * 60, "list[timestamp]", unit='"""; raise SystemExit  \\', default=["x"] * 50, ttl_s=0.5),
            feature("a" * 48 + "__" + "c" * 60),
        ],
    ),
    ServiceDescription(name="service", contract="c5", join_keys={"k": "bool"}, features=[feature("v__one")]),
    ServiceDescription(name="s" * 48, contract="c6", join_keys={"k": "timestamp"}, features=[feature("v__" + "n" * 48)]),
]


def module_of(services: list[ServiceDescription], folder: Path) -> ModuleType:
    (folder / "odd.py").write_text(generate(services, "c"), encoding="utf-8")
    return imported(folder / "odd.py")


def test_names_that_python_keeps_or_that_meet_get_others(tmp_path: Path) -> None:
    odd = module_of(ODD, tmp_path)
    assert [name for name in vars(odd) if name.endswith("Row") and name not in ("TypedRow",)] == [
        "A1Row",
        "A1Row_Row",
        "A1_Row",
        "None_Row",
        "Service_Row",
        "S" + "s" * 47 + "Row",
    ]
    assert [one.name for one in fields(odd.A1_Row)] == ["class_", "answer_", "d_tail__x", "a_b", "a_b_"]
    values = {"class": 1.5, "answer": "any", "détail__x": True, "a b": 2.5, "a_b": 3.5}
    client = FakeFeatureClient().declare(odd.A1_.service)
    keys = {"from": "x", "self": 1, "day": date(2013, 6, 1), "raw": b"\x00", "amount": 0.5}
    client.put("a_1", keys, values)
    row = odd.A1_(client).get(from_="x", self_=1, day=date(2013, 6, 1), raw=b"\x00", amount=0.5)
    assert (row.class_, row.answer_, row.d_tail__x, row.a_b, row.a_b_) == (1.5, "any", True, 2.5, 3.5)
    assert row.detail("a b").value == 2.5
    assert odd.A1(FakeFeatureClient().put("a1", {}, {"v__one": [NOON]})).get().v__one == [NOON]


def test_one_contract_gives_one_text_whoever_asks_and_in_whatever_order() -> None:
    reworded = [
        ServiceDescription(
            name=one.name,
            contract=one.contract,
            join_keys=one.join_keys,
            request=one.request,
            features=[feature(f.name, f.dtype, unit=f.unit, default=f.default, ttl_s=f.ttl_s, description="new") for f in one.features],
            owner="another",
            description="of another day",
        )
        for one in reversed(ODD)
    ]
    assert generate(ODD, "c") == generate(reworded, "c")
    assert generate([], "c").startswith('"""Feature services')


@pytest.mark.parametrize("width", [88, 100, 140, 320])
def test_ruff_format_leaves_it(width: int, made: Path, tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(generate(ODD, "c"), encoding="utf-8")
    (tmp_path / "made.py").write_bytes(made.read_bytes())
    command = ["-m", "ruff", "format", "--diff", "--isolated", "--no-cache", "--line-length", str(width)]
    done = run(*command, "odd.py", "made.py", folder=tmp_path, PATH=os.environ["PATH"])
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@given(
    st.lists(st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True), unique=True, max_size=8),
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6), unique=True, min_size=1, max_size=8),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
)
@settings(max_examples=100, deadline=None)
def test_whatever_things_are_called_the_text_is_python_that_says_it(services: list[str], names: list[str], unit: str) -> None:
    described = [
        ServiceDescription(name=one, contract="c", join_keys=dict.fromkeys(names, "int64"), features=[feature(n, unit=unit) for n in names])
        for one in services
    ]
    scope: dict[str, Any] = {"__name__": "penstock.sdk.typed"}  # dataclasses look at the module of a class
    exec(compile(generate(described, "c"), "made.py", "exec"), scope)
    found = [one for one in scope.values() if hasattr(one, "service") and one.__name__.startswith("Async")]
    assert sorted(one.service.name for one in found if hasattr(one, "get")) == sorted(services)
    for one in found:
        if hasattr(one, "get"):
            assert list(one.service.features) == names
            assert len(fields(one.row)) == len(names)


def test_a_service_with_a_name_that_would_be_code_is_refused() -> None:
    for name, contract in (('x"""', "c"), ("x", 'c"'), ("", "")):
        with pytest.raises(ContractError, match="not the name and contract of a feature service"):
            generate([ServiceDescription(name=name, contract=contract, join_keys={}, features=[])], "c")


def test_what_a_baseline_leaves_out_is_none_and_what_it_invents_is_refused(made: Path) -> None:
    module = imported(made)
    given: dict[str, Any] = {"delays__mean": 1.5}
    with FeatureClient("http://127.0.0.1:9", timeout_s=0.2, baseline=lambda _, entities: [given] * len(entities)) as client:
        rows = module.Carriers(client).get_many([{"carrier": "UA"}, {"carrier": "AA"}])
        assert [(row.delays__mean, row.delays__flights) for row in rows] == [(1.5, None)] * 2
        assert (rows[0].detail("delays__mean").status, rows.answer.degraded) == ("DEFAULT", "baseline")
        with pytest.raises(LookupError):
            rows[0].detail("delays__flights")
        given.clear()
        assert module.Carriers(client).get(carrier="UA").delays__mean is None
        given["delays__mode"] = 1
        with pytest.raises(ContractMismatch, match="'delays__mode' is no feature of contract"):
            module.Carriers(client).get(carrier="UA")


def test_a_fake_stands_where_a_client_stands(made: Path) -> None:
    module = imported(made)
    client = FakeFeatureClient(NOON).declare(module.Carriers.service)
    client.put("carriers", {"carrier": "UA"}, {"delays__mean": 2.5}, status="STALE", age=timedelta(hours=1))
    row = module.Carriers(client).get(carrier="UA")
    assert (row.delays__mean, row.delays__flights) == (2.5, None)
    assert row.detail("delays__mean") == FeatureValue(2.5, "STALE", NOON - timedelta(hours=1), timedelta(hours=1))
    assert client.asked == [("carriers", [{"carrier": "UA"}])]
    with pytest.raises(InvalidEntity, match="join key 'carrier' is string, got 1"):
        module.Carriers(client).get(carrier=1)
    client.fail(Unavailable("down"))
    with pytest.raises(Unavailable):
        module.Carriers(client).get(carrier="UA")
    later = AsyncFakeFeatureClient(NOON)
    later.fake.declare(module.Carriers.service).put("carriers", {"carrier": "UA"}, {"delays__mean": 2.5})
    assert asyncio.run(module.AsyncCarriers(later).get(carrier="UA")).delays__mean == 2.5


def test_a_row_made_by_hand_has_values_and_no_answer(made: Path) -> None:
    row = imported(made).CarriersRow(fleet__hubs=None, fleet__since=None, delays__mean=1.5, delays__flights=None)
    assert row.delays__mean == 1.5
    with pytest.raises(LookupError, match="made by hand"):
        row.detail("delays__mean")
