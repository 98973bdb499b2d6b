"""What tests of fleets share: a balancer that gives each connection to the next server, strictly in turn, and clients that
ask through it without a pause."""
import itertools
import threading

from lib.settings import PATIENCE
from lib.wire import Truncated, Wire

_BALANCER = """
    location / {
        proxy_pass http://gimlet;
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $for_upstream;
        proxy_read_timeout 60s;
        proxy_connect_timeout 1s;
        proxy_next_upstream error timeout http_503;
    }
}
map $http_upgrade $for_upstream { default upgrade; "" ""; }
upstream gimlet {
%s
"""


def balancer(ports) -> str:
    """For an nginx in front of them. No failure shuts a server out: it may be back the next moment."""
    return _BALANCER % "\n".join(f"server 127.0.0.1:{port} max_fails=0;" for port in ports)


class Load:
    """Clients that ask, one request after another each, for as long as the block lasts. `request(n)` is the n-th of a
    client, `problem(n, answer)` what is wrong with its answer, or None."""

    def __init__(self, port: int, clients: int, request, problem):
        self.port, self.request, self.problem = port, request, problem
        self.stop = threading.Event()
        self.good, self.bad = itertools.count(), []
        self.threads = [threading.Thread(target=self.client, args=(n,), daemon=True) for n in range(clients)]

    def client(self, number: int):
        step = 0
        try:
            while not self.stop.is_set():
                with Wire(self.port, timeout=PATIENCE) as wire:
                    for step in range(step, step + 20):
                        answer = wire.send(self.request(number + step)).answer()
                        if problem := self.problem(number + step, answer):
                            self.bad.append((problem, answer.status, answer.error, answer.body[:200]))
                        self.done = next(self.good)
        except (OSError, Truncated) as problem:  # a timeout, too
            self.bad.append((number + step, problem))

    def __enter__(self):
        self.done = 0
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(2 * PATIENCE)
        if any(thread.is_alive() for thread in self.threads):
            self.bad.append("a client is still waiting")
