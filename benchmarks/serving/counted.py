"""A gateway that notes when its store is asked for one key; in a process of its own.

python -m benchmarks.serving.counted ITEM FILE CONTACT_POINTS PORT
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from benchmarks.serving.items import KEY
from benchmarks.serving.processes import ROOT, await_ready
from penstock.config import Settings, load_settings
from penstock.contract.view_parts import Consistency
from penstock.online.cassandra import CassandraStore
from penstock.online.codec import encode_key
from penstock.online.store import Held, Slot
from penstock.serving.app import Gateway
from penstock.serving.gateway import make_server


class Counted(CassandraStore):
    """Writes the moments at which it was asked for `key` into `file` when it is closed."""

    key: bytes
    file: Path
    moments: list[float]

    async def read(self, entity: str, keys: Sequence[bytes], slots: Sequence[Slot], *consistency: Consistency) -> list[Held]:
        if self.key in keys:
            self.moments.append(monotonic())
        return await super().read(entity, keys, slots, *consistency)

    async def close(self) -> None:
        self.file.write_text(json.dumps(self.moments), encoding="utf-8")
        await super().close()


@contextmanager
def counted_gateway(settings: Settings, contact_points: Sequence[str], port: int, item: int) -> Iterator[list[float]]:
    """The gateway, ready; the list holds, after the block, when the store was asked for the item."""
    moments: list[float] = []
    file = settings.root / "reads.json"
    line = [sys.executable, "-m", "benchmarks.serving.counted", str(item), str(file), json.dumps(list(contact_points)), str(port)]
    with subprocess.Popen([*line, str(settings.root)], cwd=ROOT) as process:
        try:
            await_ready(f"http://127.0.0.1:{settings.gateway.port}/readyz", process)
            yield moments
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
    moments += json.loads(file.read_text(encoding="utf-8"))


def main(item: str, file: str, contact_points: str, port: str, root: str) -> None:
    settings = load_settings(root)
    Counted.key, Counted.file, Counted.moments = encode_key(KEY, [int(item)]), Path(file), []

    async def connect() -> CassandraStore:
        return await Counted.connect(json.loads(contact_points), int(port), settings)

    make_server(settings, Gateway(settings, connect)).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
