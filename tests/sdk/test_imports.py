"""The SDK runs inside other people's services: it must bring none of our machinery along, and little of others'."""

import json
import subprocess
import sys

import pytest

OTHERS = {"anyio", "certifi", "h11", "httpcore", "msgspec", "sniffio", "typing_extensions"}
"""What it may bring; what each costs is in ADR 0019."""

OURS = {
    "penstock",
    "penstock.clock",
    "penstock.errors",
    "penstock.sdk",
    "penstock.sdk.client",
    "penstock.sdk.description",
    "penstock.sdk.outage",
    "penstock.sdk.result",
    "penstock.sdk.route",
    "penstock.sdk.wire",
}
SERVICE = {"penstock.dtypes", "penstock.sdk.service"}
IMPORTED = "import json, sys\nbefore = set(sys.modules)\n{code}\nprint(json.dumps(sorted(set(sys.modules) - before)))"


def imported(code: str) -> set[str]:
    done = subprocess.run([sys.executable, "-S", "-c", PATHS + IMPORTED.format(code=code)], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


PATHS = f"import sys\nsys.path[:] = {sys.path!r}\n"  # and no site: what an environment adds to each start is not ours


@pytest.mark.parametrize(
    ("code", "ours"),
    [
        ("import penstock.sdk", OURS),
        ("from penstock.sdk import FeatureClient; FeatureClient('http://gateway')", OURS),
        ("from penstock.sdk import AsyncFeatureClient", OURS | {"penstock.sdk.async_client"}),
        ("import penstock.sdk.typed", OURS | SERVICE | {"penstock.sdk.typed"}),
        ("import penstock.sdk.testing", OURS | SERVICE | {"penstock.sdk.testing"}),
    ],
)
def test_importing_the_sdk_brings_a_client_and_what_it_stands_on(code: str, ours: set[str]) -> None:
    modules = imported(code)
    assert {name for name in modules if name.partition(".")[0] == "penstock"} == ours
    assert {name.partition(".")[0] for name in modules} - sys.stdlib_module_names - {"penstock"} <= OTHERS


def test_only_who_awaits_pays_for_the_event_loop() -> None:
    assert "asyncio" not in imported("import penstock.sdk.typed")
    assert "asyncio" in imported("from penstock.sdk import AsyncFeatureClient")


def test_importing_penstock_brings_neither_the_language_nor_the_handle() -> None:
    assert {name for name in imported("import penstock") if name.startswith("penstock")} == {"penstock", "penstock.errors"}
    found = imported("from penstock import Entity, FeatureView, PenstockError")
    assert "penstock.contract" in found
    assert "penstock.store" not in found


@pytest.mark.parametrize("module", ["penstock", "penstock.sdk"])
def test_what_a_module_lists_it_has_and_what_it_lacks_is_named(module: str) -> None:
    code = f"import {module} as m; assert all(getattr(m, name) for name in m.__all__); m.nothing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"module '{module}' has no attribute 'nothing'" in done.stderr
