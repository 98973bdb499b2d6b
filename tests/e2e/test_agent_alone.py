"""The agent beside a server that does only what it is told: the protocol's corners that a real server never shows."""
import signal
import struct
import time

import pytest

from lib.backend import pattern
from lib.settings import PATIENCE, wait_until
from peers.native_server import (BODY, CREDIT, DATA, DRAIN, DRAIN_ACK, END, END_STREAM, HEAD, OPEN, RESET, STOP, TE_TRAILERS, UPGRADE,
                                 Closed, Link, NativeServer, request)

MIB = 1 << 20


@pytest.fixture
def peer():
    server = NativeServer()
    yield server
    server.close()


@pytest.fixture
def linked(workshop, peer):
    """(agent, link, backend): one link that is up."""
    backend = workshop.backend()
    agent = workshop.agent(peer.url, {"svc": backend.url})
    link = peer.accept()
    link.greet()
    yield agent, link, backend
    link.sock.close()


def again(link, stream=0x00010001):
    """The link still serves."""
    link.open(stream, request(target="/body?n=10"))
    assert link.answer(stream)[1] == pattern(10)


# --- Greeting, lanes, dialling ---

def test_the_request_for_a_link(workshop, peer):
    agent = workshop.agent(peer.url, {"svc": "http://127.0.0.1:1"})
    link = peer.accept()
    assert link.head.startswith("GET /agent HTTP/1.1\r\n")
    assert link.field("Authorization") == "Bearer " + agent.token_files["svc"].read_text().strip()
    assert link.field("Sec-WebSocket-Protocol") == "gimlet.v1" and link.field("Gimlet-Lane") is None
    assert len(link.instance) == 32
    ready = link.greet()
    assert ready["instance"] == link.instance and ready["window"] == 65536


def test_lanes_are_filled_in_order_and_the_surplus_is_closed(workshop, peer):
    workshop.agent(peer.url, {"svc": "http://127.0.0.1:1"}, rings=2)
    links = []
    for lane in range(3):
        links.append(peer.accept())
        links[-1].greet(lane=lane, lanes=3)
    assert {link.instance for link in links} == {links[0].instance}
    with pytest.raises(TimeoutError):
        peer.accept(timeout=0.5)
    links[1].cut()
    back = peer.accept()
    assert back.field("Gimlet-Lane") == "1"
    back.upgrade()
    back.hello(lane=3, lanes=3)
    with pytest.raises(Closed) as end:
        while True:
            back.recv()
    assert end.value.code == 1000


def test_a_token_file_is_read_at_each_dial(workshop, peer):
    agent = workshop.agent(peer.url, {"svc": "http://127.0.0.1:1"})
    peer.accept().cut()
    agent.token_files["svc"].write_text("  fresh.token.here\n\n")

    def fresh():
        link = peer.accept()
        link.cut()
        return link.field("Authorization") == "Bearer fresh.token.here"
    wait_until(fresh, "the new token is used")


def test_a_refusal_is_logged_with_the_servers_words(workshop, peer):
    agent = workshop.agent(peer.url, {"svc": "http://127.0.0.1:1"})
    peer.accept().refuse("401 Unauthorized", "Token expired")
    line = agent.wait_log("the server refused the link")
    assert "Token expired" in str(line) and "401" in str(line)
    peer.accept().greet()


def test_drain_brings_a_replacement_at_once(linked, peer):
    _, link, backend = linked
    link.open(1, request(target="/sse?n=1000&every=0.05"))
    link.until(HEAD, 1)
    link.send(DRAIN, 0)
    link.until(DRAIN_ACK)
    new = peer.accept()
    assert new.field("Gimlet-Lane") is None, "the lane is still in use"
    new.greet(lane=0, lanes=1, instance="server-2")
    again(new, 1)
    link.until(DATA, 1)
    assert not backend.seen[0].gone.is_set()


