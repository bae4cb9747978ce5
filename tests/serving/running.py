"""A gateway under uvicorn on a free port, in the test's own event loop."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from penstock.clock import FixedClock
from penstock.config import FeatureLogSettings, GatewaySettings, Settings, load_settings
from penstock.online.memory import MemoryStore
from penstock.online.store import OnlineStore
from penstock.serving.access import mint_key
from penstock.serving.app import Gateway
from penstock.serving.gateway import make_server
from penstock.serving.traces import Traces
from tests.project import free_port
from tests.serving.world import NOON, serve_everything

ROOT = Path(__file__).parent.parent.parent
LOG = FeatureLogSettings()
GATEWAY = GatewaySettings(port=0, refresh_s=3600, max_body_bytes=100_000)


def project_on(cassandra: Settings, endpoint: tuple[list[str], int], folder: Path, keyspace: str) -> Settings:
    """A project's folder on the test's node, for a gateway in a process of its own; `keyspace` is all its own."""
    (folder / "conf").mkdir()
    shutil.copyfile(ROOT / "conf" / "base.yaml", folder / "conf" / "base.yaml")
    contacts, cql = endpoint
    datacenter = cassandra.cassandra.local_datacenter
    (folder / "conf" / "local.yaml").write_text(
        f"cassandra: {{mode: external, contact_points: {contacts}, port: {cql}, keyspace: {keyspace}, local_datacenter: {datacenter}}}\n"
        f"gateway: {{port: {free_port()}}}\n",
        encoding="utf-8",
    )
    return load_settings(folder)


@dataclass
class Running:
    """A gateway that listens.

    Args:
        key: reads every service; `carriers_key`: only the service `carriers`.
    """

    gateway: Gateway
    store: MemoryStore
    clock: FixedClock
    settings: Settings
    url: str
    key: str
    carriers_key: str


@asynccontextmanager
async def running_gateway(
    folder: Path,
    store: MemoryStore | None = None,
    log: FeatureLogSettings = LOG,
    gateway: GatewaySettings = GATEWAY,
    traces: Traces | None = None,
) -> AsyncIterator[Running]:
    """A gateway of the world of `world.py`; given a store, of what that holds.

    It looks at its store when it starts and when a test says `await gateway.refresh()`.
    """
    if store is None:
        store = MemoryStore()
        await serve_everything(store)
    settings = Settings(root=folder, gateway=gateway, feature_log=log)
    keys = [mint_key(settings, "everyone", ["*"]), mint_key(settings, "carriers only", ["carriers"])]
    clock = FixedClock(NOON)

    async def connect() -> OnlineStore:
        return store

    app = Gateway(settings, connect, clock, traces)
    server = make_server(settings, app)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        assert not serving.done(), "the server did not start"
        await asyncio.sleep(0)  # lets it
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Running(app, store, clock, settings, f"http://127.0.0.1:{port}", *keys)
    finally:
        server.should_exit = True
        await serving
