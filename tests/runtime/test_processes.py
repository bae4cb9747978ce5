"""Children end with us, even when nobody can ask them to."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

PARENT = """
import sys
from pathlib import Path
from penstock.runtime.processes import start
child = start("child", [sys.executable, "-c", "import time; time.sleep(600)"], log=Path(sys.argv[1]), cwd=Path("."), env={})
print(child.process.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel tells children")
def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path / "log")], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        assert child.is_running()
        parent.send_signal(signal.SIGKILL)
    child.wait(timeout=10)