@pytest.mark.parametrize("what", [
    lambda link: link.message(b"text", opcode=1),
    lambda link: link.message(b"\x00" * 8),
    lambda link: link.send(HEAD, 1, b""),
    lambda link: link.send(DATA, 1, b"never opened"),
    lambda link: link.open(0x00010001, request()),
    lambda link: link.message(struct.pack("<BBHI", DATA, 0, 16385, 1)),
], ids=["text", "type 0", "a head", "never opened", "a wrong generation", "too long"])
def test_a_server_that_breaks_the_protocol_is_left(linked, peer, what):
    _, link, _ = linked
    what(link)
    with pytest.raises(Closed) as end:
        while True:
            link.recv()
    assert end.value.code in (1002, 1003)
    peer.accept().greet()


# --- Streams ---

def test_frames_in_single_bytes(linked):
    _, link, _ = linked
    for stream in (1, 0x00010001):
        block = struct.pack("<I", 65536) + request("POST", "/echo", length=3, flags=BODY)
        data = Link.frame(OPEN, stream, block) + Link.frame(DATA, stream, b"abc", END_STREAM)
        for i in range(len(data)):
            link.message(data[i:i + 1])
        head, body, _ = link.answer(stream)
        assert head.status == 200 and b'"length": 3' in body


def test_the_head_is_written_as_the_block_says(linked):
    _, link, backend = linked
    link.open(1, request("PROPFIND", "//a/%2e%2e/x?y", "h.example:81", [("X-Y", "z"), ("x-y", "\xe9")], flags=TE_TRAILERS))
    link.answer(1)
    assert backend.last().head == (b"PROPFIND //a/%2e%2e/x?y HTTP/1.1\r\nHost: h.example:81\r\nX-Y: z\r\nx-y: \xe9\r\n"
                                   b"TE: trailers\r\nConnection: TE\r\n\r\n")


def test_credit_is_never_exceeded(linked):
    _, link, _ = linked
    link.open(1, request(target=f"/body?n={MIB}"), window=5000)
    link.until(HEAD, 1)
    got = 0
    for credit in (5000, 1, 99999):
        while got < credit:
            got += len(link.until(DATA, 1)[3])
        assert got == credit
        link.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            link.until(DATA, 1)
        link.sock.settimeout(30)
        got = 0
        link.credit(1, {5000: 1, 1: 99999, 99999: 2 * MIB}[credit])
    link.answer(1)


def test_a_window_is_granted_as_the_backend_drains(linked):
    _, link, _ = linked
    link.open(1, request("POST", "/echo", length=MIB, flags=BODY), end=False)
    room, sent = 65536, 0
    while sent < MIB:
        step = min(room, MIB - sent)
        link.data(1, bytes(step))
        sent, room = sent + step, room - step
        if sent < MIB and room == 0:
            room += int.from_bytes(link.until(CREDIT, 1)[3], "little")
    link.send(END, 1)
    assert b'"length": %d' % MIB in link.answer(1)[1]


def test_more_than_the_window_resets_that_stream_alone(linked):
    _, link, _ = linked
    link.open(1, request("POST", "/never-read", length=64 * MIB, flags=BODY), end=False)
    link.data(1, bytes(65536))
    link.open(2, request(target="/sse?n=3&every=0.2"))
    # More than the kernel takes on the way to a backend that does not read: until then credit is granted again.
    link.data(1, bytes(32 * MIB))
    assert link.answer(1) == ("flow_control", False)
    link.send(END, 1)
    again(link, 3)


@pytest.mark.parametrize("length,data", [(3, b"abcd"), (5, b"abcd")], ids=["longer", "shorter"])
def test_a_body_that_breaks_its_word_is_a_protocol_error(linked, length, data):
    _, link, backend = linked
    link.open(1, request("POST", "/echo", length=length, flags=BODY), end=False)
    link.data(1, data)
    link.send(END, 1)
    assert link.answer(1) == ("protocol_error", False)
    again(link, 2)
    assert all(seen.head.startswith(b"GET") or seen.gone.wait(PATIENCE) for seen in backend.seen), "the connection is not used again"


def test_a_bad_block_is_refused_and_the_link_stays(linked):
    _, link, _ = linked
    link.open(1, request(pairs=[("Connection", "close")]))
    assert link.answer(1) == ("protocol_error", True)
    link.open(2, b"\x09" + request()[1:])
    assert link.answer(2) == ("not_implemented", True)
    link.open(3, request("CONNECT", "h:1"))
    assert link.answer(3) == ("not_implemented", True)
    again(link, 4)


