"""The gateway's surface as an OpenAPI 3.1 document: bodies are the structs of `messages` and `feast`, texts are their docstrings.

What the gateway does is not checked against it; `tests/serving/test_openapi.py` holds the two together, with requests made up from it.
"""

import inspect
import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import msgspec

from penstock.config import GatewaySettings
from penstock.errors import (
    ContractMismatch,
    InvalidEntity,
    MalformedRequest,
    NotAuthenticated,
    NotAuthorized,
    Overloaded,
    RequestError,
    RequestTooLarge,
    TooManyEntities,
    Unavailable,
    UnknownFeature,
    UnknownService,
    error_code,
)
from penstock.serving import feast, messages
from penstock.serving.http import INTERNAL_ERROR, JSON, MSGPACK, STATUS
from penstock.serving.messages import ColumnsResponse, ErrorBody, FeatureRequest, Health, RowsResponse, ServiceDescription, ServiceList

SERVICE_PREFIX = "/v1/services/"
_SERVICE = SERVICE_PREFIX + "{name}"
METHODS = {
    "/v1/features": "POST",
    feast.PATH: "POST",
    "/v1/services": "GET",
    _SERVICE: "GET",
    "/healthz": "GET",
    "/readyz": "GET",
    "/metrics": "GET",
    "/openapi.json": "GET",
}
"""Path → the one method it answers to."""

_SCHEMAS = "#/components/schemas/"
_BODIES = (FeatureRequest, RowsResponse, ColumnsResponse, feast.FeastRequest, feast.FeastResponse, ServiceList, ServiceDescription)
_NOT_LET_IN = (NotAuthenticated, NotAuthorized)
_REFUSED = (
    MalformedRequest,
    InvalidEntity,
    *_NOT_LET_IN,
    UnknownService,
    UnknownFeature,
    ContractMismatch,
    RequestTooLarge,
    TooManyEntities,
    Unavailable,
    Overloaded,
)
_SERVICE_OR_FEATURES = [
    {"required": ["feature_service"], "properties": {"feature_service": {"type": "string"}}},
    {"required": ["features"], "properties": {"features": {"minItems": 1}}},
]
_REQUEST_ID = {"description": "The request's id: the caller's own, or one made up.", "schema": {"type": "string"}}
_RETRY_AFTER = {"description": "Seconds until it is worth asking again.", "schema": {"type": "integer", "minimum": 1}}
_CHALLENGE = {"description": "How to say who asks.", "schema": {"type": "string"}}
_OWN_HEADERS: dict[type[RequestError], dict[str, Any]] = {
    NotAuthenticated: {"WWW-Authenticate": _CHALLENGE},
    Unavailable: {"Retry-After": _RETRY_AFTER},
}
_PARAMETERS = {
    "RequestId": {
        "name": "X-Request-Id",
        "in": "header",
        "description": "What answer and log call the request: 1 to 64 of letters, digits, `.`, `-`, `_`; anything else is replaced.",
        "schema": {"type": "string"},
    },
    "Deadline": {
        "name": "X-Deadline-Ms",
        "in": "header",
        "description": "Milliseconds the caller can wait. What the online store has not answered by then is answered as if it had failed.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999_999_999},
    },
}


def route_of(path: str) -> str | None:
    """The path, as `METHODS` has it, that a request is for; None if there is none."""
    if path.startswith(SERVICE_PREFIX):
        return _SERVICE
    return path if path in METHODS else None


def describe_api(limits: GatewaySettings) -> dict[str, Any]:
    """The document, of a gateway with these limits."""
    _, schemas = msgspec.json.schema_components([*_BODIES, Health, ErrorBody], ref_template=_SCHEMAS + "{name}")
    structs = {name: struct for module in (messages, feast) for name, struct in vars(module).items()}
    for name, schema in schemas.items():
        _tell(structs[name], schema)
    schemas["FeastRequest"]["oneOf"] = _SERVICE_OR_FEATURES
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://spec.openapis.org/oas/3.1/dialect/base",
        "info": {
            "title": "Penstock's gateway",
            "version": version("penstock"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Feature values by key, each with a status. It only reads: nothing can be changed here.",
        },
        "paths": _paths(limits),
        "components": {
            "schemas": schemas,
            "parameters": _PARAMETERS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or a token (JWT) of the issuer that is set."}
            },
        },
    }


