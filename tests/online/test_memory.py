"""The store in memory keeps the contract of all stores."""

import asyncio

import pytest

from penstock.errors import StoreUnavailable
from penstock.online.memory import MemoryStore
from tests.online.contract import check_online_store


def test_memory_store_keeps_the_contract() -> None:
    asyncio.run(check_online_store(MemoryStore()))


def test_an_unreachable_memory_store_raises_as_a_cluster_that_is_down() -> None:
    store = MemoryStore()
    store.reachable = False
    with pytest.raises(StoreUnavailable):
        asyncio.run(store.prepare(["airport"]))
    with pytest.raises(StoreUnavailable):
        asyncio.run(store.pointers())
