"""Agents and servers in any number behind a balancer that gives each connection to the next server, strictly in turn:
every agent finds every server, is back soon after a restart, and says little. nginx is the balancer."""
import itertools
import json
import signal
import time

import pytest

from lib.fleet import Load, balancer
from lib.settings import PATIENCE, SANITIZED, wait_until
from old_peer import OldServer
from peers.native_server import Closed, NativeServer

pytestmark = pytest.mark.plain("the balancer speaks plain text")

LINES = ("info", "warn", "error")


class Fleet:
    """Servers behind one nginx, agents that know its address alone."""

    def __init__(self, workshop, servers: int, agents: int, *server_flags, agent_flags=()):
        self.workshop, self.server_flags = workshop, server_flags
        self.backend = workshop.backend()
        self.servers = [self.make_server() for _ in range(servers)]
        self.nginx = workshop.nginx(balancer(server.port for server in self.servers))
        self.url = f"ws://127.0.0.1:{self.nginx.port}/agent"
        self.agents = [workshop.agent(self.url, {"svc": self.backend.url}, *agent_flags, rings=1)
                       for _ in range(agents)]
        self.token = workshop.keys.client()

    def make_server(self, port=None):
        return self.workshop.server("--peers", "0", *self.server_flags, http_port=port, rings=1)

    def is_complete(self) -> bool:
        return all(server.health()["agents"].get("svc", 0) == len(self.agents) for server in self.servers)

    def wait_complete(self, timeout: float = PATIENCE):
        """How long it takes is shown in virtual time (tests/unit/agent): here the machine has other things to do."""
        wait_until(self.is_complete, f"{len(self.agents)} agents have found {len(self.servers)} servers", timeout, 0.05)

    def restart(self, index: int, how=signal.SIGTERM):
        """Its end, then another server at its address."""
        old = self.servers[index]
        old.signal(how)
        if how == signal.SIGKILL:
            old.kill()
        else:
            assert old.wait() == 0
        self.servers[index] = self.make_server(old.port)

    def lines(self) -> int:
        return sum(entry["level"] in LINES for process in [*self.servers, *self.agents] for entry in process.log())

    def request(self, number: int) -> bytes:
        return (f"GET /services/svc/body?n={100 + number % 50} HTTP/1.1\r\nHost: test.example\r\n"
                f"Authorization: Bearer {self.token}\r\n\r\n").encode()

    @staticmethod
    def problem(number: int, answer):
        return None if (answer.status, len(answer.body)) == (200, 100 + number % 50) else "not the answer"

    def load(self) -> Load:
        return Load(self.nginx.port, 4, self.request, self.problem)


@pytest.mark.parametrize("servers,agents", [(2, 2), (3, 4)])
def test_every_agent_finds_every_server(workshop, servers, agents):
    """Where 0.0.6 locked in step: two agents, two servers, strict round robin."""
    fleet = Fleet(workshop, servers, agents, "--lanes", "1")
    fleet.wait_complete()
    # One line for each link at either end, a few for each process's start; and then silence.
    time.sleep(1)
    assert fleet.lines() <= 2 * servers * agents + 12 * (servers + agents)
    assert not [entry for agent in fleet.agents for entry in agent.log() if entry["level"] in ("warn", "error")]


@pytest.mark.slow
@pytest.mark.skipif(SANITIZED, reason="seventeen processes: once is enough; tests/unit/agent has all shapes in virtual time")
def test_eight_agents_find_eight_servers(workshop):
    fleet = Fleet(workshop, 8, 8, "--lanes", "1")
    fleet.wait_complete(60)
    time.sleep(2)
    assert fleet.lines() <= 2 * 8 * 8 + 12 * 16


