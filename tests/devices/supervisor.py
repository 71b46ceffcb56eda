"""A stand-in of Home Assistant's Supervisor, for an add-on in a network of podman: run inside that network.

    supervisor.py serve                        # answers about the MQTT service, until it is ended
    supervisor.py ask ADDRESS METHOD PATH [BODY]  # what the add-on answers to a request from ADDRESS, as JSON

Made after https://developers.home-assistant.io/docs/apps/communication and supervisor/api/ingress.py. Standard library
only: the network's namespace has the system's Python.
"""

import json
import subprocess
import sys
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GATEWAY, SUPERVISOR, ADDON = "172.30.32.1", "172.30.32.2", "172.30.33.5"
TOKEN = "token-of-the-addon"
SERVICE = {
    "host": GATEWAY,
    "port": 1883,
    "ssl": False,
    "username": "addons",
    "password": "secret",
    "protocol": "3.1.1",
    "addon": "core_mosquitto",
}


class Services(BaseHTTPRequestHandler):
    """What the Supervisor answers to an add-on that needs the MQTT service."""

    def do_GET(self) -> None:
        known = self.path == "/services/mqtt" and self.headers["Authorization"] == f"Bearer {TOKEN}"
        answer = {"result": "ok", "data": SERVICE} if known else {"result": "error", "message": "no"}
        self.send_response(200 if known else 403)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())


def serve() -> None:
    """Takes the Supervisor's address, beside the gateway's, and answers."""
    listed = json.loads(subprocess.run(["ip", "-json", "address"], capture_output=True, check=True).stdout)
    (bridge,) = [one["ifname"] for one in listed if GATEWAY in {place.get("local") for place in one["addr_info"]}]
    subprocess.run(["ip", "address", "replace", f"{SUPERVISOR}/23", "dev", bridge], check=True)
    with ThreadingHTTPServer((SUPERVISOR, 80), Services) as server:
        server.serve_forever()


def ask(address: str, method: str, path: str, body: str = "") -> None:
    """Prints status and body."""
    connection = HTTPConnection(ADDON, 8099, timeout=20, source_address=(address, 0))
    headers = {
        "Host": "homeassistant.local:8123",
        "Origin": "http://homeassistant.local:8123",
        "Content-Type": "application/json",
        "X-Ingress-Path": "/api/hassio_ingress/abc",
        "X-Remote-User-Name": "ann",
    }
    connection.request(method, path, body or None, headers)
    answer = connection.getresponse()
    print(json.dumps({"status": answer.status, "body": answer.read().decode()}))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        ask(*sys.argv[2:])
