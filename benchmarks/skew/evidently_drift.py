"""Which columns Evidently calls drifted, with its defaults: it runs in an environment of its own and imports nothing of Penstock.

    python benchmarks/skew/evidently_drift.py FOLDER

FOLDER holds pairs `<name>.reference.parquet` and `<name>.seen.parquet` of one column each; `evidently.json` is written beside them:
name → whether.
"""

import json
import sys
import warnings
from pathlib import Path

import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.metrics import ValueDrift

warnings.filterwarnings("ignore")


def is_drifted(reference: pd.DataFrame, seen: pd.DataFrame) -> bool:
    """Whether a column is called drifted."""
    (name,) = reference
    is_number = pd.api.types.is_numeric_dtype(reference[name]) and reference[name].dtype != bool
    about = DataDefinition(numerical_columns=[name] if is_number else [], categorical_columns=[] if is_number else [name])
    now, before = (Dataset.from_pandas(frame, data_definition=about) for frame in (seen, reference))
    try:
        (metric,) = json.loads(Report([ValueDrift(column=name)]).run(now, before).json())["metrics"]
    except ValueError:  # of a column without any value: somebody would be told
        return True
    value, limit = float(metric["value"]), metric["config"]["threshold"]
    return value < limit if "p_value" in metric["config"]["method"] else value >= limit


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    names = sorted(path.name.removesuffix(".seen.parquet") for path in folder.glob("*.seen.parquet"))
    found = {n: is_drifted(*(pd.read_parquet(folder / f"{n}.{which}.parquet") for which in ("reference", "seen"))) for n in names}
    (folder / "evidently.json").write_text(json.dumps(found))
