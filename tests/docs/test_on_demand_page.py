"""The page on on-demand views is what it says: its function and its view are defined, in a copy of the flights project."""

import os
import subprocess
import sys
from pathlib import Path

from tests.docs.test_quickstart import blocks
from tests.project import ROOT, Project

LOOK = """
from penstock.registry.project import load_project
service = load_project("feature_assets").service("planned")
(view,) = service.on_demand
print(view.function.name, view.columns, service.request)
"""


def test_the_pages_function_and_view_are_defined(tmp_path: Path) -> None:
    function, view = [code for _, code in blocks(ROOT / "docs" / "on-demand.md")]
    project = Project(tmp_path, views={"route_delays"})
    (project.folder / "feature_functions" / "departures.py").write_text(function)
    (project.folder / "feature_assets" / "schedule.py").write_text(view)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (project.folder, ROOT)))}
    done = subprocess.run([sys.executable, "-c", LOOK], cwd=project.folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = (("route_delays__air_time_min_mean_7d", "float64"), ("scheduled_min", "float64"))
    assert done.stdout.strip() == f"departures:slack {expected} {{'scheduled_min': 'float64'}}"
