"""Agents and servers of 0.0.x in the fleet: theirs with ours, ours with theirs (old_peer.py plays them)."""
import hashlib
import itertools
import json
import threading
import time
import uuid

import pytest

from lib.backend import pattern
from lib.settings import PATIENCE, wait_until
from lib.tunnel import Tunnel
from lib.wire import Truncated, chunked
from old_peer import CANCEL, DATA, END, START, Closed, OldAgent, OldServer, Pipe, frame

pytestmark = pytest.mark.plain("what 0.0.x says does not depend on TLS, and its peers here are scripted in plain text")

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(run_dir, keys):
    from lib.tunnel import Server
    server = Server(run_dir, keys)
    yield server
    assert server.stop() == 0


class Fleet:
    """A service of its own on the module's server, and what serves it."""

    def __init__(self, server, keys):
        self.server, self.keys = server, keys
        self.service = f"old-{next(_numbers)}"
        self.tunnel = Tunnel(server, None, self.service)
        self.agents, self.pipes = [], []

    def token(self, subject=None) -> str:
        return self.keys.agent(self.service, subject or self.service)

    def agent(self, subject=None, wait=True, **options) -> OldAgent:
        before = self.server.health()["agents"].get(self.service, 0)
        agent = OldAgent(self.server.port, self.token(subject), timeout=PATIENCE, **options)
        self.agents.append(agent)
        if wait and "error" not in agent.hello and options.get("ready", True):
            self.server.wait_agents(self.service, before + 1)
        return agent

    def pipe(self, backend, **options) -> Pipe:
        pipe = Pipe(self.agent(**options), backend.port)
        self.pipes.append(pipe)
        return pipe

    def send(self, method, rest, *fields, body=b""):
        """A request on its way: the wire that its answer comes by."""
        wire = self.tunnel.wire()
        return wire.send(self.tunnel.head(method, rest, *fields) + body)

    def close(self):
        for pipe in self.pipes:
            pipe.stop()
        for agent in self.agents:
            agent.close()
        wait_until(lambda: not self.server.health()["agents"].get(self.service), "the agents have gone")
        self.server.check_alive()
        self.server.check_sanitizers()


@pytest.fixture
def fleet(server, keys, request):
    request.node.processes = [server]
    fleet = Fleet(server, keys)
    yield fleet
    fleet.close()


OK = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\n"


# --- Their agents, our server: byte by byte ---


def test_an_old_agent_joins(fleet):
    agent = fleet.agent()
    assert agent.hello.keys() >= {"server_id", "agent_id", "service_name"} and "type" not in agent.hello
    assert (agent.hello["agent_id"], agent.hello["service_name"]) == (fleet.service, fleet.service)
    assert agent.hello["server_id"] == fleet.server.health()["server_id"]
    assert "Sec-WebSocket-Protocol" not in agent.answer and "Extensions" not in agent.answer


def test_a_request_as_its_backend_gets_it(fleet):
    agent = fleet.agent()
    with fleet.send("GET", "/a%2Fb//c?x=%20y", "X-Request-ID: r-1", "Expect: 100-continue", "TE: trailers",
                    "Connection: keep-alive, X-Hop", "X-Hop: 1", "Accept: */*") as wire:
        ident, head, body = agent.request()
        assert uuid.UUID(ident).version == 4 and len(ident) == 36 and body == b""
        lines = head.decode().split("\r\n")
        assert lines[:2] == ["GET /a%2Fb//c?x=%20y HTTP/1.1", "Host: test.example"] and lines[-2:] == ["", ""]
        names = {line.partition(":")[0].lower() for line in lines[1:-2]}
        assert {"accept", "x-request-id", "x-forwarded-for"} <= names
        assert not names & {"authorization", "expect", "te", "x-hop", "transfer-encoding", "content-length"}
        assert [line for line in lines if line.lower().startswith("connection:")] == ["Connection: close"]
        agent.respond(ident, OK, b"he", b"llo")
        answer = wire.answer()
        assert (answer.status, answer.body, answer.get("Content-Type")) == (200, b"hello", "text/plain")
    assert agent.until(CANCEL, ident) == b""  # as a 0.0.x server ends every request