def _paths(limits: GatewaySettings) -> dict[str, Any]:
    asked = (
        f"At most {limits.max_entities} entities, {limits.max_cells} cells (entities x features), {limits.max_body_bytes} bytes. "
        f"Without `X-Deadline-Ms` the store may take {limits.deadline_ms} ms."
    )
    own = {"anyOf": [_ref(RowsResponse), _ref(ColumnsResponse)]}
    forms = {JSON.decode(): {"schema": own}, MSGPACK.decode(): {"schema": own}}
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    operations = {
        "/v1/features": _asking(
            "Values of a feature service",
            f"{asked} With `Accept: application/msgpack`, exactly, the answer has the same fields in MessagePack, times as its timestamps.",
            FeatureRequest,
            forms,
        ),
        feast.PATH: _asking(
            "The same as Feast's feature server has it", asked, feast.FeastRequest, {JSON.decode(): {"schema": _ref(feast.FeastResponse)}}
        ),
        "/v1/services": _reading("The services the caller may read", ServiceList, (NotAuthenticated, Unavailable)),
        _SERVICE: {
            **_reading("What may be asked of a service", ServiceDescription, (*_NOT_LET_IN, UnknownService, Unavailable)),
            "parameters": [name, _parameter("RequestId")],
        },
        "/healthz": _open(_reading("The process lives", Health, ())),
        "/readyz": _open(_reading("It knows what to serve", Health, (Unavailable,))),
        "/metrics": _open(_answering("Metrics for Prometheus", {"text/plain": {"schema": {"type": "string"}}}, ())),
        "/openapi.json": _open(_answering("This document", {JSON.decode(): {"schema": {"type": "object"}}}, ())),
    }
    return {
        path: {METHODS[path].lower(): {"operationId": re.sub(r"\W+", "_", f"{METHODS[path].lower()}{path}").rstrip("_"), **operation}}
        for path, operation in operations.items()
    }


def _asking(summary: str, description: str, request: type, forms: dict[str, Any]) -> dict[str, Any]:
    return {
        **_answering(summary, forms, _REFUSED),
        "description": description,
        "parameters": [_parameter("RequestId"), _parameter("Deadline")],
        "requestBody": {"required": True, "content": {JSON.decode(): {"schema": _ref(request)}}},
    }


def _reading(summary: str, body: type, refused: Sequence[type[RequestError]]) -> dict[str, Any]:
    return _answering(summary, {JSON.decode(): {"schema": _ref(body)}}, refused)


def _answering(summary: str, content: dict[str, Any], refused: Sequence[type[RequestError]]) -> dict[str, Any]:
    found: dict[int, list[type[RequestError]]] = {}
    for error in refused:
        found.setdefault(STATUS[error], []).append(error)
    return {
        "summary": summary,
        "security": [{"bearer": []}],
        "parameters": [_parameter("RequestId")],
        "responses": {
            "200": {"description": summary, "headers": {"X-Request-Id": _REQUEST_ID}, "content": content},
            **{str(status): _refusal(errors) for status, errors in sorted(found.items())},
            "500": _failure(f"`{INTERNAL_ERROR}`: something unexpected; the gateway's log has it under the request's id."),
        },
    }


def _open(operation: dict[str, Any]) -> dict[str, Any]:
    return {**operation, "security": []}


def _refusal(errors: Sequence[type[RequestError]]) -> dict[str, Any]:
    own = {name: header for error in errors for kind in error.__mro__ for name, header in _OWN_HEADERS.get(kind, {}).items()}
    return _failure("\n\n".join(f"`{error_code(error)}`: {_doc(error)}" for error in errors), own)


def _failure(description: str, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "description": description,
        "headers": {"X-Request-Id": _REQUEST_ID, **(headers or {})},
        "content": {JSON.decode(): {"schema": _ref(ErrorBody)}},
    }


def _parameter(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/parameters/{name}"}


def _ref(struct: type) -> dict[str, str]:
    return {"$ref": _SCHEMAS + struct.__name__}


def _tell(of: type, schema: dict[str, Any]) -> None:
    """Put what the docstring says of a field (`name, name: text` below `Args:`) to the field, and the rest to the whole."""
    about, _, fields = _doc(of).partition("\n\nArgs:\n")
    schema["description"] = about
    for names, text in re.findall(r"^    (\w[\w, ]*): (.+(?:\n     +.+)*)", fields, re.MULTILINE):
        for name in names.split(", "):
            # Beside a $ref a description stands for itself, in OpenAPI 3.1.
            schema["properties"][name]["description"] = re.sub(r"\s+", " ", text)


def _doc(kind: type) -> str:
    return inspect.getdoc(kind) or ""
