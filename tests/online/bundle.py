"""A database behind a secure-connect bundle, as Astra is: a metadata service tells which nodes there are, each is found by a name."""

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from zipfile import ZipFile

from tests.online.secured import Secured


@contextmanager
def secure_connect_bundle(node: Secured, host_id: str) -> Iterator[Path]:
    """The bundle of a node, whose metadata service runs meanwhile. The node stands for its own proxy: it ignores the name asked for."""
    told = {"contact_info": {"local_dc": "dc1", "contact_points": [host_id], "sni_proxy_address": f"127.0.0.1:{node.port}"}}

    class Metadata(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/metadata"
            body = json.dumps(told)
            self.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())

        def log_message(self, *_: object) -> None: ...

    certificate, key = node.authority.issue("metadata", "localhost")
    paths = node.folder / "metadata.pem", node.folder / "metadata.key"
    for path, text in zip(paths, (certificate, key), strict=True):
        path.write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*paths)
    context.load_verify_locations(cadata=node.authority.pem)
    context.verify_mode = ssl.CERT_REQUIRED
    with ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever)
        thread.start()
        bundle = node.folder / "secure-connect.zip"
        with ZipFile(bundle, "w") as out:
            out.writestr(
                "config.json", json.dumps({"host": "localhost", "port": server.server_port, "localDC": "dc1", "keyspace": "secured"})
            )
            out.write(node.folder / "ca.pem", "ca.crt")
            out.write(node.folder / "client.pem", "cert")
            out.write(node.folder / "client.key", "key")
        try:
            yield bundle
        finally:
            server.shutdown()
            thread.join()
