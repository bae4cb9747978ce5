"""A read through a gateway beside the lake: what it knows, and what is wrong with it."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from penstock.clock import from_micros
from penstock.errors import Unavailable
from penstock.quality.canary import Canary, read_canary
from tests.served import TODAY, Served
from tests.world import MONDAY

HOUR = timedelta(hours=1)


class Client:
    """Asks what the world serves, as the gateway's code answers."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.asked: list[Any] = []

    def features(self, service: str, entities: Any) -> Any:
        self.asked.append((service, entities))
        token = self.served.ask(entities[0]["customer"])
        until = from_micros(self.served.ledger()[-1].complete_until_us)
        name = self.served.world.view.name
        return SimpleNamespace(views=[SimpleNamespace(view=name, version=1, complete_until=until)], token=token)


class Nobody:
    def features(self, *_: Any) -> Any:
        raise Unavailable("no gateway answers")


def read(served: Served, client: Any) -> Canary:
    return read_canary(served.world.lake, served.project.service("orders"), client, served.world.clock.now())


@pytest.mark.real
def test_an_answer_is_computed_again_from_the_lake(served: Served) -> None:
    served.bring(TODAY)
    client = Client(served)
    until = from_micros(served.ledger()[-1].complete_until_us)
    ref = served.world.view.ref
    assert read(served, client) == Canary("orders", {ref: until}, [])
    ((_, [entity]),) = client.asked
    assert set(entity) == {"customer"}
    customer = entity["customer"]
    served.put(customer, 999.0, MONDAY + 11 * HOUR, served.ledger()[0].attempt)
    assert read(served, client).problems == [f"orders: {ref} of customer={customer} is value"]
    assert read(served, Nobody()) == Canary("orders", {}, ["orders: no gateway answers"])
