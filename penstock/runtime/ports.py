"""Whether a port can be listened on."""

import socket


def why_taken(host: str, port: int) -> str | None:
    """Why a server could not listen there; None: it could. Connections in TIME_WAIT do not make a port taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror or str(error)
    return None
