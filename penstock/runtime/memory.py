"""How much memory this process may use: the machine's, or what the cgroups around it leave of that."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import psutil


@dataclass(frozen=True)
class Memory:
    """Bytes this process may use, and bytes free of them; `limited`: a cgroup allows less than the machine has."""

    total: int
    available: int
    limited: bool


def machine_memory(root: Path = Path("/")) -> Memory:
    """The machine's memory, or what the cgroups around this process leave of it.

    Args:
        root: under which `proc` and `sys` are.
    """
    machine = psutil.virtual_memory()
    limits = [(limit, left) for limit, left in _cgroup_limits(root) if limit < machine.total]
    total = min([machine.total, *(limit for limit, _ in limits)])
    return Memory(total, max(0, min([machine.available, *(left for _, left in limits)])), limited=bool(limits))


def _cgroup_limits(root: Path) -> Iterator[tuple[int, int]]:
    """Bytes allowed and bytes left, for each cgroup around this process that limits memory, of version 1 or 2."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return  # not Linux
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount, limit_file, used_file, cache = root / "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            mount, cache = root / "sys/fs/cgroup/memory", "total_inactive_file"
            limit_file, used_file = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        # In a container the path may be the host's and only the root be there; the limits of groups above hold too.
        for group in (PurePosixPath(path), *PurePosixPath(path).parents):
            folder = mount / group.relative_to("/")
            try:
                limit, used = (int((folder / name).read_text(encoding="ascii")) for name in (limit_file, used_file))
                stat = dict(each.split() for each in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
                yield limit, limit - used + int(stat[cache])  # the kernel gives up that cache before it refuses memory
            except (OSError, ValueError, KeyError):
                continue  # not there, or "max": no limit
