"""A mixed fleet: two servers and four agents, of ours and of 0.0.x, behind a strictly round-robin nginx, under load."""
import json

import pytest

from lib.backend import pattern
from lib.fleet import Load, balancer
from lib.settings import PATIENCE, wait_until
from peers.old_fleet import OldGateway, OldMember

pytestmark = pytest.mark.plain("what 0.0.x says does not depend on TLS, and its peers here are scripted in plain text")

BODY = pattern(3000)


class Fleet:
    def __init__(self, workshop):
        self.workshop, self.keys = workshop, workshop.keys
        self.backend = workshop.backend()
        self.server, self.gateway = self.make_server(), OldGateway()
        self.nginx = workshop.nginx(balancer((self.server.port, self.gateway.port)))
        self.ours = [self.make_agent() for _ in range(2)]
        self.theirs = [self.make_member(number) for number in range(2)]
        self.token = self.keys.client()

    def make_server(self, port=None):
        return self.workshop.server("--peers", "0", http_port=port)

    def make_agent(self):
        url = f"ws://127.0.0.1:{self.nginx.port}/agent"
        return self.workshop.agent(url, {"svc": self.backend.url})

    def make_member(self, number: int) -> OldMember:
        return OldMember(self.nginx.port, self.keys.agent("svc", f"theirs-{number}"), self.backend.port)

    def close(self):
        for member in self.theirs:
            member.stop()
        self.gateway.drain()

    # --- Restarts: the end of one, and another in its place ---

    def restart_agent(self, number: int):
        assert self.ours[number].stop() == 0
        self.ours[number] = self.make_agent()

    def restart_member(self, number: int):
        self.theirs[number].drain()
        self.theirs[number] = self.make_member(number)

    def restart_server(self):
        assert self.server.stop() == 0
        self.server = self.make_server(self.server.port)

    def restart_gateway(self):
        self.gateway.drain()
        self.gateway = OldGateway(self.gateway.port)

    # --- Load ---

    def request(self, number: int) -> bytes:
        head = f"Host: test.example\r\nAuthorization: Bearer {self.token}\r\n"
        if number % 3:
            return f"GET /services/svc/body?n={20_000 + number % 50} HTTP/1.1\r\n{head}\r\n".encode()
        return f"PUT /services/svc/echo HTTP/1.1\r\n{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY

    @staticmethod
    def problem(number: int, answer):
        if answer.status != 200:
            return "not served"
        if number % 3:
            return None if len(answer.body) == 20_000 + number % 50 else "another body"
        return None if json.loads(answer.body)["length"] == len(BODY) else "another request"


@pytest.fixture
def fleet(workshop):
    fleet = Fleet(workshop)
    yield fleet
    fleet.close()


@pytest.mark.slow
def test_a_mixed_fleet_is_restarted_without_an_error(fleet):
    """Each of its six members in turn, each time until the whole fleet is one again."""
    def whole():
        return fleet.server.health()["agents"].get("svc", 0) == 4 and fleet.gateway.agents() == 4

    wait_until(whole, "every agent has found both servers", 2 * PATIENCE, 0.05)
    with Load(fleet.nginx.port, 4, fleet.request, fleet.problem) as load:
        def enough():
            wait_until(whole, "every agent has found both servers", 2 * PATIENCE, 0.05)
            count = load.done
            wait_until(lambda: load.bad or load.done >= count + 60, "requests are served", 2 * PATIENCE)
            assert not load.bad, load.bad[:3]

        for restart in (lambda: fleet.restart_member(0), lambda: fleet.restart_agent(0), fleet.restart_gateway,
                        lambda: fleet.restart_member(1), fleet.restart_server, lambda: fleet.restart_agent(1)):
            enough()
            restart()
        enough()
    assert not load.bad, load.bad[:3]