def test_fragments_and_pieces(fleet):
    """Messages come in fragments of 4096, or of three bytes, a header across two of them."""
    agent = fleet.agent()
    big = pattern(60_000)
    with fleet.send("GET", "/") as wire:
        ident, _, _ = agent.request()
        fields = "".join(f"X-Field-{n}: {'v' * 900}\r\n" for n in range(20))
        agent.message(frame(START, ident, f"HTTP/1.1 200 OK\r\n{fields}\r\n".encode()))
        agent.message(frame(DATA, ident, big))
        agent.message(frame(DATA, ident, big[:1000]), fragment=3)
        agent.message(frame(END, ident), fragment=1)
        answer = wire.answer()
        assert answer.body == big + big[:1000] and answer.get("X-Field-19") == "v" * 900


def test_frames_that_mean_nothing(fleet):
    """Among them the five bytes that ended a 0.0.x server, and frames of requests that nobody knows."""
    agent = fleet.agent()
    with fleet.send("GET", "/") as wire:
        ident, _, _ = agent.request()
        for junk in (b"\x02\xff\xff\xff\xff", b"\x02\xff\xff\xff\xfb", b"", b"\x01", b"\x02\x00\x00\x00\x24short",
                     frame(9, ident, b"what"), frame(CANCEL, ident), frame(DATA, ident, b"before the head"),
                     frame(DATA, str(uuid.uuid4()), b"x"), frame(START, "", b"HTTP/1.1 200 OK\r\n\r\n"), frame(END, "x" * 300)):
            agent.message(junk)
        agent.text("no JSON")
        agent.text({"no": "type"})
        agent.text({"type": "metrics", "frames_sent": {"data": 1}}, fragment=2)
        agent.respond(ident, OK, b"hello")
        assert wire.answer().body == b"hello"
    for late in (frame(DATA, ident, b"late"), frame(START, ident, b"HTTP/1.1 502 Bad Gateway\r\n\r\n"), frame(END, ident)):
        agent.message(late)
    with fleet.send("GET", "/") as wire:
        ident, _, _ = agent.request()
        agent.respond(ident, OK, b"again")
        assert wire.answer().body == b"again"


def test_a_chunked_upload_is_framed_for_the_pipe(fleet):
    agent = fleet.agent()
    with fleet.send("POST", "/up", "Transfer-Encoding: chunked", "Trailer: X-Sum",
                    body=chunked(b"one", b"two", trailers=b"X-Sum: 6\r\n")) as wire:
        ident, head, body = agent.request()
        assert b"\r\nTransfer-Encoding: chunked\r\n" in head and b"Content-Length" not in head
        assert body.endswith(b"0\r\nX-Sum: 6\r\n\r\n")
        data, rest = b"", body
        while (size := int(rest.split(b"\r\n", 1)[0], 16)) > 0:
            rest = rest.split(b"\r\n", 1)[1]
            data, rest = data + rest[:size], rest[size + 2:]
        assert data == b"onetwo"
        agent.respond(ident, OK, b"hello")
        assert wire.answer().status == 200


def test_a_cut_body_shows(fleet):
    agent = fleet.agent()
    with fleet.send("GET", "/") as wire:
        ident, _, _ = agent.request()
        agent.respond(ident, "HTTP/1.1 200 OK\r\n\r\n", b"half", error=b"Backend error: unexpected EOF")
        with pytest.raises(Truncated):
            wire.answer()
    with fleet.send("POST", "/", "Content-Length: 0") as wire:
        ident, _, _ = agent.request()
        agent.message(frame(END, ident, b"no backend"))
        assert wire.answer().status == 502


@pytest.mark.parametrize("head", ["HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n", "nonsense\r\n\r\n", "HTTP/1.1 200 OK\r\n",
                                  "HTTP/1.1 101 Switching Protocols\r\n\r\n", "HTTP/1.1 103 Early Hints\r\n\r\n"])
def test_a_head_that_is_none(fleet, head):
    agent = fleet.agent()
    with fleet.send("POST", "/", "Content-Length: 0") as wire:
        ident, _, _ = agent.request()
        agent.respond(ident, head)
        assert wire.answer().status == 502


def test_a_client_that_leaves_is_a_cancel(fleet):
    agent = fleet.agent()
    wire = fleet.send("GET", "/")
    ident, _, _ = agent.request()
    wire.close()
    assert agent.until(CANCEL, ident) == b""


