"""All definitions of a project, found in its package of feature files."""

import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from traceback import extract_tb
from typing import Any

from penstock.contract.function import module_of
from penstock.contract.on_demand import OnDemandView
from penstock.contract.rules import require_unique
from penstock.contract.service import FeatureService
from penstock.contract.source import Source
from penstock.contract.view import FeatureView
from penstock.errors import ContractError, PenstockError, RegistryError


@dataclass(frozen=True)
class Project:
    """The views, services and on-demand views of one project, each name once (a view once per version)."""

    name: str
    views: tuple[FeatureView, ...]
    services: tuple[FeatureService, ...]
    on_demand: tuple[OnDemandView, ...] = ()

    def __post_init__(self) -> None:
        where = f"project '{self.name}'"
        require_unique([*(view.ref for view in self.views), *(view.ref for view in self.on_demand)], f"{where}: feature views")
        require_unique((service.name for service in self.services), f"{where}: feature services")
        require_unique((source.name for source in self.sources), f"{where}: sources (two objects of one name)")
        entities = {id(view.entity): view.entity for view in self.views}
        require_unique((entity.name for entity in entities.values()), f"{where}: entities (two objects of one name)")
        for service in self.services:
            for part in service.selection:
                if part.view not in self.views:
                    raise ContractError(f"{where}: service '{service.name}' uses {part.view.ref}, which no feature file defines as VIEW")
            for view in service.on_demand:
                if view not in self.on_demand:
                    raise ContractError(f"{where}: service '{service.name}' uses {view.ref}, which no feature file defines as VIEW")
        modules: dict[str, OnDemandView] = {}
        for view in self.on_demand:
            other = modules.setdefault(module_of(view.function.name), view)
            if other.function.text != view.function.text:
                raise ContractError(
                    f"{where}: the functions of {other.ref} and {view.ref} are in two modules, {other.function.path} and"
                    f" {view.function.path}; a gateway holds one of that name",
                    hint="give one of them another name",
                )
            if view.compute.__module__.partition(".")[0] == self.name:
                raise ContractError(
                    f"{where}: the function of {view.ref} is in {view.compute.__module__}; the gateway never loads feature files",
                    hint="move it to a module of its own, in feature_functions/",
                )

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources its views read, in order of first use."""
        return tuple({id(s): s for view in self.views for s in view.sources}.values())

    def view(self, name: str) -> FeatureView:
        """A view by `name` or `name@version`; without a version the newest.

        Raises:
            RegistryError: there is none; names those there are.
        """
        found = [v for v in self.views if name in (v.name, v.ref)]
        if not found:
            raise RegistryError(
                f"no feature view '{name}' in project '{self.name}'; it has {', '.join(sorted(v.ref for v in self.views)) or 'none'}"
            )
        return max(found, key=lambda v: v.version)

    def views_named(self, names: Sequence[str] | None) -> Sequence[FeatureView]:
        """The views of these names, in this order, as `view` takes them; without names all.

        Raises:
            RegistryError: there is none of a name.
        """
        return [self.view(name) for name in names] if names else self.views

    def source(self, name: str) -> Source:
        """A source by name.

        Raises:
            RegistryError: there is none; names those there are.
        """
        found = {source.name: source for source in self.sources}
        if name not in found:
            raise RegistryError(f"no source '{name}' in project '{self.name}'; it has {', '.join(sorted(found)) or 'none'}")
        return found[name]

    def service(self, name: str) -> FeatureService:
        """A feature service by name.

        Raises:
            RegistryError: there is none; names those there are.
        """
        for service in self.services:
            if service.name == name:
                return service
        raise RegistryError(
            f"no feature service '{name}' in project '{self.name}'; it has {', '.join(s.name for s in self.services) or 'none'}"
        )


def load_project(package: str) -> Project:
    """The project whose feature files are the modules of `package`.

    A module may define `VIEW` (or `VIEWS`), stored or on-demand, and any number of feature services.

    Raises:
        ContractError: a definition breaks a rule; the message names it.
        RegistryError: there is no such package, or a file of it cannot be imported; the message says where.
    """
    try:
        root = importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise RegistryError(f"no package '{package}' of feature files; run this in the project's folder") from None
    views: list[FeatureView | OnDemandView] = []
    services: dict[int, FeatureService] = {}
    for info in sorted(pkgutil.iter_modules(root.__path__), key=lambda i: i.name):
        module = _imported(f"{package}.{info.name}", root.__path__[0])
        views += [v for v in [getattr(module, "VIEW", None), *getattr(module, "VIEWS", ())] if v is not None]
        services |= {id(value): value for value in vars(module).values() if isinstance(value, FeatureService)}
    return Project(
        package,
        tuple(view for view in views if isinstance(view, FeatureView)),
        tuple(services.values()),
        tuple(view for view in views if isinstance(view, OnDemandView)),
    )


def _imported(name: str, folder: str) -> Any:
    try:
        return importlib.import_module(name)
    except PenstockError:
        raise
    except Exception as error:
        raise RegistryError(
            f"{_where(error, folder)}: {type(error).__name__}: {error}", hint="mend the definition; nothing was read"
        ) from error


def _where(error: Exception, folder: str) -> str:
    """The innermost line of the project's own that raised an error, as `file, line n`."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}"
    lines = [frame for frame in extract_tb(error.__traceback__) if frame.filename.startswith(folder)]
    return f"{lines[-1].filename}, line {lines[-1].lineno}" if lines else folder