def test_the_limit_of_the_process(workshop, peer):
    backend = workshop.backend()
    agent = workshop.agent(peer.url, {"svc": backend.url}, "--max-concurrent-requests", "2")
    link = peer.accept()
    link.greet()
    for stream in (1, 2):
        link.open(stream, request(target="/hang"))
    backend.wait_seen(2)
    link.open(3, request())
    assert link.answer(3) == ("agent_limit", True)
    link.send(STOP, 1, struct.pack("<H", 1))
    link.until(END, 1)
    link.open(4, request(target="/body?n=1"))
    assert link.answer(4)[0].status == 200
    assert agent.is_alive


def test_a_backend_that_is_not_there_is_untouched(workshop, peer):
    workshop.agent(peer.url, {"svc": "http://127.0.0.1:1"})
    link = peer.accept()
    link.greet()
    link.open(1, request())
    assert link.answer(1) == ("backend_connect", True)
    link.open(2, request("POST", length=4, flags=BODY), end=False)
    assert link.answer(2) == ("backend_connect", True)


def test_reset_ends_the_backends_work_at_once(linked):
    _, link, backend = linked
    link.open(1, request(target="/sse?n=1000&every=0.05"), end=False)
    link.until(DATA, 1)
    since = time.monotonic()
    link.reset(1)
    link.until(RESET, 1)
    assert backend.seen[0].gone.wait(PATIENCE) and time.monotonic() - since < 5, "the stream goes on for 50 seconds"
    again(link)


def test_stop_ends_the_backends_work_without_a_head(linked):
    _, link, backend = linked
    link.open(1, request(target="/hang"))
    seen = backend.wait_seen()
    link.send(STOP, 1, struct.pack("<H", 1))
    assert link.until(END, 1)[2] == 1
    assert seen.gone.wait(PATIENCE)
    again(link)


def test_an_early_answer_stops_the_body(linked):
    _, link, _ = linked
    link.open(1, request("POST", "/early", length=10 * MIB, flags=BODY), end=False)
    head = None
    stopped = ended = False
    while not (stopped and ended):
        kind, flags, stream, payload = link.recv()
        assert stream == 1 and kind != RESET
        stopped |= kind == STOP
        ended |= kind == END or bool(flags & END_STREAM)
        head = payload if kind == HEAD else head
    assert head[2:4] == struct.pack("<H", 413)
    link.send(END, 1)
    again(link)


def test_an_upgrade_that_was_not_asked_for(workshop, peer):
    async def script(peer_, *_):
        await peer_.head()
        await peer_.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nraw")
    backend = workshop.backend(script)
    workshop.agent(peer.url, {"svc": backend.url})
    link = peer.accept()
    link.greet()
    link.open(1, request())
    assert link.answer(1) == ("backend_protocol", False)
    link.open(2, request(pairs=[("Upgrade", "x")], flags=UPGRADE), end=False)
    assert link.until(HEAD, 2)[3][2:4] == struct.pack("<H", 101)
    assert link.until(DATA, 2)[3] == b"raw"


# --- Drain ---

def test_its_own_drain(linked):
    agent, link, _ = linked
    link.open(1, request(target="/slow?wait=1"))
    link.open(2, request(target="/sse?n=10&every=0.1"))
    link.until(HEAD, 2)
    agent.signal(signal.SIGTERM)
    link.until(DRAIN)
    link.open(3, request(target="/body?n=5"))
    assert link.answer(3)[1] == pattern(5), "an open that was on its way is served"
    link.send(DRAIN_ACK, 0)
    with pytest.raises(Closed) as end:
        while True:
            link.recv()
    assert end.value.code == 1001
    link.close(1001)
    assert agent.wait() == 0


def test_its_deadline(workshop, peer):
    backend = workshop.backend()
    agent = workshop.agent(peer.url, {"svc": backend.url}, "--shutdown-timeout", "500ms")
    link = peer.accept()
    link.greet()
    link.open(1, request(target="/hang"))
    backend.wait_seen()
    agent.signal(signal.SIGTERM)
    link.until(DRAIN)
    link.send(DRAIN_ACK, 0)
    assert link.answer(1) == ("draining", False)
    with pytest.raises(Closed):
        while True:
            link.recv()
    link.close(1001)
    assert agent.wait() == 0
