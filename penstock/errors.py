"""Every error Penstock raises on purpose.

    PenstockError
    ├── ConfigError            conf/*.yaml or an environment variable
    ├── ContractError          an entity, source, view or service that cannot be right
    ├── RegistryError          a name or fingerprint the registry does not hold
    ├── RuntimeSetupError      Java, jars, a Spark session or an embedded node
    ├── SourceError            a source table is missing or not as declared
    ├── SpineError             the rows to enrich are not as the views need them
    ├── TrainingSetError       a training set cannot be made again as it was
    ├── CommitError            an offline table would be left wrong
    ├── LakeFull               no space is left where the lake is
    ├── PublicationError       a publication could not be completed
    ├── ReplayError            a replay token cannot be read, or what it names is not in the lake
    ├── FunctionError          a request-time function cannot be run, raised, or gave something else than it declares
    ├── DagsterError           the Dagster instance did not do what it was asked
    ├── StoreError             the online store
    │   ├── StoreUnavailable   it did not answer
    │   └── CorruptValue       it answered with bytes that are not a value of ours
    └── RequestError           what a caller of the gateway or the SDK asked for
        ├── MalformedRequest
        ├── RequestTooLarge
        ├── UnknownService
        ├── UnknownFeature
        ├── InvalidEntity
        ├── TooManyEntities
        ├── ContractMismatch
        ├── NotAuthorized
        │   └── NotAuthenticated
        └── Unavailable        nothing the contract allows can answer now

A message says what is wrong, the value seen, what was expected and what to do. Errors know no
transport: the gateway maps them to status codes. A `RequestError` has a code, its name on any wire.
"""

import re


class PenstockError(Exception):
    """Base of all errors Penstock raises on purpose.

    Args:
        message: what is wrong, the value seen, what was expected.
        hint: what to do, one sentence; shown on a line of its own.
    """

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        self.message = message or (self.__doc__ or "").partition("\n")[0]
        self.hint = hint
        super().__init__(f"{self.message}\n  hint: {hint}" if hint else self.message)


class ConfigError(PenstockError):
    """A setting is missing, unknown or of the wrong type."""


class ContractError(PenstockError):
    """A definition breaks a rule of the contract; names the object, field, value and rule."""


class RegistryError(PenstockError):
    """The registry does not hold what was asked for."""


class RuntimeSetupError(PenstockError):
    """Java, a jar, Spark or an embedded node is not usable.

    Operator action: the message names the part and how to get it; the log it names says more.
    """


class SourceError(PenstockError):
    """A source table is missing or not as its source declares."""


class SpineError(PenstockError):
    """The rows to enrich lack a join key or the event time, or have another type."""


class TrainingSetError(PenstockError):
    """A training set cannot be made again as it was, or what it was made from is about to go.

    Operator action: the message names the table and partition, or the definition, that is not as it was.
    """


class LakeFull(PenstockError):
    """No space is left where the lake is.

    Operator action: free some, then run it again; nothing half-written is readable.
    """


class CommitError(PenstockError):
    """A commit was refused because it would leave an offline table wrong.

    Operator action: nothing was written; read the message, mend the cause, run the partition again.
    """


class BackfillError(PenstockError):
    """A backfill or a repair cannot be asked for like this; nothing was started.

    Operator action: see the message.
    """


class InvalidationError(PenstockError):
    """An invalidation cannot be made, or undone, as asked; nothing was changed.

    Operator action: see the message.
    """


class PublicationError(PenstockError):
    """A publication could not be completed; every key holds its old or its new value.

    Operator action: run the publication again (the sensor does so by itself).
    """


class ReplayError(PenstockError):
    """A replay token cannot be read, or the lake no longer holds what it names."""


class AlertError(PenstockError):
    """Alerts could not be told, or there is none of that name."""


class SkewError(PenstockError):
    """A window of the feature log cannot be judged or shown."""


class FunctionError(PenstockError):
    """A request-time function cannot be run, raised, or gave something else than its view declares.

    Operator action: the message names view and function; correct the module, publish the definitions, and bring it to the gateways.
    """


class DagsterError(PenstockError):
    """The Dagster instance did not do what it was asked.

    Operator action: look at the run in the Dagster UI.
    """


class StoreError(PenstockError):
    """The online store refused a statement."""


class StoreUnavailable(StoreError):
    """The online store did not answer in time.

    Operator action: check the store's nodes (`penstock node status`, or your cluster's own tools).
    """


class CorruptValue(StoreError):
    """A stored value does not pass its checksum or has an unknown format.

    Operator action: publish the key's partition again; the damaged value is replaced.
    """


class RequestError(PenstockError):
    """A request cannot be answered as asked."""


class MalformedRequest(RequestError):
    """The request is not JSON of the documented shape."""


class RequestTooLarge(RequestError):
    """The request's body is larger than the gateway reads."""


class UnknownService(RequestError):
    """No feature service of this name is published."""


class UnknownFeature(RequestError):
    """The feature service does not hold this feature."""


class InvalidEntity(RequestError):
    """An entity of the request lacks a join key or request field, or gives one of the wrong type."""


class TooManyEntities(RequestError):
    """The request names more entities or cells than the gateway answers at once."""


class ContractMismatch(RequestError):
    """The pinned contract fingerprint is not the one being served."""


class NotAuthorized(RequestError):
    """The caller holds no grant for this feature service."""


class NotAuthenticated(NotAuthorized):
    """The caller gave no API key, or one that is not known."""


class Unavailable(RequestError):
    """The online store cannot answer and the contract allows no substitute."""


class Overloaded(Unavailable):
    """The gateway has as many requests as it can answer in time; turned away before anything was done."""


def error_code(error: type[RequestError]) -> str:
    """The error's name on a wire: `UnknownService` is `unknown_service`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", error.__name__).lower()


REQUEST_ERRORS = {
    error_code(error): error
    for error in (
        RequestError,
        MalformedRequest,
        RequestTooLarge,
        UnknownService,
        UnknownFeature,
        InvalidEntity,
        TooManyEntities,
        ContractMismatch,
        NotAuthorized,
        NotAuthenticated,
        Unavailable,
        Overloaded,
    )
}
"""Code → error: how a client raises again what the gateway raised."""
