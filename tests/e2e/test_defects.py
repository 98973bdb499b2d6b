"""The defects of version 0.0.6 (spec/gimlet.md 8.1), each provoked as it was found there, where no other file does so:

 1 storms of disconnects    here, for agents of 0.0.x; test_streaming (a_storm_of_disconnects)
 2 overflowing lengths      here, for native agents; test_old_peers (frames_that_mean_nothing, errors_of_our_agent)
 3 both directions at once  here, unread; test_streaming, test_bulk (full_duplex_echo), test_old_peers (an_echo_of_megabytes)
 4 one slow reader          test_streaming (slow readers), test_old_peers (a_slow_reader_pauses_its_link_and_no_other)
 5 silent truncation        test_failures, test_streaming (dies_in_its_body), test_timeouts, test_old_peers (a_cut_body_shows)
 6 smuggling by escapes     here, for peers of 0.0.x; test_smuggling, test_requests (paths), test_errors (a service name)
 7 token leaks              here, for servers of 0.0.x; test_fields (the_gateways_token), test_old_peers
 8 HEAD, chunks, 1xx        test_requests, test_websocket, test_peers (curl posts), test_old_peers
 9 frozen peers             here, for agents of 0.0.x; test_failures (frozen), test_old_peers (a_silent_one_is_replaced)
10 mesh in lockstep         test_mesh
11 drain                    here, under a wedged link; test_lifecycle, test_keys (files_are_read_again)
12 tokens and limits        here; test_cli (a_folder_of_keys), test_errors, test_metrics (names_of_strangers), test_timeouts
13 small lies               here; test_requests (paths), test_fields, test_metrics, test_errors, test_surface
14 silent defaults          test_old_names, test_cli
"""
import random
import signal
import struct
import threading
import time

import pytest
import requests

from lib.prometheus import Page
from lib.settings import PATIENCE, TLS, free_port, wait_until
from old_peer import DATA, END, START, Closed, WebSocket, frame
from test_agent_ports import page
from test_old_peers import OK, Fleet, fleet, get, meet, old_server, server  # noqa: F401 (fixtures)
from test_requests import PATHS

PLAIN = pytest.mark.plain("what 0.0.x says does not depend on TLS, and its peers here are scripted in plain text")
MIB = 1 << 20


def push_until_it_stands(sock, data: bytes) -> int:
    """Sends as long as anybody takes it; the bytes that went."""
    sent, quiet, before = 0, time.monotonic(), sock.gettimeout()
    sock.settimeout(0)
    while time.monotonic() - quiet < 0.5:
        try:
            sent += sock.send(data[sent % len(data):])
            quiet = time.monotonic()
        except BlockingIOError:
            time.sleep(0.01)
        assert sent < 256 * MIB, "what nobody reads is taken without end"
    sock.settimeout(before)
    return sent


# --- 1 storms of disconnects ---

