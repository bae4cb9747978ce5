"""`penstock sdk`: what a model's code is written with."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

import penstock
from penstock.cli.reach import KEY_HELP, URL_HELP, gateway
from penstock.cli.screen import out
from penstock.errors import ConfigError, ContractError, UnknownService
from penstock.registry.serving_state import Pointer, ServicePointers, ServingState
from penstock.registry.snapshot import ServiceEntry
from penstock.sdk.description import ServiceDescription
from penstock.sdk.stubs import generate as module_of
from penstock.serving.catalogue import describe_service

cli = typer.Typer(no_args_is_help=True, help="What a model's code is written with.")


@cli.callback()
def sdk() -> None:
    """What a model's code is written with."""


@cli.command()
def generate(
    path: Annotated[Path, typer.Argument(help="the Python module to write")],
    service: Annotated[list[str] | None, typer.Option(help="a feature service; may be repeated; default: all the key may read")] = None,
    url: Annotated[str, typer.Option(help=URL_HELP)] = "",
    api_key: Annotated[str, typer.Option(help=KEY_HELP)] = "",
    project: Annotated[bool, typer.Option("--project", help="of the definitions as they are here, without a gateway")] = False,
    check: Annotated[bool, typer.Option("--check", help="write nothing; exit code 1 if the module is not as it would be written")] = False,
) -> None:
    """Write a module with a typed class per feature service: a feature that is renamed, removed or retyped breaks the type check."""
    wanted = sorted(set(service or ()))
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise ConfigError(f"{path}: expected the name of a Python module, e.g. feature_services.py")
    if project and (url or api_key):
        raise ConfigError("--project asks no gateway: leave out --url and --api-key")
    found = _defined(wanted) if project else _served(wanted, url, api_key)
    text = module_of(found, " ".join(["penstock sdk generate", path.name, *(f"--service {name}" for name in wanted)]))
    names = ", ".join(sorted(one.name for one in found)) or "no service"
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else None
        if before == text:
            out.print(f"{path} is up to date: {names}", markup=False, soft_wrap=True)
            return
        if check:
            raise ContractError(
                f"{path} {'does not exist' if before is None else 'is not as the feature services are now'}: {names}",
                hint="make it again: penstock sdk generate, and see what it changes",
            )
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    out.print(f"{path}: {names}", markup=False, soft_wrap=True)


def _served(wanted: list[str], url: str, api_key: str) -> list[ServiceDescription]:
    with gateway(url, api_key) as client:
        return [client.describe(name) for name in wanted or client.services()]


def _defined(wanted: list[str]) -> list[ServiceDescription]:
    """Services as the gateway will describe them once they are published."""
    snapshot = penstock.open().snapshot
    there = {entry.name: entry for entry in snapshot.services}
    unknown = [name for name in wanted if name not in there]
    if unknown:
        raise UnknownService(
            f"no feature service {', '.join(map(repr, unknown))} in project '{snapshot.project}'; it has {', '.join(there) or 'none'}"
        )
    state = ServingState(
        snapshots={snapshot.fingerprint: snapshot},
        services={name: _pointed_at(entry, snapshot.fingerprint) for name, entry in there.items()},
        complete_until_us={},
        functions=dict.fromkeys((snapshot.fingerprint, one.ref) for one in snapshot.on_demand),
    )
    described = [msgspec.to_builtins(describe_service(state, name)) for name in wanted or there]
    return [msgspec.convert(one, ServiceDescription) for one in described]


def _pointed_at(entry: ServiceEntry, snapshot: str) -> ServicePointers:
    pointers = [Pointer(view=part.view, version=part.version, generation=0) for part in entry.selection]
    return ServicePointers(service=entry.name, snapshot=snapshot, pointers=pointers, changed_at_us=0)
