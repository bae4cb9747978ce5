"""The rules for Prometheus: each fires on what it is for and not on what it is not, and names metrics that there are."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from penstock.serving.metrics import GatewayMetrics

ROOT = Path(__file__).parent.parent.parent
RULES, CASES = ROOT / "conf" / "alerts" / "penstock.rules.yml", Path(__file__).parent / "alert_rules.test.yml"
SUFFIXES = ("_total", "_bucket", "_count", "_sum")


@pytest.fixture(scope="module")
def promtool(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Prometheus' own tool: the one of the machine, or out of Debian's package, which is unpacked and not installed."""
    found = shutil.which("promtool")
    if found is not None:
        return found
    folder = tmp_path_factory.mktemp("promtool")
    for command in (["apt-get", "download", "prometheus"], ["sh", "-c", "dpkg -x prometheus_*.deb ."]):
        if shutil.which(command[0]) is None or subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode:
            pytest.skip("no promtool on this machine, nor a Debian package of it")
    return str(folder / "usr" / "bin" / "promtool")


def test_each_rule_fires_on_what_it_is_for(promtool: str) -> None:
    done = subprocess.run([promtool, "test", "rules", CASES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_is_tried() -> None:
    alerts = set(re.findall(r"alert: (\w+)", RULES.read_text()))
    assert len(alerts) >= 10
    fired = {part.split("\n")[0] for part in re.split(r"alertname: ", CASES.read_text())[1:] if "exp_labels" in part.split("alertname")[0]}
    assert fired == alerts


def test_the_metrics_are_those_of_the_gateway() -> None:
    named = set(re.findall(r"\b(penstock_\w+)", RULES.read_text()))
    families = {family.name for family in text_string_to_metric_families(GatewayMetrics().render().decode())}
    lacking = {name for name in named if name not in families and not any(name.removesuffix(s) in families for s in SUFFIXES)}
    assert lacking == set()