@PLAIN
def test_a_storm_of_disconnects_at_an_agent_of_0_0_x(fleet, workshop):
    """Clients begin a streaming answer and hang up, while the agent goes on sending what nobody wants any more."""
    pipe = fleet.pipe(workshop.backend())
    deadline, count = time.monotonic() + 1.5, [0] * 12

    def storm(index):
        chance = random.Random(index)
        while time.monotonic() < deadline:
            wire = fleet.send("GET", chance.choice(["/sse?n=100000&every=0.001", "/chunks?n=300000", "/body?n=300000&step=5000"]))
            if chance.random() < 0.7:
                wire.some()
            wire.reset() if chance.random() < 0.5 else wire.close()
            count[index] += 1
    threads = [threading.Thread(target=storm, args=(index,)) for index in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert min(count) > 0, count
    wait_until(lambda: not pipe.requests, "the agent has been told to give up each of them")
    assert fleet.server.health()["agents"][fleet.service] == 1, "the link has survived"
    wait_until(lambda: fleet.tunnel.get("/body?n=100").status == 200, "it serves", PATIENCE, 0.1)


# --- 2 overflowing lengths ---

@PLAIN
@pytest.mark.parametrize("junk", [
    b"\x82\xff" + b"\xff" * 8, b"\x82\xff" + struct.pack(">Q", 1 << 63), b"\x82\xff" + struct.pack(">Q", (1 << 63) - 1) + bytes(20),
    b"\x89\xfe\xff\xff", b"\x82\x05hello", b"\xc2\x80" + bytes(4),
    (15, 0, 0xffff, 0), (15, 0, 16385, 0), (200, 0, 16385, 0), (5, 0, 0xffff, 0xffffffff), (10, 0, 3, 0)], ids=repr)
def test_lengths_that_no_frame_has_end_their_link_alone(tunnel, keys, junk):
    """A WebSocket's, or a frame's: (type, flags, length, stream). A NOTE (15) and an unknown type have nothing else amiss."""
    with tunnel.wire() as wire:
        wire.send("\r\n".join(["GET /agent HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade",
                               "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                               "Sec-WebSocket-Protocol: gimlet.v1", f"Authorization: Bearer {keys.agent('junk', 'junk')}",
                               "Gimlet-Instance: junk", "", ""]))
        assert wire.head().status == 101
        link = WebSocket(wire.socket, client=True)
        link.buffer += wire.buffer
        link.receive()  # HELLO
        ready = b'{"instance":"junk"}'
        link.message(struct.pack("<BBHI", 2, 0, len(ready), 0) + ready)
        tunnel.server.wait_agents("junk")
        since = time.monotonic()
        if isinstance(junk, bytes):
            wire.send(junk)
        else:
            kind, flags, length, stream = junk
            link.message(struct.pack("<BBHI", kind, flags, length, stream) + bytes(length))
        try:
            while True:
                link.receive()
        except Closed as end:
            assert end.code in (1002, 1009, None), end
        except ConnectionResetError:
            pass
        assert time.monotonic() - since < 12, "it has only been silent for too long"
    tunnel.check()
    tunnel.server.wait_agents("junk", 0)
    assert tunnel.get("/body?n=10").status == 200


# --- 3 both directions at once, and 11: drain beside it ---

def test_an_echo_that_its_client_does_not_read_holds_up_nobody(workshop):
    """What wedged the agent of 0.0.6 for good, SIGTERM included: everything on the way is full, both ways."""
    tunnel = workshop.tunnel(agent_flags=("--shutdown-timeout", "1s"))
    chunk = b"%x\r\n%s\r\n" % (MIB, bytes(MIB))
    wires = [tunnel.wire(receive_buffer=4096) for _ in range(2)]
    for wire in wires:
        wire.send(tunnel.head("POST", "/duplex", "Transfer-Encoding: chunked"))
        assert push_until_it_stands(wire.socket, chunk) < 64 * MIB
    assert tunnel.get("/body?n=100000").status == 200
    gone, stays = tunnel.backend.seen[:2]
    wires[0].close()
    assert gone.gone.wait(5), "the backend's work goes on without its client"
    assert not stays.gone.is_set()
    since = time.monotonic()
    assert tunnel.agent.stop(10) == 0
    assert time.monotonic() - since < 5, "the other one delays the agent's end beyond its time"
    wires[1].close()
    tunnel.server.wait_idle()


@PLAIN
def test_an_echo_that_its_client_does_not_read_at_an_agent_of_0_0_x(fleet, workshop):
    """Its link knows no credit and stands still meanwhile. It must run again when the client has gone."""
    backend = workshop.backend()
    fleet.pipe(backend)
    with fleet.tunnel.wire(receive_buffer=4096) as wire:
        wire.send(fleet.tunnel.head("POST", "/duplex", "Transfer-Encoding: chunked"))
        push_until_it_stands(wire.socket, b"%x\r\n%s\r\n" % (MIB, bytes(MIB)))
        seen = backend.wait_seen()
    assert seen.gone.wait(5)
    assert fleet.tunnel.get("/body?n=100000").status == 200


@PLAIN
def test_a_server_of_0_0_x_that_reads_nothing_does_not_hold_up_the_agents_end(meet):
    agent, link, backend = meet("--shutdown-timeout", "1s")
    link.start("1", get("/duplex", f"Content-Length: {512 * MIB}", method="POST"), end=False)
    backend.wait_seen()
    piece = WebSocket._frame(link, 2, frame(DATA, "1", bytes(65536)), True)
    push_until_it_stands(link.sock, piece)
    since = time.monotonic()
    assert agent.stop(10) == 0
    assert time.monotonic() - since < 5
    link.close()


# --- 6 smuggling by escapes ---

@PLAIN
def test_no_escape_is_undone_for_an_agent_of_0_0_x(fleet):
    """Its pipe gives the backend whatever stands in the head."""
    agent = fleet.agent()
    paths = [path for path in PATHS if path.startswith("/")] + [
        "/x%20HTTP/1.1%0d%0aHost:%20evil%0d%0a%0d%0aGET%20/second", "/x%0aX-Evil:%201", "/x%00%0d%0a"]
    with fleet.tunnel.wire() as wire:
        for path in paths:
            wire.send(fleet.tunnel.head("GET", path))
            ident, head, _ = agent.request()
            assert head.split(b"\r\n")[0].decode() == f"GET {path} HTTP/1.1"
            assert head.count(b"\r\n\r\n") == 1 and head.endswith(b"\r\n\r\n") and b"\nX-Evil" not in head
            agent.respond(ident, OK, b"hello")
            assert wire.answer().status == 200


@PLAIN
def test_what_a_server_of_0_0_x_lets_in_stops_at_our_agent(meet):
    """Its clients' escapes come undone: a second request inside the head of the first is none, a path gets them back."""
    _, link, backend = meet()
    for number, head in enumerate((
            "GET /x HTTP/1.1\r\nHost: evil\r\n\r\nGET /second HTTP/1.1\r\nHost: test.example\r\n\r\n",
            "GET /x\r\nX-Evil: 1 HTTP/1.1\r\nHost: test.example\r\n\r\n", "GET /a\x00b HTTP/1.1\r\nHost: test.example\r\n\r\n")):
        link.start(str(number), head)
        assert link.answer(str(number))[0].startswith("HTTP/1.1 400 "), head
    link.start("last", get("/echo/caf\xc3\xa9 noir#1?q=%"))
    assert link.answer("last")[0].startswith("HTTP/1.1 200 ")
    assert [seen.target for seen in backend.seen] == ["/echo/caf%C3%A9%20noir%231?q=%"] and not backend.oddities


# --- 7 token leaks ---

@PLAIN
def test_a_token_that_a_server_of_0_0_x_passes_on_ends_at_our_agent(meet, keys):
    _, link, backend = meet()
    token = keys.client()
    link.start("1", get("/echo", f"Authorization: Bearer {token}", f"Proxy-Authorization: Bearer {token}", "X-Stays: 1"))
    assert link.answer("1")[0].startswith("HTTP/1.1 200 ")
    seen = backend.last()
    assert token.encode() not in seen.head and not {"authorization", "proxy-authorization"} & {*seen.names}
    assert seen.get("X-Stays") == "1"


# --- 9 frozen peers ---

@pytest.fixture(scope="module", autouse=not TLS)
def frozen(server, keys):  # noqa: F811
    """An agent that takes a request and is never heard again, while the tests above run: (seconds, answer)."""
    fleet, told = Fleet(server, keys), []  # noqa: F811
    fleet.agent()

    def ask():
        since = time.monotonic()
        with fleet.send("POST", "/", "Content-Length: 0") as wire:
            answer = wire.answer()
        told.append((time.monotonic() - since, answer))
    thread = threading.Thread(target=ask)
    thread.start()
    yield told
    thread.join(PATIENCE)
    fleet.close()


@PLAIN
def test_a_frozen_agent_of_0_0_x_is_given_up_within_seconds(frozen):
    """Version 0.0.6 sent requests there until their idle timeout."""
    wait_until(lambda: frozen, "the request has been answered")
    seconds, answer = frozen[0]
    assert (answer.status, answer.error) == (502, "agent_disconnect") and 1 < seconds < 10, seconds


# --- 12 tokens and limits ---

def test_a_token_that_never_expires_is_answered_everywhere(tunnel, keys):
    """0.0.6 hung up on two of the three."""
    upgrade = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
    for path, fields, claims in ((tunnel.path("/echo"), (), {}), ("/status", (), {"scope": ["status"]}),
                                 ("/agent", upgrade, {"aud": "gimlet-agent", "service": "svc"})):
        with tunnel.wire() as wire:
            token = keys.forge(drop=["exp"], **claims)
            answer = wire.send("\r\n".join([f"GET {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {token}", *fields, "", ""])).answer()
            assert (answer.status, answer.body) == (401, b"Unauthorized\n"), path


# --- 13 small lies ---

def test_clients_that_leave_are_no_failures_of_the_backend(workshop):
    port = free_port()
    tunnel = workshop.tunnel("--lanes", 1, agent_flags=("--metrics-port", port))
    for number in range(1, 6):
        with tunnel.wire() as wire:
            wire.send(tunnel.head("GET", "/hang"))
            tunnel.backend.wait_seen(number)
    wait_until(lambda: page(port).sum("gimlet_service_requests_total", reason="cancelled") == 5, "all have been given up")
    assert tunnel.ask("POST", "/drop", body=b"x").status == 502
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/hang"))
        tunnel.backend.wait_seen(7)
        tunnel.agent.signal(signal.SIGTERM)  # it reports once more

        def told():
            said = Page(requests.get(f"http://127.0.0.1:{tunnel.server.metrics_port}/metrics", timeout=PATIENCE).text)
            return said.sum("gimlet_agent_draining") and said
        assert wait_until(told, "the agent has reported").sum("gimlet_agent_backend_failures_total") == 1
    assert tunnel.agent.wait() == 0


@PLAIN
def test_the_head_from_an_agent_of_0_0_x_is_not_held_back(fleet):
    agent = fleet.agent()
    with fleet.send("GET", "/") as wire:
        ident, _, _ = agent.request()
        agent.message(frame(START, ident, b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"))
        answer = wire.final_head()
        assert answer.get("Content-Type") == "text/event-stream"
        agent.message(frame(DATA, ident, b"data: 1\n\n"))
        agent.message(frame(END, ident))
        assert b"".join(wire.body_pieces(answer)) == b"data: 1\n\n"
