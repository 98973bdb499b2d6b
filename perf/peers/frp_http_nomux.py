"""frp with proxies of type http and a connection for every request that is under way: cheaper with large bodies."""
from peers import _frp
from peers._frp import available, version  # noqa: F401

KIND = "http"
ADVICE = "As frp-http, with transport.tcpMux off, which its README leaves to the user and is cheaper with large bodies."


def start(stage, name: str):
    return _frp.start_http(stage, name, mux=False)
