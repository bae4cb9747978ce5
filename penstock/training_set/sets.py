"""The training sets of a project: built, loaded, verified, made again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from penstock.as_of import Mode
from penstock.clock import Clock
from penstock.offline.lake import Lake
from penstock.point_in_time.joined import Resources
from penstock.point_in_time.spine import DeltaRows, Spine
from penstock.registry.project import Project
from penstock.training_set.build import Recipe, build
from penstock.training_set.finish import Condition
from penstock.training_set.leakage import Leakage, leakage
from penstock.training_set.loaded import TrainingSet
from penstock.training_set.manifest import Manifest, find_manifest, manifests
from penstock.training_set.pins import Finding, verify
from penstock.training_set.rebuild import Rebuilt, pinned_joins, rebuild
from penstock.training_set.stale import Since, Stale


@dataclass(frozen=True)
class TrainingSets:
    """What `store.training_set` is.

    Args:
        lake, project, resources, clock: the store's.
        spine: makes a spine of whatever may stand for one.
        registry: gives the fingerprint of the definitions.
    """

    lake: Lake
    project: Project
    resources: Resources
    clock: Clock
    spine: Callable[[Any], Spine]
    registry: Callable[[], str]

    def build(
        self,
        name: str,
        spine: Any,
        service: str,
        *,
        mode: Mode = "observed",
        overrides: Mapping[str, Mode] | None = None,
        split: str = "",
        seed: int = 0,
        labels: Sequence[str] = (),
        cutoff: datetime | None = None,
        where: Sequence[Condition] = (),
        leakage: bool = True,
        spine_text: str = "",
    ) -> Manifest:
        """Join a spine with a service's features and keep the result; see `training_set.build.Recipe` for what it is to be.

        Args:
            name: the training set's name; each build has an id of its own below it and is never altered.
            spine: whatever `store.join` takes.
            service: the features.
        """
        text = spine_text or (spine if isinstance(spine, str) else "")
        recipe = Recipe(mode, overrides or {}, split, seed, labels, cutoff, where, leakage, text)
        of = self.project.service(service)
        return build(self.lake, of, self.spine(spine), self.resources, name=name, clock=self.clock, recipe=recipe, registry=self.registry())

    def load(self, name: str, build: str | None = None) -> TrainingSet:
        """A build by its id, or the newest.

        Raises:
            SpineError: there is none.
        """
        return TrainingSet(self.lake, find_manifest(self.lake, name, build))

    def list(self, name: str | None = None) -> Sequence[Manifest]:
        """All builds of a training set, or of all, oldest first."""
        return manifests(self.lake, name)

    def leakage(self, name: str, build: str | None = None, *, against: Mode = "event") -> Leakage:
        """What another mode would have made of a build, or the newest, with the same versions of everything.

        Args:
            name, build: which.
            against: the other mode; it comes first in what is found, the build's own mode second.

        Raises:
            TrainingSetError: the definitions are others than they were.
        """
        manifest = find_manifest(self.lake, name, build)
        spine = DeltaRows(self.lake.location(manifest.table), 0, tuple(manifest.spine_columns))
        joins = pinned_joins(self.lake, manifest, self.project)
        return leakage(self.lake, spine, joins, self.resources, against)

    def verify(self, name: str, build: str | None = None, *, deep: bool = False) -> Sequence[Finding]:
        """Whether a build, or the newest, could be made again, and until when; see `training_set.pins.verify`."""
        return verify(self.lake, find_manifest(self.lake, name, build), self.clock.now(), deep=deep)

    def rebuild(self, name: str, build: str | None = None) -> Rebuilt:
        """Make a build, or the newest, again from its manifest and compare; see `training_set.rebuild.rebuild`.

        Raises:
            TrainingSetError: it is not equal; names what is not as it was.
        """
        return rebuild(self.lake, find_manifest(self.lake, name, build), self.project, self.resources)

    def stale(self, name: str, build: str | None = None) -> Sequence[Stale]:
        """What was corrected or invalidated, since it was built, of what a build, or the newest, read; nothing: nothing.

        Nothing is altered: the set stays as it is and can be made again as it was; build another for what is true now.
        """
        return Since(self.lake).stale(find_manifest(self.lake, name, build))
