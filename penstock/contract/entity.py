"""What features describe."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from penstock.contract.rules import require_name, require_not_reserved
from penstock.dtypes import JOIN_KEY_DTYPES, require_dtype
from penstock.errors import ContractError


@dataclass(frozen=True, eq=False)
class Entity:
    """What a feature describes, and the columns that identify it.

    Args:
        name: e.g. `carrier_origin`.
        join_keys: column → dtype, in the order the key is encoded; e.g. `{"carrier": "string", "origin": "string"}`.
        description: one sentence for people.

    Raises:
        ContractError: a bad name, no join key, or a dtype that cannot be a key (floats: equality is not sound).
    """

    name: str
    join_keys: Mapping[str, str]
    description: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        where = f"entity '{self.name}'"
        require_name(self.name, "entity")
        if not self.join_keys:
            raise ContractError(f"{where}: no join keys; name at least one column that identifies it")
        for column, dtype in self.join_keys.items():
            require_name(column, f"{where}: join key")
            if require_dtype(dtype, f"{where}: join key '{column}'") not in JOIN_KEY_DTYPES:
                allowed = ", ".join(sorted(JOIN_KEY_DTYPES))
                raise ContractError(f"{where}: join key '{column}' is {dtype}; a join key is one of {allowed}")
        require_not_reserved(self.join_keys, where)
        object.__setattr__(self, "join_keys", MappingProxyType(dict(self.join_keys)))
