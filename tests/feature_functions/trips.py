"""Functions of the on-demand views that tests define."""

import numpy as np

from penstock.contract import Columns


def slack(columns: Columns) -> Columns:
    """Of every dtype something; a carrier without flights has no share."""
    planned, mean = columns["planned"], columns["history__mean"]
    return {
        "minutes": planned - mean,
        "share": columns["history__late"] / columns["history__flights"],
        "flights": columns["history__flights"] + np.int64(1),
        "hour": (columns["departs"].astype("datetime64[h]").astype(np.int64) % 24).astype(np.int32),
        "same_base": columns["base"] == columns["history__base"],
        "where": np.strings.upper(columns["base"]),
        "since": np.maximum(columns["departs"], columns["history__since"]),
        "small": columns["history__ratio"] * np.float32(3),
    }


def best_known(columns: Columns) -> Columns:
    """The mean, or else what was planned; null where neither is known."""
    planned, mean = columns["planned"], columns["history__mean"]
    neither = np.ma.getmaskarray(planned) & np.ma.getmaskarray(mean)
    known = np.where(np.ma.getmaskarray(mean), np.ma.getdata(planned), np.ma.getdata(mean))
    return {"minutes": np.ma.MaskedArray(known, mask=neither), "from_history": ~np.ma.getmaskarray(mean)}
