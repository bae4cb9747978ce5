"""Generated clients: what is served arrives as attributes with types, and what the service does not have fails a type check."""

import asyncio
import importlib.util
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any
from zlib import crc32

import pytest

from penstock.errors import ContractMismatch
from penstock.sdk import AsyncFeatureClient, FeatureClient
from penstock.sdk.generate import Described, module_of
from penstock.serving.catalogue import describe_service
from tests.serving.running import Running, running_gateway

EVERY_TYPE = Described(
    "every_type",
    "0123456789abcdef",
    'Says "all" of what there is, in a sentence that is longer than a line may be, with a \\ in it as well.',
    {"class": "string", "day": "date", "number": "int64", "raw": "binary"},
    {
        "v__flag": "bool",
        "v__at": "timestamp",
        "v__mean": "float32",
        "v__names": "list[string]",
        "v__times": "list[timestamp]",
        "v__n": "int32",
    },
)


def described(running: Running, name: str) -> Described:
    assert running.gateway._keeper is not None
    assert running.gateway._keeper.state is not None
    service = describe_service(running.gateway._keeper.state, name)
    return Described(service.name, service.contract, service.description, service.join_keys, {f.name: f.dtype for f in service.features})


def imported(text: str, folder: Path) -> ModuleType:
    path = folder / "generated.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location("generated", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["generated"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_what_is_served_arrives_as_attributes(tmp_path: Path) -> None:
    async def check() -> None:
        async with running_gateway(tmp_path) as running:
            module = imported(module_of([described(running, "all_features")]), tmp_path)
            keys = [module.AllFeaturesKey(carrier="UA", number=1, departs=datetime.fromisoformat("2013-06-01T12:00:00Z"))]

            def ask() -> Any:
                with FeatureClient(running.url, api_key=running.key) as client:
                    return module.AllFeatures(client).features(keys)

            typed = await asyncio.to_thread(ask)
            async with AsyncFeatureClient(running.url, api_key=running.key) as client:
                awaited = await module.AsyncAllFeatures(client).features(keys)
        assert typed.rows == awaited.rows
        (plain,) = typed.result.to_dicts()
        assert {name: getattr(typed.rows[0], name) for name in plain} == plain
        assert any(value is not None for value in plain.values())

    asyncio.run(check())


def test_another_contract_is_refused(tmp_path: Path) -> None:
    async def check() -> None:
        async with running_gateway(tmp_path) as running:
            other = module_of([described(running, "carriers")]).replace('CONTRACT = "', 'CONTRACT = "0')
            module = imported(other, tmp_path)
            async with AsyncFeatureClient(running.url, api_key=running.key) as client:
                with pytest.raises(ContractMismatch):
                    await module.AsyncCarriers(client).features([module.CarriersKey(carrier="UA")])

    asyncio.run(check())


USER = """
from generated import EveryType, EveryTypeKey
from penstock.sdk import FeatureClient

def ask(client: FeatureClient) -> float | None:
    key = EveryTypeKey(class_="a", day=None, number=1, raw=b"")
    row = EveryType(client).features([key]).rows[0]
    names: list[str] | None = row.v__names
    assert names is not None
    return {expression}
"""


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("row.v__mean", ""),
        ("row.v__maen", 'has no attribute "v__maen"'),
        ("row.v__at", "Incompatible return value type"),
        ('EveryType(client).features([EveryTypeKey(class_="a", day=None, number="1", raw=b"")]).rows[0].v__mean', "incompatible type"),
    ],
)
def test_a_type_check_knows_the_service(tmp_path: Path, expression: str, complaint: str) -> None:
    (tmp_path / "generated.py").write_text(module_of([EVERY_TYPE]))
    user = f"user_{crc32(expression.encode())}.py"  # mypy's cache tells files of one name and size by their time, in seconds
    (tmp_path / user).write_text(USER.replace("{expression}", expression))
    root = Path(__file__).parent.parent.parent
    line = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", str(root / ".mypy_cache" / "typed"), user]
    done = subprocess.run(line, cwd=tmp_path, env={"MYPYPATH": str(root)}, capture_output=True, text=True, check=False)
    assert complaint in done.stdout
    assert bool(done.stdout) == bool(complaint), done.stdout
    assert not done.stderr


def test_the_same_services_give_the_same_text_whatever_their_order_and_a_formatter_leaves_it(tmp_path: Path) -> None:
    long = "a_service_whose_name_is_as_long_as_a_name_may_be"
    other = Described(long, "f", "", {"k": "int64"}, {"v__x": "float64"})
    text = module_of([EVERY_TYPE, other])
    assert module_of([other, EVERY_TYPE]) == text
    path = tmp_path / "generated.py"
    path.write_text(text)
    for command in (["format", "--check", "--line-length", "88"], ["check", "--select", "E,F,I,UP"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--isolated", str(path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr + text


def test_the_command_writes_the_module_and_tells_when_it_is_out_of_date(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent.parent
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "base.yaml").write_text((root / "conf" / "base.yaml").read_text())

    async def check() -> None:
        async with running_gateway(tmp_path) as running:

            async def run(*arguments: str) -> tuple[int, str]:
                line = [sys.executable, "-m", "penstock.cli.main", "sdk", "generate", *arguments, "--url", running.url]
                env = {"PENSTOCK_KEY": running.key, "PYTHONPATH": str(root), "COLUMNS": "200"}
                done = await asyncio.to_thread(subprocess.run, line, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
                return done.returncode, done.stderr

            module = tmp_path / "features_client.py"
            assert await run("--check") == (
                1,
                "features_client.py is not there; run `penstock sdk generate` and look at what changed\n",
            )
            assert await run() == (0, "wrote features_client.py\n")
            assert module.read_text() == module_of([described(running, name) for name in ("all_features", "carriers")])
            assert await run("--check") == (0, "features_client.py is up to date\n")
            code, said = await run("--check", "carriers")
            assert (code, "is not what is served now" in said) == (1, True)
            code, said = await run("nothing")
            assert (code, "no feature service 'nothing' is published" in said) == (1, True), said

    asyncio.run(check())
