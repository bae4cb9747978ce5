"""What the gateway says of itself is what it does: requests made up from its description, of both kinds, valid and not."""

import asyncio
import json
import random
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from penstock.config import GatewaySettings
from penstock.errors import REQUEST_ERRORS, RequestError, error_code
from penstock.serving.openapi import METHODS, describe_api
from tests.serving.running import ROOT, Running, running_gateway

MSGPACK = ("-H", "Accept: application/msgpack")


def described() -> dict[str, Any]:
    return json.loads(json.dumps(describe_api(GatewaySettings())))


def serve(folder: Path, check: Callable[[Running], Awaitable[None]]) -> None:
    async def run() -> None:
        async with running_gateway(folder) as running:
            await check(running)

    asyncio.run(run())


async def try_out(running: Running, description: str, *options: str, examples: int = 25) -> None:
    """Let schemathesis ask the gateway whatever the description allows, and what it does not."""
    seed = str(random.randrange(2**32))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-c", "from schemathesis.cli import schemathesis; schemathesis()", "--no-color"),
        *("run", description, "--url", running.url, "-H", f"Authorization: Bearer {running.key}", "--seed", seed),
        *("--max-examples", str(examples), "--continue-on-failure", "--generation-database", "none", *options),
        cwd=running.settings.root,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.serving.schemathesis_hooks"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said
    assert f"Seed: {seed}" in said
    assert "Schema validation skipped" not in said


def test_whatever_is_asked_is_answered_as_described(tmp_path: Path) -> None:
    async def check(running: Running) -> None:
        # Which services and join keys there are, the description does not say: what it allows may be refused as unknown or ragged.
        await try_out(running, f"{running.url}/openapi.json", "--checks", "all", "--exclude-checks", "positive_data_acceptance")

    serve(tmp_path, check)


def of_this_project(document: dict[str, Any]) -> dict[str, Any]:
    """The description with the services, join keys and features of `world.py` put in."""
    carrier = {"type": ["string", "null"]}
    number = {"type": ["integer", "null"], "minimum": -(2**63), "maximum": 2**63 - 1}
    departs = {"type": ["string", "null"], "format": "date-time"}
    keys = {"carriers": {"carrier": carrier}, "all_features": {"carrier": carrier, "number": number, "departs": departs}}
    features = {
        "carriers": ["fleet__hubs", "fleet__since", "delays__mean", "delays__flights"],
        "all_features": ["load__seats"],  # of a view that needs all three keys: others do without some
    }
    schemas = document["components"]["schemas"]
    layout = schemas["FeatureRequest"]["properties"]["layout"]
    schemas["FeatureRequest"] = {
        "oneOf": [
            {
                "type": "object",
                "additionalProperties": False,
                "required": ["service", "entities"],
                "properties": {
                    "service": {"const": service},
                    "entities": {
                        "type": "array",
                        "items": {"type": "object", "properties": of, "required": list(of), "additionalProperties": False},
                    },
                    "features": {"type": ["array", "null"], "items": {"enum": features[service]}, "minItems": 1},
                    "layout": layout,
                },
            }
            for service, of in keys.items()
        ]
    }
    schemas["FeastRequest"] = {
        "type": "object",
        "required": ["entities"],
        "properties": {
            "entities": {
                "type": "object",
                "properties": {"carrier": {"type": "array", "items": carrier}},
                "additionalProperties": False,
            },
            "full_feature_names": {"type": "boolean"},
        },
        "oneOf": [
            {
                "properties": {"feature_service": {"const": "carriers"}, "features": {"type": "array", "maxItems": 0}},
                "required": ["feature_service"],
            },
            {
                "properties": {
                    "features": {"type": "array", "items": {"enum": ["delays:mean", "fleet:hubs"]}, "minItems": 1},
                    "feature_service": {"type": "null"},
                },
                "required": ["features"],
            },
        ],
    }
    document["paths"]["/v1/services/{name}"]["get"]["parameters"][0]["schema"] = {"enum": list(keys)}
    return document


def test_what_is_asked_as_described_is_answered_and_nothing_else_is(tmp_path: Path) -> None:
    async def check(running: Running) -> None:
        async with httpx.AsyncClient(base_url=running.url) as http:
            document = of_this_project((await http.get("/openapi.json")).json())
        description = running.settings.root / "openapi.json"
        description.write_text(json.dumps(document))
        for options in ((), MSGPACK):
            await try_out(running, str(description), "--checks", "all", *options)

    serve(tmp_path, check)


def test_every_path_and_every_error_is_described() -> None:
    document = described()
    assert {path: [method.upper() for method in operations] for path, operations in document["paths"].items()} == {
        path: [method] for path, method in METHODS.items()
    }
    for path in ("/v1/features", "/get-online-features"):
        told = "".join(response["description"] for response in document["paths"][path]["post"]["responses"].values())
        for code in set(REQUEST_ERRORS) - {error_code(RequestError)}:
            assert f"`{code}`: " in told
        assert document["paths"][path]["post"]["responses"]["503"]["headers"].keys() == {"X-Request-Id", "Retry-After"}
    assert document["paths"]["/v1/services"]["get"]["responses"]["401"]["headers"].keys() == {"X-Request-Id", "WWW-Authenticate"}


@pytest.mark.parametrize(
    ("named", "status"),
    [
        ({}, 400),
        ({"feature_service": None, "features": []}, 400),
        ({"feature_service": "carriers", "features": ["delays:mean"]}, 400),
        ({"feature_service": "carriers", "features": []}, 200),
        ({"feature_service": None, "features": ["delays:mean"]}, 200),
    ],
)
def test_feasts_request_names_a_service_or_features_in_the_description_too(tmp_path: Path, named: dict[str, Any], status: int) -> None:
    async def check(running: Running) -> None:
        body = {"entities": {"carrier": ["UA"]}, **named}
        async with httpx.AsyncClient(base_url=running.url, headers={"authorization": f"Bearer {running.key}"}) as http:
            assert (await http.post("/get-online-features", json=body)).status_code == status
            document = (await http.get("/openapi.json")).json()
        described = Draft202012Validator({**document, "$ref": "#/components/schemas/FeastRequest"})
        assert described.is_valid(body) == (status == 200)

    serve(tmp_path, check)


def test_fields_are_described_by_their_docstrings() -> None:
    schemas = described()["components"]["schemas"]
    asked, answered = schemas["FeatureRequest"], schemas["RowsResponse"]
    assert asked["description"] == "Body of `POST /v1/features`."
    assert asked["properties"]["entities"]["description"] == "one row each: join key, or request field of an on-demand view → value."
    assert answered["properties"]["contract"]["description"] == answered["properties"]["snapshot"]["description"]
    assert answered["properties"]["now"] == {
        "type": "string",
        "format": "date-time",
        "description": "the time the values were judged at.",
    }


def test_the_description_needs_no_key_and_names_no_service_or_view(tmp_path: Path) -> None:
    async def check(running: Running) -> None:
        async with httpx.AsyncClient(base_url=running.url) as http:
            response = await http.get("/openapi.json")
        assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
        assert response.json()["openapi"] == "3.1.0"
        assert not [name for name in ("carriers", "all_features", "delays", "fleet") if name in response.text]

    serve(tmp_path, check)
