"""What the gateway tells about the services it serves."""

from penstock.registry.serving_state import ServingState
from penstock.serving.access import Grant
from penstock.serving.messages import ServedFeature, ServiceDescription, ServiceList, ServiceSummary
from penstock.serving.plan import plan_service, service_entry


def list_services(state: ServingState, grant: Grant) -> ServiceList:
    """The services the grant covers, by name; others are not mentioned."""
    entries = [
        (service_entry(state.snapshots[pointers.snapshot], name), pointers.snapshot)
        for name, pointers in sorted(state.services.items())
        if grant.covers(name)
    ]
    return ServiceList(
        services=[
            ServiceSummary(name=e.name, contract=e.contract, snapshot=snapshot, owner=e.owner, description=e.description)
            for e, snapshot in entries
        ]
    )


def describe_service(state: ServingState, name: str) -> ServiceDescription:
    """What a caller may ask of a service and will get.

    Raises:
        UnknownService: it is not published.
    """
    plan = plan_service(state, name)
    ttls_us = {feature.name: view.view.ttl_us for view in plan.views for feature in view.features}
    ttls_us |= {feature.name: one.ttl_us for one in plan.on_demand for feature in one.features}
    entry = plan.service
    return ServiceDescription(
        name=entry.name,
        contract=entry.contract,
        snapshot=plan.snapshot,
        owner=entry.owner,
        description=entry.description,
        join_keys=dict(entry.join_keys),
        request=dict(entry.request),
        features=[
            ServedFeature(
                name=plan_of.name,
                dtype=plan_of.feature.dtype,
                unit=plan_of.feature.unit,
                default=plan_of.feature.default,
                ttl_s=None if ttl_us is None else ttl_us / 1_000_000,
                description=plan_of.feature.description,
            )
            for plan_of in plan.features
            for ttl_us in [ttls_us[plan_of.name]]
        ],
        views=plan.served_views,
    )
