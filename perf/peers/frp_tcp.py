"""frp with proxies of type tcp: a port for each service, bytes carried as they are."""
from peers import _frp
from peers._frp import available, version  # noqa: F401

KIND = "tcp"
ADVICE = ("Proxies of type tcp, connections dialled ahead as with frp-http; transport.tcpMux off, which is cheaper with requests"
          " and with bodies.")


def start(stage, name: str):
    return _frp.start_tcp(stage, name)
