"""Stopping: what runs may finish, what comes goes elsewhere, the deadline is kept, a second signal ends at once."""
import signal
import threading
import time

import pytest

from lib.backend import pattern
from lib.settings import AT_ONCE, PATIENCE, free_port, wait_until
from lib.tls import world
from lib.tunnel import Tunnel
from lib.wire import Truncated, Wire
from old_peer import OldAgent
from peers.native_agent import NativeAgent
from peers.native_server import NativeServer, request


def begin(tunnel, rest):
    """A request whose answer's head has come."""
    wire = tunnel.wire()
    wire.send(tunnel.head("GET", rest))
    return wire, wire.final_head()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_server_ends_at_once(workshop, number):
    tunnel = workshop.tunnel()
    since = time.monotonic()
    tunnel.server.signal(number)
    assert tunnel.server.wait(AT_ONCE) == 0
    assert time.monotonic() - since < AT_ONCE
    tunnel.agent.check_alive()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_agent_ends_at_once(workshop, number):
    tunnel = workshop.tunnel()
    tunnel.agent.signal(number)
    assert tunnel.agent.wait(AT_ONCE) == 0
    tunnel.server.wait_agents("svc", 0)


def test_an_agent_ends_without_a_server(workshop):
    from lib.settings import free_port
    agent = workshop.agent(f"ws://127.0.0.1:{free_port()}/agent", {"svc": "http://127.0.0.1:1"})
    agent.wait_log("runtime")
    assert agent.stop(AT_ONCE) == 0


def test_a_draining_server_lets_answers_finish(workshop):
    tunnel = workshop.tunnel()
    wire, answer = begin(tunnel, "/sse?n=10&every=0.1")
    tunnel.server.signal(signal.SIGTERM)
    assert sum(1 for _ in wire.events(answer)) == 10
    assert wire.expect_end() == b"", "the connection ends behind the answer"
    assert tunnel.server.wait(AT_ONCE) == 0


def test_a_draining_server_lets_uploads_finish(workshop):
    tunnel = workshop.tunnel()
    with tunnel.wire() as wire:
        wire.send(tunnel.head("POST", "/echo", "Content-Length: 20") + b"0123456789")
        tunnel.backend.wait_seen()
        tunnel.server.signal(signal.SIGTERM)
        time.sleep(0.3)
        wire.send(b"0123456789")
        answer = wire.answer()
        assert answer.status == 200 and answer.get("Connection") == "close"
    assert tunnel.server.wait(AT_ONCE) == 0


def test_a_draining_server_takes_no_new_connections_and_closes_idle_ones(workshop):
    tunnel = workshop.tunnel()
    idle = tunnel.wire()
    assert idle.send(tunnel.head("GET", "/body?n=1")).answer().status == 200
    busy, answer = begin(tunnel, "/sse?n=10&every=0.1")
    tunnel.server.signal(signal.SIGTERM)
    assert idle.expect_end(2) == b""
    wait_until(lambda: refuses(tunnel.server.port), "the listener is closed", AT_ONCE)
    assert sum(1 for _ in busy.events(answer)) == 10
    assert tunnel.server.wait(AT_ONCE) == 0


def refuses(port) -> bool:
    try:
        with Wire(port, timeout=1) as wire:
            wire.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            return not wire.some()
    except OSError:
        return True


def test_connections_in_the_accept_queue_are_not_lost(workshop):
    """Clients that connect all the time while the server stops: each gets a whole answer or none, never a half."""
    tunnel = workshop.tunnel()
    stop = threading.Event()
    broken, whole = [], []

    def hammer():
        while not stop.is_set():
            try:
                with tunnel.wire(timeout=10) as wire:
                    wire.send(tunnel.head("GET", "/body?n=2000", "Connection: close"))
                    answer = wire.answer()
                    (whole if answer.status == 200 and len(answer.body) == 2000 else broken).append(answer.status)
            except Truncated as short:
                if "b''" not in str(short):
                    broken.append(short)
            except OSError:
                pass
    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    tunnel.server.signal(signal.SIGTERM)
    assert tunnel.server.wait(PATIENCE) == 0
    stop.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert whole and all(b == 503 for b in broken), broken


def test_the_servers_deadline_is_kept(workshop):
    tunnel = workshop.tunnel("--shutdown-timeout", "1s")
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/stall?coding=chunked"))
        answer = wire.final_head()
        since = time.monotonic()
        tunnel.server.signal(signal.SIGTERM)
        with pytest.raises((Truncated, ConnectionResetError)):
            for _ in wire.body_pieces(answer):
                pass
        assert tunnel.server.wait(5) == 0
        assert 0.8 < time.monotonic() - since < 1 + AT_ONCE
    assert tunnel.backend.last().gone.wait(5)


