"""What features describe."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from penstock.contract.rules import require_name, require_not_reserved
from penstock.dtypes import JOIN_KEY_DTYPES, require_dtype
from penstock.errors import ContractError


@dataclass(frozen=True, eq=False, init=False)
class Entity:
    """What a feature describes, and the columns that identify it.

    Args:
        name: e.g. `carrier_origin`.
        join_keys: column → dtype, in the order the key is encoded; e.g. `{"carrier": "string", "origin": "string"}`.
            None: there is only one of it, e.g. the market; its features belong to every row.
        description: one sentence for people.

    Raises:
        ContractError: a bad name, no join key, or a dtype that cannot be a key (floats: equality is not sound).
    """

    name: str
    join_keys: Mapping[str, str]
    description: str

    def __init__(self, name: str, join_keys: Mapping[str, str] | None, *, description: str = "") -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "description", description)
        where = f"entity '{self.name}'"
        require_name(self.name, "entity")
        if join_keys is not None and not join_keys:
            raise ContractError(f"{where}: no join keys; name at least one column that identifies it; None says there is only one of it")

        keys = dict(join_keys or {})
        for column, dtype in keys.items():
            require_name(column, f"{where}: join key")
            if require_dtype(dtype, f"{where}: join key '{column}'") not in JOIN_KEY_DTYPES:
                allowed = ", ".join(sorted(JOIN_KEY_DTYPES))
                raise ContractError(f"{where}: join key '{column}' is {dtype}; a join key is one of {allowed}")
        require_not_reserved(keys, where)
        object.__setattr__(self, "join_keys", MappingProxyType(keys))
