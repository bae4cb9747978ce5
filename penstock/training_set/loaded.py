"""A training set that was built: its manifest, its statistics, and its rows for whatever trains on them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.errors import TrainingSetError
from penstock.offline.lake import Lake
from penstock.offline.statistics import ColumnStatistics
from penstock.training_set.manifest import Manifest, statistics_kept
from penstock.training_set.split import COLUMN

_BUFFERED = 8  # how many batches are mixed with each other when rows are shuffled


@dataclass(frozen=True)
class TrainingSet:
    """One build of a training set."""

    lake: Lake
    manifest: Manifest

    @property
    def features(self) -> list[str]:
        """The names of its features, in order."""
        kept = [name for name, _ in self.manifest.columns]
        return [name for name in kept if name not in self.manifest.spine_columns and name != COLUMN]

    def statistics(self) -> dict[str, ColumnStatistics]:
        """Column → what its values are like."""
        return statistics_kept(self.lake, self.manifest)

    def dataset(self) -> Any:
        """Its rows as a pyarrow dataset: to read some columns, to filter, or to give to what takes one."""
        return self.lake.dataset(self.manifest.table, 0)

    def to_arrow(self, part: Literal["train", "test"] | None = None) -> pa.Table:
        """Its rows, or those of one side of the split, as one Arrow table."""
        return self.dataset().to_table(filter=self._where(part))

    def to_pandas(self, part: Literal["train", "test"] | None = None) -> Any:
        """The same as a pandas DataFrame."""
        return self.to_arrow(part).to_pandas()

    def batches(
        self,
        size: int = 1024,
        *,
        part: Literal["train", "test"] | None = None,
        shuffle_seed: int | None = None,
        columns: list[str] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Its rows in batches, for a training loop; never all of them in memory.

        Args:
            size: rows of a batch; the last has what is left.
            part: one side of the split; None: both.
            shuffle_seed: mixes rows: fragments in an order of their own, and the rows of several batches with each
                other; the same seed gives the same order. None: as they are kept.
            columns: some of its columns.

        Example, with PyTorch:
            `for batch in rows.batches(512, part="train", shuffle_seed=epoch): torch.from_numpy(batch["x"].to_numpy())`
        """
        waiting: list[pa.Table] = []
        held, mixer = 0, None if shuffle_seed is None else np.random.default_rng(shuffle_seed)
        for table in self._tables(part, columns, mixer, size):
            waiting.append(table)
            held += table.num_rows
            if held >= size * (_BUFFERED if mixer is not None else 1):
                rows = _mixed(pa.concat_tables(waiting), mixer)
                full = rows.num_rows // size * size if mixer is None else rows.num_rows // 2 // size * size
                yield from _cut(rows.slice(0, full), size)
                waiting, held = [rows.slice(full)], rows.num_rows - full
        if held:
            yield from _cut(_mixed(pa.concat_tables(waiting), mixer), size)

    def _tables(
        self, part: Literal["train", "test"] | None, columns: list[str] | None, mixer: np.random.Generator | None, size: int
    ) -> Iterator[pa.Table]:
        fragments = sorted(self.dataset().get_fragments(), key=lambda fragment: fragment.path)
        order = range(len(fragments)) if mixer is None else mixer.permutation(len(fragments)).tolist()
        wanted = columns if columns is not None else [name for name, _ in self.manifest.columns]
        for n in order:
            for batch in fragments[n].to_batches(columns=wanted, filter=self._where(part), batch_size=size, use_threads=False):
                if batch.num_rows:
                    yield pa.Table.from_batches([batch])

    def _where(self, part: str | None) -> Any:
        if part is None:
            return None
        if not self.manifest.split:
            raise TrainingSetError(
                f"training set '{self.manifest.name}' ({self.manifest.id}) has no split",
                hint="build it with split='time:...' or 'hash:...'",
            )
        return pc.field(COLUMN) == part


def _mixed(rows: pa.Table, mixer: np.random.Generator | None) -> pa.Table:
    return rows if mixer is None else rows.take(pa.array(mixer.permutation(rows.num_rows)))


def _cut(rows: pa.Table, size: int) -> Iterator[pa.RecordBatch]:
    for begin in range(0, rows.num_rows, size):
        yield from rows.slice(begin, size).combine_chunks().to_batches()