@pytest.mark.slow
@pytest.mark.skipif(SANITIZED, reason="it waits for a report, which comes every ten seconds: once is enough")
def test_a_server_more_is_found_by_one_agent_for_all(workshop):
    """The agents have settled, and none looks by itself; a new one finds the new server, and the reports carry it on."""
    fleet = Fleet(workshop, 3, 0, "--lanes", "1")
    quiet = ("--connection-check-interval", "1h")
    port = fleet.servers[2].port
    assert fleet.servers.pop().stop() == 0
    fleet.agents = [workshop.agent(fleet.url, {"svc": fleet.backend.url}, *quiet, rings=1) for _ in range(2)]
    fleet.wait_complete()
    time.sleep(4)
    fleet.servers.append(fleet.make_server(port))
    fleet.agents.append(workshop.agent(fleet.url, {"svc": fleet.backend.url}, *quiet, rings=1))
    fleet.wait_complete(60)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_restarted_server_is_found_within_seconds(workshop, how):
    fleet = Fleet(workshop, 2, 2, "--lanes", "2")
    fleet.wait_complete()
    fleet.restart(0, how)
    fleet.wait_complete()
    if how == signal.SIGTERM:
        for agent in fleet.agents:
            agent.wait_log("the server drains: looking for others")
            assert not agent.log("link to the server lost"), "it was no surprise"


def test_servers_are_restarted_in_turn_and_no_request_fails(workshop):
    """The balancer takes an answer 503 (a server that has no agent yet) for a reason to ask the next server."""
    fleet = Fleet(workshop, 2, 2, "--lanes", "1")
    fleet.wait_complete()
    with fleet.load() as load:
        for index in (0, 1):
            time.sleep(0.3)
            fleet.restart(index)
            fleet.wait_complete()
        time.sleep(0.3)
    assert not load.bad, load.bad[:3]
    assert load.done > 100


def test_agents_are_restarted_in_turn_and_no_request_fails(workshop):
    fleet = Fleet(workshop, 2, 2, "--lanes", "2")
    fleet.wait_complete()
    with fleet.load() as load:
        for _ in range(2):
            time.sleep(0.3)
            old = fleet.agents.pop(0)
            assert old.stop() == 0
            fleet.agents.append(workshop.agent(fleet.url, {"svc": fleet.backend.url}, rings=1))
            fleet.wait_complete()
        time.sleep(0.3)
    assert not load.bad, load.bad[:3]
    assert load.done > 100


# --- The agent beside servers that do what they are told ---

@pytest.fixture
def peer():
    server = NativeServer()
    yield server
    server.close()


def spare(link, **hello):
    """The server has links enough: this one is closed with 1000."""
    link.upgrade()
    link.hello(**hello)
    with pytest.raises(Closed) as end:
        while True:
            link.recv()
    assert end.value.code == 1000
    link.close()


def test_the_lanes_of_each_server_are_counted_by_themselves(workshop, peer):
    workshop.agent(peer.url, {"svc": "http://127.0.0.1:1"})
    links = []
    for instance, lane in (("a", 0), ("b", 0), ("b", 1), ("a", 1)):
        links.append(peer.accept())
        links[-1].greet(instance=instance, lane=lane, lanes=2, peers=2)
    with pytest.raises(TimeoutError):
        peer.accept(timeout=0.5)
    links[2].cut()
    back = peer.accept()
    assert (back.field("Gimlet-Lane"), back.field("Gimlet-Server")) == ("1", "b")
    # It got to the other server: that one has no use for it, and the search goes on.
    spare(back, instance="a", lane=2, lanes=2, peers=2)
    back = peer.accept()
    assert (back.field("Gimlet-Lane"), back.field("Gimlet-Server")) == ("1", "b")
    back.greet(instance="b", lane=1, lanes=2, peers=2)
    with pytest.raises(TimeoutError):
        peer.accept(timeout=0.5)
    for link in (*links, back):
        link.close()


def test_an_odd_name_of_a_server_gets_into_no_header(workshop, peer):
    workshop.agent(peer.url, {"svc": "http://127.0.0.1:1"})
    link = peer.accept()
    link.greet(instance="x\r\nX-Evil: 1")
    link.cut()
    back = peer.accept()
    assert back.field("Gimlet-Server") is None and back.field("X-Evil") is None and back.field("Gimlet-Lane") is None
    back.greet()
    back.close()


