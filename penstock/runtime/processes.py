"""Child processes of ours: started with a log, ended as a whole, by pid, leaving nothing behind."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from penstock.errors import RuntimeSetupError

_GRACE_S = 20.0  # to end by itself after each signal


@dataclass(frozen=True)
class Child:
    """A started process and where its output goes."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def require_alive(self) -> None:
        """Nothing while it runs.

        Raises:
            RuntimeSetupError: it has ended; shows the end of its log.
        """
        code = self.process.poll()
        if code is not None:
            tail = "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-30:])
            raise RuntimeSetupError(f"{self.name} ended with exit code {code}; the end of {self.log}:\n{tail}")


def start(name: str, command: Sequence[str], *, log: Path, cwd: Path, env: Mapping[str, str]) -> Child:
    """Start a command in a session of its own, so that Ctrl-C in the terminal leaves the order of ending to us."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # Started from a shell's background job we would pass on that Ctrl-C is ignored, and it could not be ended gently.
            preexec_fn=_in_the_child,  # noqa: PLW1509 - no threads are running when children are started
        )
    return Child(name, process, log)


def stop(child: Child) -> None:
    """End a child and everything it started: asked first, then forced."""
    try:
        family = [psutil.Process(child.process.pid), *psutil.Process(child.process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    for ask in (signal.SIGINT, signal.SIGTERM):
        if child.process.poll() is None:
            child.process.send_signal(ask)
            try:
                child.process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                continue
    # psutil compares creation times, so a pid that has been reused is not touched.
    left = [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    for process in left:
        process.terminate()
    _, stubborn = psutil.wait_procs(left, timeout=_GRACE_S)
    for process in stubborn:
        process.kill()
    child.process.wait()


_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


def _in_the_child() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        # Killed with -9 we can end nobody; the kernel then asks our children to end.
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