def test_an_upgrade_is_refused_with_a_reason(fleet):
    fleet.agent()
    with fleet.send("GET", "/", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==") as wire:
        answer = wire.answer()
        assert (answer.status, answer.error) == (501, "not_implemented")


def test_a_lost_agent_ends_its_requests(fleet):
    agent = fleet.agent()
    with fleet.send("POST", "/", "Content-Length: 0") as wire:
        agent.request()
        agent.cut()
        answer = wire.answer()
        assert (answer.status, answer.error) == (502, "agent_disconnect")


# --- Their agents, our server: life ---


def test_ready_and_draining(fleet):
    agent = fleet.agent(ready=False)

    def status():
        with fleet.send("GET", "/") as wire:
            return wire.answer().status

    assert status() == 503
    agent.text({"type": "ready", "state": "ready"})
    fleet.server.wait_agents(fleet.service)
    wire = fleet.send("GET", "/")
    ident, _, _ = agent.request()
    agent.text({"type": "draining", "state": "draining"})
    agent.heard()
    assert status() == 503
    agent.respond(ident, OK, b"hello")
    assert wire.answer().body == b"hello"
    assert agent.until(CANCEL, ident) == b""
    agent.text({"type": "ready", "state": "ready"})
    agent.heard()
    wire.send(fleet.tunnel.head("GET", "/"))
    agent.respond(agent.request()[0], OK, b"again")
    assert wire.answer().body == b"again"
    wire.close()


def test_a_duplicate_is_refused_while_the_first_lives(fleet):
    first = fleet.agent()
    thread = Pipe(first, 1)  # answers the ping that asks for a sign of life
    second = fleet.agent()
    assert "cannot create multiple connections" in second.hello["error"].lower()
    assert second.hello["server_id"] == fleet.server.health()["server_id"] and second.hello["hint"]
    with pytest.raises(Closed) as end:
        second.receive()
    assert end.value.code is None  # TCP alone is closed
    assert fleet.agent(subject=f"{fleet.service}-other").hello["agent_id"] == f"{fleet.service}-other"
    thread.stop()


def test_a_silent_one_is_replaced(fleet):
    first = fleet.agent()
    first.answers_pings = False
    began = time.monotonic()
    second = fleet.agent(wait=False)
    assert "error" not in second.hello and time.monotonic() - began < 10
    second.heard()
    with fleet.send("GET", "/") as wire:
        ident, _, _ = second.request()
        second.respond(ident, OK, b"hello")
        assert wire.answer().body == b"hello"


# --- Their agents with a backend behind them ---


def test_through_the_pipe(fleet, workshop):
    backend = workshop.backend()
    fleet.pipe(backend)
    assert json.loads(fleet.tunnel.get("/echo").body)["length"] == 0
    head = fleet.tunnel.ask("HEAD", "/body?n=100000")
    assert (head.status, head.get("Content-Length")) == (200, "100000")
    for size in (1, 16_385, 3_000_000):
        seen = json.loads(fleet.tunnel.ask("POST", "/echo", body=pattern(size)).body)
        assert (seen["length"], seen["sha256"]) == (size, hashlib.sha256(pattern(size)).hexdigest())
    with fleet.send("POST", "/echo", "Transfer-Encoding: chunked", body=chunked(pattern(40_000), b"x")) as wire:
        assert json.loads(wire.answer().body)["length"] == 40_001
    assert backend.last().coding == "chunked"
    assert fleet.tunnel.get("/status?code=204").status == 204
    assert fleet.tunnel.get("/body?n=3000000").body == pattern(3_000_000)


def test_a_slow_reader_pauses_its_link_and_no_other(fleet, workshop, server):
    backend = workshop.backend()
    fleet.pipe(backend)
    before = server.counter("link_pauses")
    slow = fleet.tunnel.wire(receive_buffer=4096)
    slow.send(fleet.tunnel.head("GET", "/body?n=30000000"))
    wait_until(lambda: server.counter("link_pauses") > before, "the link waits for the reader")
    other = Fleet(server, fleet.keys)
    other.pipe(backend)
    assert other.tunnel.get("/body?n=100000").status == 200
    other.close()
    answer = slow.answer()
    assert answer.body == pattern(30_000_000)
    slow.close()
    assert fleet.tunnel.get("/body?n=1000").status == 200


def test_an_echo_of_megabytes_does_not_lock_the_link(fleet, workshop):
    """Both directions at once, far beyond every queue on the way; then the link serves on."""
    backend = workshop.backend()
    fleet.pipe(backend)
    size = 64 << 20
    wire = fleet.tunnel.wire()
    wire.send(fleet.tunnel.head("POST", "/duplex", f"Content-Length: {size}"))

    def upload():
        piece = pattern(1 << 20)
        for _ in range(size >> 20):
            wire.send(piece)

    thread = threading.Thread(target=upload, daemon=True)
    thread.start()
    answer = wire.answer()
    thread.join(PATIENCE)
    assert len(answer.body) == size
    wire.close()
    assert fleet.tunnel.get("/body?n=1000").status == 200
