"""`penstock gateway`: serve features over HTTP."""

from penstock.config import load_settings
from penstock.runtime.node_status import cassandra_endpoint
from penstock.serving.gateway import run_gateway


def run() -> None:
    """Serve features over HTTP until interrupted."""
    settings = load_settings()
    contact_points, port = cassandra_endpoint(settings)
    run_gateway(settings, contact_points, port, settings.make_clock())
