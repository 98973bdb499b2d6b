"""frp with proxies of type http: frps reads requests and routes them by host name."""
from peers import _frp
from peers._frp import available, version  # noqa: F401

KIND = "http"
ADVICE = ("Proxies of type http, found by Host; connections dialled ahead, which its README recommends for many requests;"
          " multiplexed, as it comes; no TLS on its link, as on ours.")


def start(stage, name: str):
    return _frp.start_http(stage, name, mux=True)
