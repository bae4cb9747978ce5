"""The quickstart's code is what it says: its blocks run, in order, as one would paste them."""

import ast
import importlib
import re
import shutil
import sys
from pathlib import Path

import pytest

from penstock.registry.project import load_project
from penstock.registry.snapshot import compile_snapshot

ROOT = Path(__file__).parent.parent.parent
FENCE = re.compile(r"^```python( requires-server)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[bool, str]]:
    """(needs a server, code) of each block of a page."""
    return [(bool(server), code) for server, code in FENCE.findall(page.read_text())]


def test_a_view_added_as_the_quickstart_says_is_part_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    view, service, refused = [code for server, code in blocks(ROOT / "docs" / "quickstart.md") if not server]
    shutil.copytree(ROOT / "feature_assets", tmp_path / "feature_assets")
    (tmp_path / "feature_assets" / "origin_traffic.py").write_text(view)
    (tmp_path / "feature_assets" / "services.py").write_text(service)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "feature_assets"]:
        monkeypatch.delitem(sys.modules, name)
    importlib.invalidate_caches()
    project = load_project("feature_assets")
    assert {v.ref for v in project.views} == {"carrier_origin_delays@1", "origin_traffic@1"}
    (entry,) = compile_snapshot(project).services
    assert [selection.view for selection in entry.selection] == ["carrier_origin_delays", "origin_traffic"]
    exec(compile(view + refused, "quickstart", "exec"), {})
    assert "above the total of 0:30:00" in capsys.readouterr().out
    for name in [name for name in sys.modules if name.partition(".")[0] == "feature_assets"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_every_block_parses_and_imports_what_exists(page: str) -> None:
    found = blocks(ROOT / page)
    assert len(found) == (ROOT / page).read_text().count("```python") > 0, "a block's fence is not read"
    for _, code in found:
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("penstock"):
                module = importlib.import_module(node.module or "")
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)
