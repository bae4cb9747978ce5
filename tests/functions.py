"""Modules of request-time functions that a test writes."""

from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from penstock.contract import Feature, OnDemandView

DOUBLE = """
import numpy as np

def double(columns):
    return {"twice": columns["n"] * 2.0}
"""


def function_in(folder: Path, text: str, name: str = "double", module: str = "functions") -> Callable[..., Any]:
    """A function of a module with this text, in a file of that folder."""
    path = folder / f"{module}.py"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    spec = spec_from_file_location(f"somewhere.{module}", path)
    assert spec is not None
    assert spec.loader is not None
    made = module_from_spec(spec)
    exec(compile(text, str(path), "exec"), vars(made))  # not through the loader: it may have bytes of an earlier text
    function: Callable[..., Any] = vars(made)[name]
    return function


def on_demand_in(folder: Path, text: str = DOUBLE, **changes: Any) -> OnDemandView:
    """An on-demand view `doubled` of a request field `n`, whose function `double` has this text."""
    settings: dict[str, Any] = {
        "name": "doubled",
        "version": 1,
        "owner": "tests",
        "request": {"n": "float64"},
        "features": [Feature("twice", "float64")],
    }
    if "compute" not in changes:
        settings["compute"] = function_in(folder, text)
    return OnDemandView(**{**settings, **changes})
