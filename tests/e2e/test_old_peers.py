"""Agents and servers of 0.0.x in the fleet: theirs with ours, ours with theirs (old_peer.py plays them)."""
import hashlib
import itertools
import json
import signal
import threading
import time
import uuid

import pytest

from lib.backend import pattern
from lib.settings import PATIENCE, wait_until
from lib.tls import client_context, world
from lib.tunnel import Server, Tunnel
from lib.wire import Truncated, chunked
from old_peer import CANCEL, DATA, END, START, Closed, OldAgent, OldServer, Pipe, frame

pytestmark = pytest.mark.plain("what 0.0.x says does not depend on TLS, and its peers here are scripted in plain text")

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(run_dir, keys):
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
        agent.text({"type": "metrics", "more": "x" * 1_000_000})
        agent.respond(ident, OK, b"hello")
        assert wire.answer().body == b"hello"
    for late in (frame(DATA, ident, b"late"), frame(START, ident, b"HTTP/1.1 502 Bad Gateway\r\n\r\n"), frame(END, ident)):
        agent.message(late)
    with fleet.send("GET", "/") as wire:
        ident, _, _ = agent.request()
        agent.respond(ident, OK, b"again")
        assert wire.answer().body == b"again"


def test_expect_is_answered_by_the_server(fleet):
    """The pipe's agent would take a backend's 100 for the answer: it is not asked for, and the client need not wait."""
    agent = fleet.agent()
    with fleet.send("PUT", "/", "Expect: 100-continue", "Content-Length: 4") as wire:
        assert wire.head().status == 100
        wire.send(b"body")
        ident, head, body = agent.request()
        assert b"xpect" not in head and body == b"body"
        agent.respond(ident, OK, b"hello")
        assert wire.answer().status == 200


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

    fleet.server.wait_agents(fleet.service)  # it is there
    assert status() == 503
    agent.text({"type": "not_ready", "state": "not_ready"})
    agent.text({"type": "ready", "state": "ready"})
    agent.heard()
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
    with fleet.send("GET", "/") as wire:
        ident, _, _ = second.request()
        second.respond(ident, OK, b"hello")
        assert wire.answer().body == b"hello"


def test_over_tls(workshop, keys):
    """What a slow reader leaves unread stays with the agent, under TLS too."""
    server = workshop.server(secure=world().server)
    agent = OldAgent(server.port, keys.agent("svc", "old"), timeout=PATIENCE, context=client_context(world().root.certificate))
    server.wait_agents("svc")
    tunnel = Tunnel(server, None, "svc")
    with tunnel.wire(receive_buffer=4096) as wire:
        wire.send(tunnel.head("GET", "/"))
        ident, _, _ = agent.request()
        feeder = threading.Thread(target=agent.respond, args=(ident, "HTTP/1.1 200 OK\r\n\r\n", *[pattern(65536)] * 100))
        feeder.start()
        wait_until(lambda: server.counter("link_pauses") > 0, "the link waits for the reader")
        assert wire.answer().body == pattern(65536) * 100
        feeder.join(PATIENCE)
    agent.close()


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
    slow.send(fleet.tunnel.head("GET", "/body?n=10000000"))
    wait_until(lambda: server.counter("link_pauses") > before, "the link waits for the reader")
    other = Fleet(server, fleet.keys)
    other.pipe(backend)
    assert other.tunnel.get("/body?n=100000").status == 200
    other.close()
    answer = slow.answer()
    assert answer.body == pattern(10_000_000)
    slow.close()
    assert fleet.tunnel.get("/body?n=1000").status == 200


@pytest.mark.slow
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


# --- Our agent, their server ---


@pytest.fixture
def old_server():
    server = OldServer(timeout=PATIENCE)
    yield server
    server.close()


@pytest.fixture
def meet(workshop, old_server, request):
    """An agent of ours that has joined: (agent, its link, its backend)."""
    def met(*flags, target=None):
        backend = workshop.backend()
        agent = workshop.agent(old_server.url, {"svc": target or backend.url}, *flags, wait=False)
        link = old_server.accept()
        assert link.field("Authorization").startswith("Bearer ")
        assert link.greet()["state"] == "ready"
        return agent, link, backend
    return met


def get(path: str, *fields: str, method: str = "GET") -> str:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: test.example", *fields, "", ""])