def test_a_stalled_upload_does_not_outlive_the_deadline(workshop):
    """What kept version 0.0.6 alive for ever: a client in the middle of its upload."""
    tunnel = workshop.tunnel("--shutdown-timeout", "1s")
    with tunnel.wire() as wire:
        wire.send(tunnel.head("POST", "/echo", "Content-Length: 1000") + b"x")
        tunnel.backend.wait_seen()
        tunnel.server.signal(signal.SIGTERM)
        assert tunnel.server.wait(5) == 0


def test_no_peer_holds_up_the_servers_deadline(workshop, keys):
    """Slow readers in the middle and at the end of an answer, a frozen agent, halves of handshakes and heads, an open
    upgrade, a link that never greets, an agent of 0.0.x that says nothing."""
    port = free_port()
    server = workshop.server("--https-port", port, *world().server.flags, "--shutdown-timeout", "1s", secure=False)
    backend = workshop.backend()
    live, frozen = (Tunnel(server, workshop.agent(server, {name: backend.url}), name, backend) for name in ("live", "frozen"))
    middle, end = (live.wire(receive_buffer=4096) for _ in range(2))
    middle.send(live.head("GET", "/body?n=50000000")).final_head()
    end.send(live.head("GET", "/body?n=200000", "Connection: close")).final_head()
    upgraded = live.wire()
    assert upgraded.send(live.head("GET", "/upgrade", "Connection: Upgrade", "Upgrade: raw/1")).answer().status == 101
    hanging = frozen.wire().send(frozen.head("GET", "/hang"))
    backend.wait_seen(4)
    frozen.agent.freeze()
    halves = [Wire(port).send(b"\x16\x03\x01\x02\x00\x01"), Wire(port), server.wire(), server.wire().send(b"GET / HT")]
    peers = [NativeAgent(server.port, keys.agent("mute", "mute"), ready=False),
             OldAgent(server.port, keys.agent("old", "old"))]
    since = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.wait(10) == 0
    assert 0.8 < time.monotonic() - since < 1 + AT_ONCE
    assert server.log("drained") and not server.log("the drain did not end in time: ending with requests under way")
    frozen.agent.thaw()
    for wire in (middle, end, upgraded, hanging, *halves, *peers):
        wire.close()


def test_a_shutdown_timeout_of_zero_ends_at_once(workshop):
    tunnel = workshop.tunnel("--shutdown-timeout", "0")
    wire, _ = begin(tunnel, "/stall?coding=chunked")
    tunnel.server.signal(signal.SIGTERM)
    assert tunnel.server.wait(AT_ONCE) == 0
    wire.close()


def test_a_second_signal_ends_the_server_at_once(workshop):
    tunnel = workshop.tunnel()
    wire, _ = begin(tunnel, "/stall?coding=chunked")
    tunnel.server.signal(signal.SIGTERM)
    tunnel.server.wait_log("draining")
    time.sleep(0.2)
    assert tunnel.server.is_alive
    tunnel.server.signal(signal.SIGTERM)
    tunnel.server.wait(AT_ONCE)
    wire.close()


def test_health_answers_while_the_server_drains(workshop):
    tunnel = workshop.tunnel()
    wire, answer = begin(tunnel, "/sse?n=15&every=0.1")
    tunnel.server.signal(signal.SIGTERM)
    tunnel.server.wait_log("draining")
    assert tunnel.server.counter("requests") >= 1, "the metrics port still answers"
    for _ in wire.body_pieces(answer):
        pass
    assert tunnel.server.wait(AT_ONCE) == 0


# --- the agent ------------------------------------------------------------------------------------

def test_a_draining_agent_lets_its_streams_finish(workshop):
    tunnel = workshop.tunnel()
    wire, answer = begin(tunnel, "/sse?n=10&every=0.1")
    tunnel.agent.signal(signal.SIGTERM)
    assert sum(1 for _ in wire.events(answer)) == 10
    assert tunnel.agent.wait(AT_ONCE) == 0


def test_new_requests_go_elsewhere_while_an_agent_drains(workshop):
    server, backends = workshop.server(), [workshop.backend(), workshop.backend()]
    first = workshop.agent(server, {"svc": backends[0].url})
    tunnel = Tunnel(server, first, "svc", backends[0])
    wire, answer = begin(tunnel, "/sse?n=15&every=0.1")
    workshop.agent(server, {"svc": backends[1].url})
    first.signal(signal.SIGTERM)
    server.wait_log("agent drains")
    for _ in range(20):
        assert tunnel.get("/body?n=1").status == 200
    assert len(backends[0].seen) == 1 and len(backends[1].seen) == 20
    assert sum(1 for _ in wire.events(answer)) == 15
    assert first.wait(AT_ONCE) == 0