def test_the_search_slows_down_by_itself(workshop, peer):
    """Servers that do not say how many there are: some dials in vain, then rest."""
    agent = workshop.agent(peer.url, {"svc": "http://127.0.0.1:1"}, "--connection-check-interval", "1h")
    link = peer.accept()
    link.greet(peers=0)
    count = 0
    with pytest.raises(TimeoutError):
        while count < 100:
            spare(peer.accept(timeout=PATIENCE if count < 4 else 1.5), lane=1, peers=0)
            count += 1
    assert count <= 30
    assert len([entry for entry in agent.log() if entry["level"] in LINES]) < 12
    link.close()


def test_servers_of_0_0_x_are_told_apart_by_name(workshop):
    """They say no lane and no instance; a second link is answered by an error, which is a success of the search."""
    peer, links, spares = OldServer(), {}, 0
    try:
        agent = workshop.agent(peer.url, {"svc": "http://127.0.0.1:1"}, "--connection-check-interval", "1h")
        with pytest.raises(TimeoutError):
            for name in itertools.cycle(("old-1", "old-1", "old-2")):
                link = peer.accept(timeout=1.5)
                if name in links:
                    link.refuse_duplicate(name)
                    spares += 1
                else:
                    link.greet(name)
                    links[name] = link
        assert len(links) == 2 and 6 < spares < 50
        lines = [entry for entry in agent.log() if entry["level"] in LINES]
        assert len(lines) < 14 and not [entry for entry in lines if entry["level"] in ("warn", "error")]
        links.pop("old-2").close()
        for name in itertools.cycle(("old-1", "old-2")):
            link = peer.accept()
            if name == "old-2":
                link.greet(name)
                break
            link.refuse_duplicate(name)
        links[name] = link
    finally:
        for link in links.values():
            link.close()
        peer.close()


def test_a_note_of_drain_makes_the_agent_look_for_others(workshop, peer):
    agent = workshop.agent(peer.url, {"svc": "http://127.0.0.1:1"})
    link = peer.accept()
    link.greet()
    link.send(15, 0, b'{"type":"draining"}')
    other = peer.accept(timeout=5)
    assert other.field("Gimlet-Lane") is None
    other.greet(instance="other")
    agent.wait_log("the server drains: looking for others")
    link.close(1001)
    other.close()
    assert not agent.log("link to the server lost")


def test_what_others_have_found_is_looked_for_at_once(workshop, peer):
    workshop.agent(peer.url, {"svc": "http://127.0.0.1:1"})
    link = peer.accept()
    link.greet()
    for odd in (b'{"type":"servers"}', b'{"type":"servers","at_least":"2"}', b'{"type":"servers","at_least":-2}',
                b'{"type":"servers","at_least":1}', b'{"type":"servers","at_least":1e9}', b'{"type":"servers","at_least":[2]}'):
        link.send(15, 0, odd)
    with pytest.raises(TimeoutError):
        peer.accept(timeout=0.5)
    link.send(15, 0, b'{"type":"servers","at_least":2}')
    other = peer.accept(timeout=5)
    other.greet(instance="other", peers=2)
    for each in (link, other):
        each.close()


# --- The server ---

def greeting(server, keys, *fields):
    """(socket, HELLO) of a link with these fields."""
    wire = server.wire()
    wire.send("\r\n".join(["GET /agent HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: gimlet.v1",
                           f"Authorization: Bearer {keys.agent('svc', 'mesh-agent')}", "Gimlet-Instance: mesh", *fields, "", ""]))
    assert wire.head().status == 101
    wire.exactly(1)
    size, = wire.exactly(1)
    payload = wire.exactly(int.from_bytes(wire.exactly(2), "big") if size == 126 else size)
    return wire, json.loads(payload[8:8 + int.from_bytes(payload[2:4], "little")])


def test_a_wish_for_a_lane_of_another_server_is_none(workshop, keys):
    server = workshop.server("--lanes", "2", "--peers", "3")
    held, hello = greeting(server, keys)
    assert (hello["lane"], hello["lanes"], hello["peers"]) == (0, 2, 3)
    for fields, lane in ((("Gimlet-Lane: 0", "Gimlet-Server: someone-else"), 1),
                         (("Gimlet-Lane: 0", f"Gimlet-Server: {hello['instance']}"), 0),
                         (("Gimlet-Lane: 0",), 0)):
        with (wire := greeting(server, keys, *fields))[0]:
            assert wire[1]["lane"] == lane, fields
    held.close()