def test_our_agent_serves_an_old_server(meet):
    _, link, backend = meet()
    link.start("1", get("/echo?x", "X-B: 2", "Connection: keep-alive", "Expect: 100-continue"))
    head, body, error = link.answer("1")
    assert head.startswith("HTTP/1.1 200 OK\r\n") and head.endswith("\r\n\r\n") and error == ""
    assert f"content-length: {len(body)}\r\n" in head.lower() and "transfer-encoding" not in head.lower()
    seen = backend.last()
    assert (seen.target, seen.get("Host"), seen.get("X-B"), seen.coding) == ("/echo?x", "test.example", "2", "none")
    assert not {"expect", "connection"} & {*seen.names}
    link.start("2", get("/echo/caf\xc3\xa9 au lait?x"))  # a client's path, decoded on its way
    assert link.answer("2")[0].startswith("HTTP/1.1 ") and backend.last().target == "/echo/caf%C3%A9%20au%20lait?x"
    ident = str(uuid.uuid4())
    link.start(ident, get("/chunks?n=3"), end=True)
    head, body, error = link.answer(ident)
    assert "content-length" not in head.lower() and "transfer-encoding" not in head.lower() and body and error == ""


def test_bodies_for_our_agent(meet):
    """Counted, and stripped of their chunks as a 0.0.x server strips them; HEAD; and many at a time."""
    _, link, backend = meet()
    link.start("1", get("/echo", "Content-Length: 70000", method="POST"), pattern(65536), pattern(70000)[65536:])
    assert json.loads(link.answer("1")[1])["sha256"] == hashlib.sha256(pattern(70000)).hexdigest()
    link.start("2", get("/echo", method="POST"), b"one", b"two")
    assert json.loads(link.answer("2")[1])["length"] == 6 and backend.last().coding == "chunked"
    link.start("3", get("/body?n=100000", method="HEAD"))
    head, body, error = link.answer("3")
    assert "content-length: 100000\r\n" in head.lower() and body == b"" and error == ""
    for n in range(20):
        link.start(f"many-{n}", get(f"/body?n={n * 1000}"))
    sizes = {}
    ended = set()
    while len(ended) < 20:
        kind, ident, payload = link.next_frame()
        if kind == DATA:
            sizes[ident] = sizes.get(ident, 0) + len(payload)
        elif kind == END:
            ended.add(ident)
            link.message(frame(CANCEL, ident))
    assert sizes == {f"many-{n}": n * 1000 for n in range(1, 20)}


def test_errors_of_our_agent(meet):
    agent, link, backend = meet("--max-concurrent-requests", "1")
    link.start("1", get("/hang"))
    backend.wait_seen()
    link.start("2", get("/"))
    head, body, error = link.answer("2")
    assert head.startswith("HTTP/1.1 429 ") and body == b"Agent concurrent request limit reached (1)" and error == ""
    link.message(frame(CANCEL, "1"))
    assert backend.last().gone.wait(PATIENCE)
    for junk in (b"\x01\xff\xff\xff\xfb", b"\x02", frame(9, "1"), frame(DATA, "no", b"x"), frame(CANCEL, "no")):
        link.message(junk)
    link.text({"type": "token_expired", "message": "soon"})
    link.start("3", get("/a\x01b"))
    assert link.answer("3")[0].startswith("HTTP/1.1 400 ")
    link.start("4", get("/", "Connection: Upgrade", "Upgrade: websocket"))
    assert link.answer("4")[0].startswith("HTTP/1.1 501 ")
    link.start("5", get("/cut?coding=length"))
    head, body, error = link.answer("5")
    assert error != ""
    backend.close()
    link.start("6", get("/"))
    head, body, error = link.answer("6")
    assert head is None and "backend" in error
    agent.check_alive()


def test_our_agent_drains(meet):
    agent, link, backend = meet()
    link.start("1", get("/slow?s=1"))
    backend.wait_seen()
    agent.signal(signal.SIGTERM)
    assert link.next_text_of("draining")["state"] == "draining"
    link.start("2", get("/echo"))  # was on its way
    answers = {}
    while len(answers) < 2:
        kind, ident, payload = link.next_frame()
        if kind == END:
            answers[ident] = payload
            link.message(frame(CANCEL, ident))
    assert answers == {"1": b"", "2": b""}
    assert agent.wait() == 0


def test_a_duplicate_is_no_error(workshop, old_server):
    backend = workshop.backend()
    agent = workshop.agent(old_server.url, {"svc": backend.url}, wait=False)
    old_server.accept().refuse_duplicate()
    link = old_server.accept()
    link.greet()
    link.start("1", get("/echo"))
    assert link.answer("1")[0].startswith("HTTP/1.1 200 ")
    assert not [line for line in agent.log() if line.get("level") in ("warn", "error")]


def test_both_ways_at_once_through_our_agent(meet):
    """A 0.0.x server reads nothing while one request is behind; ours reads on."""
    _, link, _ = meet()
    size = 16 << 20

    def upload():
        link.start("1", get("/duplex", f"Content-Length: {size}", method="POST"), *[pattern(65536)] * (size >> 16))

    thread = threading.Thread(target=upload, daemon=True)
    thread.start()
    head, body, error = link.answer("1", cancel=False)
    thread.join(PATIENCE)
    assert len(body) == size and error == ""