def test_rolling_agents_lose_no_request(workshop):
    """Agents are replaced one after another under load: not one request fails, POSTs included."""
    server, backend = workshop.server(), workshop.backend()
    agents = [workshop.agent(server, {"svc": backend.url}) for _ in range(2)]
    tunnel = Tunnel(server, agents[0], "svc", backend)
    stop, statuses = threading.Event(), []

    def load():
        with tunnel.wire() as wire:
            while not stop.is_set():
                wire.send(tunnel.head("POST", "/echo", "Content-Length: 5") + b"hello")
                statuses.append(wire.answer().status)
    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(4):
            time.sleep(0.3)
            new = workshop.agent(server, {"svc": backend.url})
            old = agents.pop(0)
            agents.append(new)
            assert old.stop() == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE)
    assert len(statuses) > 100 and set(statuses) == {200}, {s: statuses.count(s) for s in set(statuses)}


def test_the_agents_deadline_is_kept(workshop):
    tunnel = workshop.tunnel(agent_flags=("--shutdown-timeout", "1s"))
    wire, answer = begin(tunnel, "/stall?coding=chunked")
    since = time.monotonic()
    tunnel.agent.signal(signal.SIGTERM)
    with pytest.raises((Truncated, ConnectionResetError)):
        for _ in wire.body_pieces(answer):
            pass
    assert tunnel.agent.wait(5) == 0
    assert 0.8 < time.monotonic() - since < 1 + AT_ONCE
    assert tunnel.backend.last().gone.wait(5)
    wire.close()


def test_a_request_cut_by_the_agents_deadline_says_so(workshop):
    tunnel = workshop.tunnel(agent_flags=("--shutdown-timeout", "1s"))
    with tunnel.wire() as wire:
        wire.send(tunnel.head("POST", "/hang", "Content-Length: 0"))
        tunnel.backend.wait_seen()
        tunnel.agent.signal(signal.SIGTERM)
        answer = wire.answer()
        assert (answer.status, answer.error) == (503, "draining")
    assert tunnel.agent.wait(AT_ONCE) == 0


def test_a_server_that_takes_nothing_does_not_hold_up_the_agents_deadline(workshop):
    """Whatever is still queued for it, CLOSE included."""
    peer, backend = NativeServer(), workshop.backend()
    agent = workshop.agent(peer.url, {"svc": backend.url}, "--shutdown-timeout", "1s")
    link = peer.accept()
    link.greet()
    link.open(1, request(target="/body?n=300000000"))
    link.credit(1, 1 << 29)
    backend.wait_seen()
    time.sleep(0.5)
    agent.signal(signal.SIGTERM)
    assert agent.wait() == 0
    assert agent.log("drained") and not agent.log("the drain did not end in time: ending with requests under way")
    link.cut()
    peer.close()


def test_a_frozen_server_does_not_hold_up_an_idle_agents_drain(workshop):
    """It is given up as one that is silent while something is wanted of it: 2 s and 3 s, not the time of the drain."""
    tunnel = workshop.tunnel(agent_flags=("--shutdown-timeout", "60s"))
    tunnel.server.freeze()
    tunnel.agent.signal(signal.SIGTERM)
    assert tunnel.agent.wait(14) == 0
    tunnel.server.thaw()


def test_a_second_signal_ends_the_agent_at_once(workshop):
    tunnel = workshop.tunnel()
    wire, _ = begin(tunnel, "/stall?coding=chunked")
    tunnel.agent.signal(signal.SIGTERM)
    tunnel.server.wait_log("agent drains")
    time.sleep(0.2)
    assert tunnel.agent.is_alive
    tunnel.agent.signal(signal.SIGTERM)
    tunnel.agent.wait(AT_ONCE)
    wire.close()


def test_an_upgraded_stream_is_let_finish_and_cut_at_the_deadline(workshop):
    tunnel = workshop.tunnel("--shutdown-timeout", "1s")
    with tunnel.wire() as wire:
        assert wire.send(tunnel.head("GET", "/upgrade", "Connection: Upgrade", "Upgrade: raw/1")).answer().status == 101
        tunnel.server.signal(signal.SIGTERM)
        wire.send(b"still here")
        assert wire.exactly(10) == b"still here"
        assert tunnel.server.wait(5) == 0


def test_the_agent_of_a_drained_server_finds_the_next_one(workshop):
    """A rolling restart behind one address: the old server still drains when the new one listens on its port."""
    tunnel = workshop.tunnel()
    wire, answer = begin(tunnel, "/sse?n=30&every=0.1")
    tunnel.server.signal(signal.SIGTERM)
    wait_until(lambda: refuses(tunnel.server.port), "the old listener is closed", AT_ONCE)
    new = workshop.server(http_port=tunnel.server.port)
    new.wait_agents("svc")
    assert Tunnel(new, tunnel.agent, "svc", tunnel.backend).get("/body?n=7").body == pattern(7)
    assert sum(1 for _ in wire.events(answer)) == 30, "and the old stream has run to its end"
    assert tunnel.server.wait(AT_ONCE) == 0
