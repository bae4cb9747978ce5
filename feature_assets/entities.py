"""What the features describe."""

from penstock.contract import Entity

carrier_origin = Entity("carrier_origin", {"carrier": "string", "origin": "string"}, description="a carrier at an airport it departs from")
route = Entity("route", {"origin": "string", "dest": "string"}, description="an airport of departure and one of arrival")
aircraft = Entity("aircraft", {"tailnum": "string"}, description="an aircraft, by the number on its tail")
airport = Entity("airport", {"origin": "string"}, description="an airport flights depart from")
