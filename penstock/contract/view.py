"""A feature view: named features of one entity, and everything the registry must hold of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import FunctionType
from typing import Any

from penstock.contract.aggregation import EACH_EVENT, OF_ANY_TYPE, Aggregation, window_suffix
from penstock.contract.entity import Entity
from penstock.contract.named_view import NamedView
from penstock.contract.row_rules import RowRule, row_rules
from penstock.contract.rules import require_name, require_not_reserved, require_positive, require_unique
from penstock.contract.skew import SkewPolicy
from penstock.contract.source import Source
from penstock.contract.view_parts import Consistency, Degradation, Feature, FreshnessSla, Readiness, fail
from penstock.dtypes import NUMERIC_DTYPES
from penstock.errors import ContractError

Compute = Callable[..., Any]
"""A plain function: one DataFrame per source, in their order → a DataFrame of join keys, event_time and features."""

DAY = timedelta(days=1)
_ROW_COUNT = "it is (least, most) rows of a day, 0 <= least <= most, most may be None, e.g. (1_000, None)"


@dataclass(frozen=True, eq=False)
class FeatureView:
    """Named features of one entity, computed from declared sources.

    One of three: `aggregations` (with `every`) of one source; `compute` with `features`; or `rows`, an external
    table that holds them already, with `features`.

    Args:
        name: e.g. `carrier_origin_delays`.
        version: raised when the logic changes, an added feature included; from 1.
        entity: what the features describe.
        source: the source, or several for `compute`; left out with `rows`.
        owner: team or person to ask.
        aggregations: windowed aggregations of `source`, evaluated every `every`.
        every: step of the time grid, counted from 1970-01-01T00:00Z; it divides 24 hours. EACH_EVENT: wherever a
            source row becomes known or leaves a window.
        tiles: keep the states of each entity's rows by tiles of this length, a day or an hour (or what else divides a
            day, every step and every window), and make windows of those: a backfill, or a late row, then costs its tiles
            and not its events. None: from the rows themselves each time.
        compute: a function from one DataFrame per source to the rows of the view. It is handed more rows than any
            one row may use: each from what is available at its event time plus `delay`, going back `lookback`.
        rows: an external table of join keys, event time and features, computed by dbt or a notebook.
        features: what `compute` gives or `rows` holds.
        lookback: how far before a row's event time `compute` looks.
        delay: a row's available time is its event time plus this.
        ttl: the largest age at which a value may be used; None: it never expires.
        freshness: how old the newest complete data may be.
        dense: a row at every step while the entity is active, not only where a value changed.
        if_unavailable: what readers get when the store cannot answer.
        consistency: how many replicas a read hears. `local_one` is cheaper and answers while one replica does, but may give
            an older value after a node failed; of views read together the strongest counts.
        row_count: least and most rows that a closed day may have; 0: it may be empty, None: any number.
        warn_only: rules of the contract that warn and refuse nothing, by name, e.g. `amount_at_most_100`; see
            `penstock contract show`.
        skew: how far what is served may be from what training is given.
        status: how far it is.
        description: one sentence for people.

    Raises:
        ContractError: a rule is broken; names view, field, value and rule.
    """

    name: str = field(kw_only=True)
    version: int = field(kw_only=True)
    entity: Entity = field(kw_only=True)
    source: Source | tuple[Source, ...] | None = field(default=None, kw_only=True)
    owner: str = field(kw_only=True)
    ttl: timedelta | None = field(kw_only=True)
    freshness: FreshnessSla = field(kw_only=True)
    aggregations: tuple[Aggregation, ...] | list[Aggregation] = field(default=(), kw_only=True)
    every: timedelta | None = field(default=None, kw_only=True)
    tiles: timedelta | None = field(default=None, kw_only=True)
    compute: Compute | None = field(default=None, kw_only=True)
    rows: Source | None = field(default=None, kw_only=True)
    features: tuple[Feature, ...] | list[Feature] = field(default=(), kw_only=True)
    lookback: timedelta = field(default=timedelta(0), kw_only=True)
    delay: timedelta = field(default=timedelta(0), kw_only=True)
    dense: bool = field(default=False, kw_only=True)
    if_unavailable: Degradation = field(default=fail(), kw_only=True)
    consistency: Consistency | str = field(default=Consistency.LOCAL_QUORUM, kw_only=True)
    row_count: tuple[int, int | None] = field(default=(1, None), kw_only=True)
    warn_only: tuple[str, ...] | list[str] = field(default=(), kw_only=True)
    skew: SkewPolicy = field(default=SkewPolicy(), kw_only=True)
    status: Readiness = field(default=Readiness.EXPERIMENTAL, kw_only=True)
    description: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        where = f"feature view '{self.name}'"
        require_name(self.name, "feature view")
        object.__setattr__(self, "source", self._sources(where))
        object.__setattr__(self, "aggregations", tuple(self.aggregations))
        if not isinstance(self.version, int) or self.version < 1:
            raise ContractError(f"{where}: version {self.version!r}; versions are whole numbers from 1")
        if bool(self.aggregations) + (self.compute is not None) + (self.rows is not None) != 1:
            raise ContractError(f"{where}: give one of aggregations=[...], compute=<function> and rows=<external source>")
        if self.aggregations:
            self._check_aggregations(where)
            object.__setattr__(self, "features", tuple(f for a in self.aggregations for f in a.features()))
        elif self.tiles is not None:
            raise ContractError(f"{where}: tiles= is for aggregations=; a function is handed rows")
        elif not self.features:
            raise ContractError(f"{where}: compute= and rows= need features=[Feature(...), ...] that say what there is")
        if self.rows is not None:
            self._check_rows(self.rows, where)
        if self.compute is not None and (not isinstance(self.compute, FunctionType) or self.compute.__name__ == "<lambda>"):
            raise ContractError(
                f"{where}: compute={self.compute!r} is not a function made with def; its code is part of what the view is known by"
            )
        object.__setattr__(self, "features", tuple(self.features))
        require_unique([*self.entity.join_keys, *(f.name for f in self.features)], f"{where}: columns")
        require_not_reserved((f.name for f in self.features), where)
        self._check_times(where)
        if self.consistency not in tuple(Consistency):
            raise ContractError(f"{where}: consistency={self.consistency!r}; it is one of {', '.join(map(repr, map(str, Consistency)))}")
        object.__setattr__(self, "consistency", Consistency(self.consistency))
        self._check_row_rules(where)

    def _check_row_rules(self, where: str) -> None:
        count = self.row_count
        if not (isinstance(count, tuple | list) and len(count) == 2 and type(count[0]) is int and type(count[1]) in (int, type(None))):
            raise ContractError(f"{where}: row_count={count!r}; {_ROW_COUNT}")
        least, most = count
        if least < 0 or (most is not None and most < least):
            raise ContractError(f"{where}: row_count={count!r}; {_ROW_COUNT}")
        object.__setattr__(self, "row_count", (least, most))
        if not isinstance(self.warn_only, tuple | list) or not all(isinstance(name, str) for name in self.warn_only):
            raise ContractError(f"{where}: warn_only={self.warn_only!r}; it is a list of names of rules, e.g. ['has_rows']")
        object.__setattr__(self, "warn_only", tuple(self.warn_only))
        try:
            _ = self.row_rules
        except ContractError as error:
            raise ContractError(f"{where}: {error.message}") from None

    def _sources(self, where: str) -> tuple[Source, ...]:
        if self.rows is not None:
            if self.source is not None:
                raise ContractError(f"{where}: source= is for aggregations= and compute=; rows= is a source itself")
            return (self.rows,)
        if not self.source:
            raise ContractError(f"{where}: no source; give source=, or rows= for a table that holds the view's rows")
        return self.source if isinstance(self.source, tuple) else (self.source,)

    def _check_rows(self, rows: Source, where: str) -> None:
        if rows.table is None:
            raise ContractError(f"{where}: rows= '{rows.name}' is not an external table; give its source table=delta(...) or parquet(...)")
        declared = {**self.entity.join_keys, **{f.name: f.dtype for f in self.features}}
        for column, dtype in declared.items():
            if rows.schema.get(column) != dtype:
                seen = rows.schema.get(column, "missing")
                raise ContractError(f"{where}: '{column}' is {dtype} in the view, {seen} in source '{rows.name}'")
        if self.delay < rows.availability.at_most:
            raise ContractError(
                f"{where}: delay={self.delay}, but a row of '{rows.name}' may become known {rows.availability.at_most} after its event"
                " time; a delay at least as long keeps rows from being used before they were there"
            )

    def _check_aggregations(self, where: str) -> None:
        if self.features:
            raise ContractError(f"{where}: features= is for compute=; aggregations name their own features")
        if len(self.sources) != 1:
            raise ContractError(f"{where}: aggregations read one source, got {len(self.sources)}; use compute= for several")
        if self.every is None:
            raise ContractError(f"{where}: aggregations need every=, the step at which windows are evaluated, e.g. minutes(15)")
        require_positive(self.every, f"{where}: every")
        if self.dense and self.every == EACH_EVENT:
            raise ContractError(f"{where}: dense=True with every=EACH_EVENT would be a row each microsecond; give a step, e.g. minutes(15)")
        if DAY % self.every:
            raise ContractError(f"{where}: every={self.every} does not divide 24 hours; partitions are days")
        schema = self.sources[0].schema
        for column in [*self.entity.join_keys, *(a.column for a in self.aggregations if a.column is not None)]:
            if column not in schema:
                raise ContractError(
                    f"{where}: source '{self.sources[0].name}' has no column '{column}'; it has {', '.join(map(repr, schema))}"
                )
        for key, dtype in self.entity.join_keys.items():
            if schema[key] != dtype:
                raise ContractError(f"{where}: join key '{key}' is {dtype} in entity '{self.entity.name}', {schema[key]} in its source")
        for aggregation in self.aggregations:
            dtype = "float64" if aggregation.column is None or aggregation.function in OF_ANY_TYPE else schema[aggregation.column]
            if dtype not in NUMERIC_DTYPES:
                raise ContractError(f"{where}: {aggregation.function} of '{aggregation.column}', which is {dtype}; it needs a number")
        self._check_tiles(where)

    def _check_tiles(self, where: str) -> None:
        if self.tiles is None:
            return
        require_positive(self.tiles, f"{where}: tiles")
        lengths = {f"every={self.every}": self.every, "24 hours, and partitions are days": DAY}
        lengths |= {f"the window of {window_suffix(length)} of '{a.name}'": length for a in self.aggregations for length in a.over}
        for what, length in lengths.items():
            if length is not None and length % self.tiles:
                raise ContractError(f"{where}: tiles={self.tiles} does not divide {what}; windows are made of whole tiles, e.g. hours(1)")
        for column in (a.column for a in self.aggregations if a.column is not None):
            if not column.isidentifier():
                raise ContractError(f"{where}: column '{column}' of its source cannot name a column of tiles; letters, digits and '_' can")

    def _check_times(self, where: str) -> None:
        if self.delay < timedelta(0) or self.lookback < timedelta(0):
            raise ContractError(f"{where}: delay and lookback are not negative, got {self.delay} and {self.lookback}")
        if self.ttl is None:
            return
        require_positive(self.ttl, f"{where}: ttl")
        if self.ttl < self.freshness.total:
            raise ContractError(
                f"{where}: ttl={self.ttl} is shorter than freshness.total={self.freshness.total}; values would expire before they are late"
            )
        stale = self.if_unavailable.stale_up_to
        if stale is not None and stale > self.ttl:
            raise ContractError(f"{where}: serve_stale(up_to={stale}) is past ttl={self.ttl}; nothing is served past its ttl")

    @property
    def sources(self) -> tuple[Source, ...]:
        """Its sources, always as a tuple."""
        assert isinstance(self.source, tuple)
        return self.source

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of its features, in order."""
        return tuple(f.name for f in self.features)

    @property
    def row_rules(self) -> tuple[RowRule, ...]:
        """What every day of its rows is held to before it is committed."""
        return row_rules(self.features, self.row_count, self.warn_only)

    @property
    def ref(self) -> str:
        """Name and version as people write them: `carrier_origin_delays@1`."""
        return f"{self.name}@{self.version}"

    @property
    def reach(self) -> timedelta:
        """How far before a row's event time its sources are read."""
        return max((length for a in self.aggregations for length in a.over), default=self.lookback)

    def named(self, name: str, *, on: Mapping[str, str] | None = None) -> NamedView:
        """This view under another name, for a service that wants it twice.

        Args:
            name: what its features' names begin with, in place of the view's.
            on: the view's join key → the service's join key that holds it; keys left out keep their name.

        Raises:
            ContractError: a bad name, or `on` names what is no join key of this view.
        """
        return NamedView(self, name, on or {})

    def windows(self) -> tuple[str, ...]:
        """The names of its windows, shortest first."""
        return tuple(window_suffix(length) for length in sorted({length for a in self.aggregations for length in a.over}))
