"""Letting services be served: their definitions and pointers in the control plane."""

from collections.abc import Mapping

from penstock.errors import RegistryError
from penstock.online.ledger import FIRST_GENERATION
from penstock.online.store import OnlineStore
from penstock.registry.serving_state import Pointer, ServicePointers
from penstock.registry.snapshot import ServiceEntry, Snapshot, load_snapshot


async def publish_services(
    store: OnlineStore, snapshot: Snapshot, now_us: int, *, generation: int = FIRST_GENERATION
) -> Mapping[str, bool]:
    """Point every service whose views all have something online at them, under this snapshot.

    Args:
        store: the control plane.
        snapshot: the definitions to serve.
        now_us: microseconds; recorded as the time of the change.
        generation: the fill of each view version to read.

    Returns:
        Service → whether it is served now; one that lacks a view is left as it was.

    Raises:
        RegistryError: a view means something else by the same version: what is online could not be read.
    """
    fingerprint = snapshot.fingerprint
    serving = {row.service: row for row in await store.pointers()}
    served: dict[str, bool] = {}
    for service in snapshot.services:
        if not await _is_online(store, service):
            served[service.name] = False
            continue
        views = dict.fromkeys((s.view, s.version) for s in service.selection)
        pointers = [Pointer(view=view, version=version, generation=generation) for view, version in views]
        before = serving.get(service.name)
        if before is None or before.snapshot != fingerprint or before.pointers != pointers:
            if before is not None:
                _require_readable(service, await store.snapshot(before.snapshot), snapshot)
            await store.put_snapshot(fingerprint, snapshot.to_json())
            changed = max(now_us, before.changed_at_us + 1 if before is not None else 0)
            await store.set_pointers(ServicePointers(service=service.name, snapshot=fingerprint, pointers=pointers, changed_at_us=changed))
        served[service.name] = True
    return served


def _require_readable(service: ServiceEntry, served: bytes | None, snapshot: Snapshot) -> None:
    if served is None:
        return
    known = {(view.name, view.version): view.schema_id for view in load_snapshot(served).views}
    for selection in service.selection:
        view = snapshot.view(selection.view, selection.version)
        if known.get((view.name, view.version), view.schema_id) != view.schema_id:
            raise RegistryError(
                f"feature view {view.ref}: its features are not those of the {view.ref} that is being served",
                hint=f"raise its version to {view.version + 1}: changed features are a new version beside the old one",
            )


async def _is_online(store: OnlineStore, service: ServiceEntry) -> bool:
    for selection in service.selection:
        if not await store.publications(selection.view, selection.version):
            return False
    return True
