"""The serving state: read from the control plane as a whole, replaced as a whole, never going back."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from penstock.errors import PenstockError, RegistryError, StoreError
from penstock.online.store import OnlineStore
from penstock.registry.marks import Mark, joined
from penstock.registry.serving_state import ServicePointers, ServingState
from penstock.registry.snapshot import Snapshot, load_snapshot
from penstock.serving.functions import Functions

logger = logging.getLogger(__name__)

EMPTY = ServingState(snapshots={}, services={}, complete_until_us={})

_NO_FUNCTIONS = Functions(Path("feature_functions"))


class StateKeeper:
    """Holds the newest serving state there is.

    A store that does not answer, a snapshot that cannot be read, pointers that do not fit their snapshot, or a
    request-time function that is not here with the code the snapshot names, leave what was being served as it was; each is
    logged once and counted. A service that was not served before is refused with the reason.

    Args:
        store: the control plane.
        on_failure: told of each refresh that failed, in whole or for one service.
        functions: loads request-time functions.
    """

    def __init__(self, store: OnlineStore, on_failure: Callable[[], None] = lambda: None, functions: Functions = _NO_FUNCTIONS) -> None:
        self.state: ServingState | None = None
        self._store = store
        self._on_failure = on_failure
        self._functions = functions
        self._marks: dict[str, Mark] = {}
        self._complaints: dict[str, str] = {}

    async def refresh(self) -> bool:
        """Look at the control plane once; whether it could be read.

        `state` is None until the first look that could.
        """
        before = self.state if self.state is not None else EMPTY
        try:
            state = await self._load(before)
            if state != self.state:  # one object for as long as it says the same: plans are kept by it
                self.state = state
        except StoreError as error:
            self._complain("", error)
            return False
        self._complaints.pop("", None)
        return True

    async def _load(self, before: ServingState) -> ServingState:
        services = dict(before.services)
        snapshots, functions = dict(before.snapshots), dict(before.functions)
        refused: dict[str, str] = {}
        for pointers in await self._store.pointers():
            served = services.get(pointers.service)
            if served is not None and served.changed_at_us >= pointers.changed_at_us:
                continue  # a replica that lags behind
            try:
                found = await self._snapshot_of(pointers, snapshots)
                functions |= self._functions_of(pointers, found[pointers.snapshot], functions)
                snapshots |= found
            except RegistryError as error:
                self._complain(pointers.service, error)
                if served is None:
                    refused[pointers.service] = str(error)
                continue
            services[pointers.service] = pointers
            self._complaints.pop(pointers.service, None)
        snapshots = {pointers.snapshot: snapshots[pointers.snapshot] for pointers in services.values()}
        await self._store.prepare(_entities(services, snapshots))
        return ServingState(
            snapshots=snapshots,
            services=services,
            complete_until_us=await self._watermarks(services),
            marks=await self._in_force(services),
            functions={key: function for key, function in functions.items() if key[0] in snapshots},
            refused=refused,
        )

    async def _snapshot_of(self, pointers: ServicePointers, known: Mapping[str, Snapshot]) -> dict[str, Snapshot]:
        snapshot = known.get(pointers.snapshot)
        if snapshot is None:
            document = await self._store.snapshot(pointers.snapshot)
            if document is None:
                raise RegistryError(f"registry snapshot '{pointers.snapshot}' is not in the store")
            snapshot = load_snapshot(document)
        _require_fit(pointers, snapshot)
        return {pointers.snapshot: snapshot}

    def _functions_of(
        self, pointers: ServicePointers, snapshot: Snapshot, loaded: Mapping[tuple[str, str], Any]
    ) -> dict[tuple[str, str], Any]:
        entry = next(entry for entry in snapshot.services if entry.name == pointers.service)
        views = {(pointers.snapshot, view.ref): view for view in snapshot.on_demand_of(entry)}
        return {key: self._functions.load(view) for key, view in views.items() if key not in loaded}

    async def _watermarks(self, services: Mapping[str, ServicePointers]) -> dict[tuple[str, int, int], int]:
        slots = {(p.view, p.version, p.generation) for pointers in services.values() for p in pointers.pointers}
        reached: dict[tuple[str, int, int], int] = {}
        for view, version in sorted({(view, version) for view, version, _ in slots}):
            for generation, until in (await self._store.watermarks(view, version)).items():
                if (view, version, generation) in slots:
                    reached[view, version, generation] = until
        return reached

    async def _in_force(self, services: Mapping[str, ServicePointers]) -> dict[tuple[str, int], tuple[Mark, ...]]:
        served = {(p.view, p.version) for pointers in services.values() for p in pointers.pointers}
        in_force: dict[tuple[str, int], tuple[Mark, ...]] = {}
        for mark in await self._store.marks():
            self._marks[mark.id] = joined(mark, self._marks.get(mark.id))  # a replica that lags behind undoes none
        for mark in sorted(self._marks.values()):
            if mark.lifted_at_us is None and (mark.view, mark.version) in served:
                in_force[mark.view, mark.version] = (*in_force.get((mark.view, mark.version), ()), mark)
        return in_force

    def _complain(self, about: str, error: PenstockError) -> None:
        self._on_failure()
        if self._complaints.get(about) != error.message:  # a second's refresh must not fill the log
            self._complaints[about] = error.message
            logger.warning("keeping the serving state%s: %s", f" of service '{about}'" if about else "", error.message)


def _require_fit(pointers: ServicePointers, snapshot: Snapshot) -> None:
    """Lookups rely on it: the snapshot has the service, and every view of it has a pointer."""
    entry = next((entry for entry in snapshot.services if entry.name == pointers.service), None)
    if entry is None:
        raise RegistryError(f"registry snapshot '{pointers.snapshot}' has no feature service '{pointers.service}'")
    pointed = {(p.view, p.version) for p in pointers.pointers}
    lacking = [f"{part.view}@{part.version}" for part in entry.selection if (part.view, part.version) not in pointed]
    if lacking:
        raise RegistryError(f"the pointers of feature service '{pointers.service}' lack {', '.join(lacking)}")


def _entities(services: Mapping[str, ServicePointers], snapshots: Mapping[str, Snapshot]) -> list[str]:
    return sorted({snapshots[s.snapshot].view(p.view, p.version).entity for s in services.values() for p in s.pointers})
