"""What the features describe."""

from penstock.contract import Entity

carrier_origin = Entity("carrier_origin", {"carrier": "string", "origin": "string"}, description="a carrier at an airport it departs from")
