"""--queue-size: requests wait for a place in the order in which they came, up to a number and a time."""
import hashlib
import json
import re
import threading
import time

import pytest

from lib.backend import pattern
from lib.settings import PATIENCE, wait_until
from lib.tunnel import Tunnel


@pytest.fixture(scope="module")
def busy(run_dir, keys):
    """A server whose queue holds three for a minute, and an agent that takes one request at a time."""
    from conftest import Workshop
    directory = run_dir / "queue"
    directory.mkdir()
    shop = Workshop(directory, keys)
    yield shop.tunnel("--queue-size", "3", "--queue-timeout", "60s", agent_flags=("--max-concurrent-requests", "1"))
    shop.close()


@pytest.fixture
def one(busy, request):
    """The same, with nothing under way before and after."""
    busy.backend.forget()
    request.node.processes = busy.processes
    yield busy
    busy.check()
    busy.server.wait_idle()
    wait_waiting(busy.server, 0)


def wait_waiting(server, count):
    wait_until(lambda: server.counter("requests_waiting") == count, f"{count} requests wait", PATIENCE, 0.02)


def occupy(tunnel, count=1):
    """Requests that keep their places until their wires are closed."""
    before, wires = len(tunnel.backend.seen), [tunnel.wire() for _ in range(count)]
    for wire in wires:
        wire.send(tunnel.head("GET", "/hang"))
    tunnel.backend.wait_seen(before + count)
    return wires


def test_first_come_first_served(one):
    """Whichever rings the clients are on."""
    holder, = occupy(one)
    waiting = []
    for number in range(3):
        waiting.append(one.wire().send(one.head("GET", f"/echo?{number}")))
        wait_waiting(one.server, number + 1)
    assert len(one.backend.seen) == 1, "who waits is with no backend"
    assert one.server.active() == 1, "and is not under way"
    holder.close()
    for number, wire in enumerate(waiting):
        assert json.loads(wire.answer().body)["target"] == f"/echo?{number}"
        wire.close()
    assert [seen.target for seen in one.backend.seen[1:]] == [f"/echo?{number}" for number in range(3)]


def test_the_queue_has_an_end(one):
    holder, = occupy(one)
    waiting = []
    for number in range(3):
        waiting.append(one.wire().send(one.head("GET", "/echo")))
        wait_waiting(one.server, number + 1)
    with one.wire() as wire:
        for fields in ((), ("Accept: application/json",)):
            began = time.monotonic()
            answer = wire.send(one.head("GET", "/echo", *fields)).answer()
            assert (answer.status, answer.error) == (429, "agent_limit") and time.monotonic() - began < 20
            assert re.fullmatch("[1-9][0-9]?", answer.get("Retry-After"))
            assert answer.get("Connection") is None, "the connection goes on"
    assert one.server.counter("requests_waiting") == 3 and one.server.counter("queue_refused") >= 2
    holder.close()
    assert all(wire.answer().status == 200 for wire in waiting)
    for wire in waiting:
        wire.close()


def test_who_leaves_frees_its_place(one):
    holder, = occupy(one)
    leaver = one.wire().send(one.head("GET", "/echo?left"))
    wait_waiting(one.server, 1)
    upgrade = one.wire().send(one.head("GET", "/upgrade", "Connection: Upgrade", "Upgrade: x"))
    wait_waiting(one.server, 2)
    stayer = one.wire().send(one.head("GET", "/echo?stayed"))
    wait_waiting(one.server, 3)
    leaver.close()
    upgrade.close()
    wait_waiting(one.server, 1)
    holder.close()
    assert json.loads(stayer.answer().body)["target"] == "/echo?stayed"
    stayer.close()
    assert [seen.target for seen in one.backend.seen] == ["/hang", "/echo?stayed"]


def test_a_body_waits_with_its_client(one):
    """It stays unread but for what the sockets hold, and comes whole when its turn has come."""
    data, sent = pattern(24_000_000), threading.Event()
    holder, = occupy(one)
    with one.wire() as wire:
        def send():
            wire.send(one.head("POST", "/echo", f"Content-Length: {len(data)}") + data)
            sent.set()
        before = one.server.counter("recv_bytes")
        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        wait_waiting(one.server, 1)
        assert not sent.wait(0.5), "the server does not take what it cannot pass on"
        assert one.server.counter("recv_bytes") - before < 1_000_000
        holder.close()
        assert json.loads(wire.answer().body)["sha256"] == hashlib.sha256(data).hexdigest()
        thread.join(PATIENCE)


def test_a_refusal_that_nobody_foresaw(workshop):
    """The agent's places are taken by another service, of which the server's count knows nothing."""
    server, backend = workshop.server("--queue-size", "10", "--queue-timeout", "60s"), workshop.backend()
    agent = workshop.agent(server, {"a": backend.url, "b": backend.url}, "--max-concurrent-requests", "1")
    a, b = (Tunnel(server, agent, service, backend) for service in "ab")
    holder, = occupy(a)
    body = pattern(30_000)
    with b.wire() as first, b.wire() as second:
        first.send(b.head("POST", "/echo?1", f"Content-Length: {len(body)}") + body)
        wait_waiting(server, 1)
        second.send(b.head("GET", "/echo?2"))
        wait_waiting(server, 2)
        time.sleep(0.3)  # it is asked again and again, and says no
        assert server.counter("requests_waiting") <= 2 and len(backend.seen) == 1
        holder.close()
        assert json.loads(first.answer().body)["sha256"] == hashlib.sha256(body).hexdigest()
        assert second.answer().status == 200
    assert [seen.target for seen in backend.seen[1:]] == ["/echo?1", "/echo?2"]


