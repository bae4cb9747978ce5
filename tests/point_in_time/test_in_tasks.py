"""What goes wrong in Spark's tasks is told as it is in this process."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.contract.service import select
from penstock.errors import SourceError
from penstock.offline.lake import Lake, feature_table
from penstock.point_in_time.joined import join
from penstock.point_in_time.spine import FrameRows
from penstock.point_in_time.view_join import view_joins
from tests.point_in_time.tables import DAY, a_view, write_rows
from tests.world import resources_of

pytestmark = pytest.mark.real


def test_a_damaged_file_is_named_and_nothing_is_kept(spark: Any, tmp_path: Path) -> None:
    lake, view = Lake(str(tmp_path / "lake")), a_view()
    write_rows(lake, view, [{"user": 1, "at": DAY, "amount": 1.0}])
    rows = spark.createDataFrame([(1, DAY + timedelta(hours=1))], "user bigint, event_time timestamp")
    planned = join(lake, FrameRows(rows), view_joins(lake, select([view], "tests"), "event"), resources_of(spark))
    (file,) = Path(lake.location(feature_table(view))).glob("event_date=*/*.parquet")
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(SourceError, match=rf"{file.name} cannot be read: .*\n  hint: restore it, or compute its partition again"):
        planned.to_parquet(str(tmp_path / "kept"))
    assert not (tmp_path / "kept").exists()
    file.unlink()
    with pytest.raises(SourceError, match=rf"{file.name} is gone, although the table's log names it"):
        planned.to_delta("training/kept")
    assert lake.version("training/kept") is None
