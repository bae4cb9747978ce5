"""The request-time functions a gateway runs: modules of one folder, each with exactly the code that the registry snapshot names."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.contract.function import FunctionSource, module_of, read_source
from penstock.errors import FunctionError, RegistryError
from penstock.registry.snapshot import OnDemandEntry

if TYPE_CHECKING:
    from penstock.request_time import Column, Computed, Flags, RequestFunction

logger = logging.getLogger(__name__)


class ServedFunction:
    """A function of an on-demand view, loaded; what it fails with is logged, each message once in a row."""

    def __init__(self, function: "RequestFunction") -> None:
        self._function = function
        self._complaint = ""

    def run(self, columns: "Mapping[str, Column]", unusable: "Flags") -> "list[Computed] | None":
        """Its features, as `RequestFunction` gives them; None: it failed."""
        try:
            return self._function(columns, unusable)
        except FunctionError as error:
            if error.message != self._complaint:  # the same at each request must not fill the log
                self._complaint = error.message
                logger.exception("features are served as ERROR: %s", error.message)
            return None


class Functions:
    """Loads functions from a folder; a module is read anew each time, so that another may be put there while the gateway runs.

    Args:
        folder: of modules, `<module>.py` each.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, view: OnDemandEntry) -> ServedFunction:
        """The function of a view.

        Raises:
            RegistryError: its module is not there, cannot be loaded, or has other code than the snapshot names.
        """
        what = f"on-demand view {view.ref} needs function {view.function}"
        try:
            # numpy is needed only where such a view is served
            from penstock.request_time import RequestFunction  # noqa: PLC0415

            source = self._read(view.function)
            if source.fingerprint != view.fingerprint:
                raise RegistryError(
                    f"{what} with code {view.fingerprint}; {source.path} has {source.fingerprint}",
                    hint="bring the module that was published to gateway.functions, or publish the definitions with the one that is there",
                )
            source.load()
        except ImportError as error:
            raise RegistryError(f"{what}, which needs numpy: {error}", hint="install numpy beside the gateway") from None
        except (OSError, SyntaxError, ValueError, FunctionError) as error:  # ValueError: no UTF-8, a null byte
            raise RegistryError(f"{what}: {error}", hint="gateway.functions names the folder of modules") from None
        return ServedFunction(
            RequestFunction(
                view=view.ref,
                source=source,
                takes=(*view.taken, *view.request),
                gives=tuple((feature.name, feature.dtype) for feature in view.features),
                handles_nulls=view.handles_nulls,
            )
        )

    def _read(self, function: str) -> FunctionSource:
        return read_source(self._folder / f"{module_of(function)}.py", function)