@pytest.mark.plain("the scripted agent of 0.0.x speaks plain text")
def test_an_old_agent_that_is_full(workshop, keys):
    """Its refusal is an answer of its own: it is waited for like any other, or passed on where nobody waits."""
    from old_peer import OldAgent, Pipe
    backend = workshop.backend()
    for flags in (("--queue-size", "5", "--queue-timeout", "60s"), ()):
        server = workshop.server(*flags)
        agent = OldAgent(server.port, keys.agent("svc", "old"), timeout=PATIENCE)
        tunnel = Tunnel(server, None, "svc", backend)
        server.wait_agents("svc")
        pipe = Pipe(agent, backend.port, limit=1)
        try:
            holder, = occupy(tunnel)
            if flags:
                with tunnel.wire() as wire:
                    wire.send(tunnel.head("GET", "/echo?old"))
                    wait_waiting(server, 1)
                    holder.close()
                    assert json.loads(wire.answer().body)["target"] == "/echo?old"
            else:
                answer = tunnel.get("/echo")
                assert (answer.status, answer.body) == (429, b"Agent concurrent request limit reached (1)")
                assert answer.get("Content-Type") == "text/plain"
                holder.close()
        finally:
            pipe.stop()


def test_a_wait_has_an_end(workshop):
    tunnel = workshop.tunnel("--queue-size", "5", "--queue-timeout", "600ms", "--idle-timeout", "20s",
                             agent_flags=("--max-concurrent-requests", "1"))
    holder, = occupy(tunnel)
    began = time.monotonic()
    answer = tunnel.get("/echo")
    assert (answer.status, answer.error) == (429, "agent_limit") and answer.get("Retry-After")
    assert answer.body.startswith(b"Agent concurrent request limit reached")
    assert time.monotonic() - began > 0.5
    assert tunnel.server.counter("queue_timeouts") == 1
    with tunnel.wire() as wire:  # and when the agent has gone meanwhile, that is what is said
        wire.send(tunnel.head("GET", "/echo"))
        wait_waiting(tunnel.server, 1)
        tunnel.agent.kill()
        assert wire.answer().status == 503
    holder.close()


def test_the_servers_limit_and_an_agent_that_comes_back(workshop):
    tunnel = workshop.tunnel("--max-concurrent-requests", "2", "--queue-size", "1", "--queue-timeout", "60s")
    holders = occupy(tunnel, 2)
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/echo?first"))
        wait_waiting(tunnel.server, 1)
        answer = tunnel.get("/echo?second")
        assert (answer.status, answer.error) == (429, "rate_limit") and answer.get("Retry-After")
        assert b"\nMessage: Server concurrent request limit reached (2)\n" in answer.body
        assert tunnel.get("/echo").status == 429
        holders.pop().close()
        assert json.loads(wire.answer().body)["target"] == "/echo?first"
    more, = occupy(tunnel)
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/echo?late"))
        wait_waiting(tunnel.server, 1)
        tunnel.agent.kill()
        tunnel.server.wait_agents("svc", 0)
        wait_waiting(tunnel.server, 1)
        for holder in (*holders, more):
            holder.close()
        workshop.agent(tunnel.server, {"svc": tunnel.backend.url})
        assert json.loads(wire.answer().body)["target"] == "/echo?late", "it has waited for the next agent"


def test_a_crowd_passes_a_narrow_door(workshop):
    """Forty clients, four places: everybody is served, and never more than four at once."""
    tunnel = workshop.tunnel("--queue-size", "100", "--queue-timeout", "60s", agent_flags=("--max-concurrent-requests", "4"))
    statuses, lock = [], threading.Lock()

    def client(number):
        with tunnel.wire() as wire:
            for turn in range(5):
                answer = wire.send(tunnel.head("POST", f"/echo?{number}.{turn}", "Content-Length: 5") + b"hello").answer()
                with lock:
                    statuses.append(answer.status)
    threads = [threading.Thread(target=client, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert statuses == [200] * 200
    assert tunnel.server.counter("requests_queued") > 0
    tunnel.server.wait_idle()
    assert tunnel.server.counter("requests_waiting") == 0


def test_a_drain_serves_those_who_wait(workshop):
    tunnel = workshop.tunnel("--queue-size", "5", "--queue-timeout", "60s", agent_flags=("--max-concurrent-requests", "1"))
    holder, = occupy(tunnel)
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/echo"))
        wait_waiting(tunnel.server, 1)
        tunnel.server.signal(15)
        tunnel.server.wait_log("draining")
        holder.close()
        assert wire.answer().status == 200
    assert tunnel.server.wait() == 0
