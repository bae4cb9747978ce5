"""The gateway that a command asks."""

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from penstock.config import Secret, load_settings
from penstock.errors import ConfigError
from penstock.sdk import FeatureClient
from penstock.serving.access import local_key

URL_HELP = "of the gateway; default: the one of the settings"
KEY_HELP = "where the API key is, env:NAME or file:PATH; default: this machine's own, for the project's gateway"
_TIMEOUT_S = 10.0


def gateway(url: str, api_key: str) -> FeatureClient:
    """A client of the gateway at `url`; of the project's where nothing is said. With both, no project is needed.

    Raises:
        ConfigError: no project here and something is left out, or what is said cannot be right.
    """
    if url and api_key:
        return FeatureClient(url, api_key=_secret(api_key), timeout_s=_TIMEOUT_S)
    if not Path("conf", "base.yaml").exists():
        raise ConfigError("no project here whose gateway to ask", hint="run this in a project's folder, or give --url and --api-key")
    settings = load_settings()
    where = url or f"http://{settings.gateway.host}:{settings.gateway.port}"
    return FeatureClient(where, api_key=_secret(api_key) if api_key else local_key(settings), timeout_s=_TIMEOUT_S)


def _secret(reference: str) -> str:
    try:
        return TypeAdapter[Secret](Secret).validate_python(reference).reveal()
    except ValidationError:
        # It may be the key itself: do not repeat it.
        raise ConfigError("--api-key: expected where the key is, not the key itself", hint="e.g. --api-key env:PENSTOCK_KEY") from None
