"""`penstock sdk`: clients made for a model's code."""

import sys
from pathlib import Path
from typing import Annotated

import httpx
import msgspec
import typer

from penstock.cli.screen import err
from penstock.config import Settings, load_settings
from penstock.errors import ConfigError, Unavailable
from penstock.sdk.generate import Described, module_of
from penstock.serving.access import local_key
from penstock.serving.messages import ErrorBody, ServiceDescription, ServiceList

cli = typer.Typer(no_args_is_help=True, help="Clients made for a model's code.")


@cli.callback()
def sdk() -> None:
    """Clients made for a model's code."""


@cli.command()
def generate(
    services: Annotated[list[str] | None, typer.Argument(help="feature services; default: all that the key may read")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="the module to write")] = Path("features_client.py"),
    url: Annotated[str, typer.Option(help="of the gateway; default: the one of the settings")] = "",
    api_key: Annotated[str, typer.Option(envvar="PENSTOCK_KEY", help="default: this machine's own", show_envvar=True)] = "",
    check: Annotated[bool, typer.Option("--check", help="write nothing; exit code 1 if the module is not as it would be written")] = False,
) -> None:
    """Write a Python module of typed clients: keys, rows and the pinned contract of each service a gateway serves.

    A feature that is renamed, removed or retyped then breaks a model's type check, and not its predictions.
    """
    settings = load_settings()
    text = module_of(_described(settings, services or [], url, api_key))
    held = output.read_text(encoding="utf-8") if output.exists() else None
    if held == text:
        err.print(f"{output} is up to date", soft_wrap=True)
    elif check:
        why = "is not there" if held is None else "is not what is served now"
        err.print(f"{output} {why}; run `penstock sdk generate` and look at what changed", soft_wrap=True)
        sys.exit(1)
    else:
        output.write_text(text, encoding="utf-8")
        err.print(f"wrote {output}", soft_wrap=True)


def _described(settings: Settings, wanted: list[str], url: str, api_key: str) -> list[Described]:
    where = url or f"http://{settings.gateway.host}:{settings.gateway.port}"
    headers = {"authorization": f"Bearer {api_key or local_key(settings)}"}
    try:
        with httpx.Client(base_url=where, headers=headers, timeout=10) as http:
            listed = msgspec.json.decode(_ask(http, "/v1/services"), type=ServiceList)
            names = wanted or [service.name for service in listed.services]
            if not names:
                raise ConfigError(f"the gateway at {where} serves nothing that this key may read", hint="publish a view, or give --api-key")
            found = [msgspec.json.decode(_ask(http, f"/v1/services/{name}"), type=ServiceDescription) for name in names]
    except (httpx.TransportError, msgspec.DecodeError) as error:
        raise Unavailable(f"the gateway at {where} cannot be asked: {error}", hint="is it running? see its /readyz") from None
    return [Described(s.name, s.contract, s.description, s.join_keys, {f.name: f.dtype for f in s.features}) for s in found]


def _ask(http: httpx.Client, path: str) -> bytes:
    response = http.get(path)
    if response.status_code != 200:
        error = msgspec.json.decode(response.content, type=ErrorBody).error
        raise ConfigError(error.message, hint=error.hint)
    return response.content
