"""Backends whose health is checked: an agent gets requests only while its backend passes."""
import asyncio
import itertools
import json
import socket
import threading

import pytest
from lib.settings import PATIENCE, wait_until
from lib.tunnel import Server, Tunnel
from old_peer import OldAgent, OldServer
from peers.native_server import Link, NativeServer

NOTE = 15
QUICK = ("--health-check-path", "/health?deep", "--health-check-interval", "100ms")


_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(run_dir, keys):
    """One for all tests here: each has a service of its own."""
    server = Server(run_dir, keys)
    yield server
    assert server.stop() == 0


class Ward:
    """What a backend's health check finds, and what else it is asked."""

    def __init__(self, status=200):
        self.status, self.checks, self.seen = status, 0, []
        self.let_go = threading.Event()

    async def script(self, peer):
        while seen := await peer.head():
            self.seen.append(seen)
            if seen.target == "/health?deep":
                self.checks += 1
                await peer.answer(f"{self.status} Whatever", b"any")
            elif seen.target == "/slow":
                await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfi")
                await asyncio.get_running_loop().run_in_executor(None, self.let_go.wait, PATIENCE)
                await peer.send(b"ne")
            else:
                await peer.answer("200 OK", b"served")


def hospital(workshop, server, *flags, status=200, ready=True):
    """(tunnel, ward), once the agent is attached and its first check has been made."""
    ward, service = Ward(status), f"ward-{next(_numbers)}"
    backend = workshop.backend(ward.script)
    agent = workshop.agent(server, {service: backend.url}, *QUICK, *flags)
    agent.wait_log("the backend is healthy" if ready else "the backend is not healthy")
    tunnel = Tunnel(server, agent, service, backend)
    if ready:
        wait_until(lambda: tunnel.get("/").status == 200, "the agent is ready")
    return tunnel, ward


def told(tunnel, message) -> dict:
    """What the server logs of this agent."""
    def lines():
        return [line for line in tunnel.server.log(message) if line["agentID"] == tunnel.agent.subject]
    return wait_until(lines, f"the server logs {message!r}")[-1]


def unavailable(tunnel) -> bool:
    answer = tunnel.get("/")
    assert (answer.status, answer.error) in ((200, None), (503, "agent_unavailable")), answer
    return answer.status == 503


def test_an_agent_is_not_used_before_its_backend_is_healthy(workshop, server):
    tunnel, ward = hospital(workshop, server, status=503, ready=False)
    for _ in range(3):
        answer = tunnel.get("/")
        assert (answer.status, answer.error) == (503, "agent_unavailable")
    assert server.health()["agents"][tunnel.service] == 1, "it is there all the same"
    ward.status = 204
    tunnel.agent.wait_log("the backend is healthy")
    wait_until(lambda: not unavailable(tunnel), "the agent is used")
    line = told(tunnel, "agent is ready")
    assert (line["service"], line["ready"], line["notReady"]) == (tunnel.service, 1, 0)
    assert {seen.get("host") for seen in ward.seen if seen.target == "/health?deep"} == {f"127.0.0.1:{tunnel.backend.port}"}


def test_while_it_fails_no_request_comes_and_those_that_run_are_left_alone(workshop, server):
    tunnel, ward = hospital(workshop, server)
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/slow"))
        wait_until(lambda: any(seen.target == "/slow" for seen in ward.seen), "the request runs")
        ward.status = 500
        line = told(tunnel, "agent is not ready")
        assert (line["ready"], line["notReady"]) == (0, 1)
        wait_until(lambda: unavailable(tunnel), "every lane of it is skipped")
        for _ in range(5):
            assert unavailable(tunnel)
        ward.let_go.set()
        assert wire.answer().body == b"fine"
    assert "status 500" in str(tunnel.agent.log("the backend is not healthy"))
    ward.status = 200
    wait_until(lambda: not unavailable(tunnel), "it is used again")


def test_others_take_over_and_both_are_counted(workshop, server):
    tunnel, sick = hospital(workshop, server)
    well = Ward()
    workshop.agent(server, {tunnel.service: workshop.backend(well.script).url}, *QUICK)
    wait_until(lambda: tunnel.get("/both").status == 200 and any(seen.target == "/both" for seen in well.seen), "both are used")
    sick.status = 500
    assert told(tunnel, "agent is not ready")["notReady"] == 1

    def skipped():
        sick.seen.clear()
        assert all(tunnel.get("/probe").status == 200 for _ in range(4)), "somebody serves all the time"
        return all(seen.target != "/probe" for seen in sick.seen)
    wait_until(skipped, "every lane of the sick one is skipped")
    for _ in range(8):
        assert tunnel.get("/after").body == b"served"
    assert sum(seen.target == "/after" for seen in well.seen) == 8


def test_a_backend_that_dies_and_returns(workshop, server):
    tunnel, ward = hospital(workshop, server, "--health-check-failure-threshold", "1")
    tunnel.backend.close()
    tunnel.agent.wait_log("the backend is not healthy")
    wait_until(lambda: tunnel.get("/").error == "agent_unavailable", "nobody is asked to wait for a connection")
    workshop.backend(ward.script, port=tunnel.backend.port)
    tunnel.agent.wait_log("the backend is healthy", 2)
    wait_until(lambda: tunnel.get("/").status == 200, "it is used again")


def test_a_unix_socket_and_one_service_of_two(workshop, server, tmp_path):
    """Keys of --service: one is checked, the other is not."""
    path, stop = tmp_path / "s.sock", threading.Event()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    status = ["500"]

    def serve():
        while not stop.is_set():
            peer, _ = listener.accept()
            head = peer.recv(65536)
            code = status[0] if head.startswith(b"GET /ping ") else "200"
            peer.sendall(f"HTTP/1.1 {code} X\r\nContent-Length: 4\r\nConnection: close\r\n\r\nunix".encode())
            peer.close()
    threading.Thread(target=serve, daemon=True).start()
    plain = workshop.backend()
    agent = workshop.agent(server, {"sock": f"unix:{path},health-check-path=/ping,health-check-interval=100ms,"
                                            "health-check-codes=200,204", "plain": plain.url})
    agent.wait_log("the backend is not healthy")
    sock, other = Tunnel(server, agent, "sock"), Tunnel(server, agent, "plain")
    assert sock.get("/").error == "agent_unavailable" and other.get("/body?n=3").status == 200
    status[0] = "204"
    agent.wait_log("the backend is healthy")
    wait_until(lambda: sock.get("/").status == 200, "the socket's service is used")
    assert sock.get("/").body == b"unix"
    stop.set()


@pytest.fixture
def peer():
    server = NativeServer()
    yield server
    server.close()


def note(link: Link) -> dict:
    """The next note that is no report."""
    while True:
        said = json.loads(link.until(NOTE)[3])
        if said["type"] != "metrics":
            return said


def test_what_the_server_is_told(workshop, peer):
    """In its greeting, when it changes, and now and then again; nothing without checks."""
    ward = Ward(503)
    backend = workshop.backend(ward.script)
    agent = workshop.agent(peer.url, {"svc": backend.url}, *QUICK)
    agent.wait_log("the backend is not healthy")
    first = peer.accept()
    assert first.greet()["state"] == "not_ready"
    ward.status = 200
    assert note(first) == {"type": "ready", "state": "ready"}
    ward.status = 404
    assert note(first) == {"type": "not_ready", "state": "not_ready"}
    ward.status = 200
    assert note(first) == {"type": "ready", "state": "ready"}
    first.cut()
    assert "state" not in peer.accept().greet()
    workshop.agent(peer.url, {"svc": backend.url})
    assert "state" not in peer.accept().greet()


def test_what_a_server_of_0_0_x_is_told(workshop):
    """Nothing before the backend is healthy; later what 0.0.6 understands, too."""
    ward, server = Ward(503), OldServer()
    agent = workshop.agent(server.url, {"svc": workshop.backend(ward.script).url}, *QUICK)
    agent.wait_log("the backend is not healthy")
    link = server.accept()
    link.upgrade()
    link.text({"server_id": "old-1", "agent_id": agent.subject, "service_name": "svc"})

    def said() -> str:
        while True:
            text = link.next_text()
            if text["type"] != "metrics":
                return text["type"]
    ward.status = 200
    assert said() == "ready"
    ward.status = 500
    assert (said(), said()) == ("not_ready", "draining")
    ward.status = 200
    assert said() == "ready"
    link.close()
    server.close()


@pytest.mark.plain("the peer of 0.0.x speaks plain text")
@pytest.mark.parametrize("first", [{"type": "not_ready", "state": "not_ready"}, {"type": "metrics", "draining": False}],
                         ids=["not_ready", "metrics"])
def test_an_agent_of_0_0_x_that_waits_for_its_backend(server, first):
    tunnel = Tunnel(server, None, f"old-{next(_numbers)}")
    old = OldAgent(server.port, server.keys.agent(tunnel.service, tunnel.service), ready=False)
    old.text(first)
    server.wait_agents(tunnel.service)
    assert tunnel.get("/").error == "agent_unavailable"
    old.text({"type": "ready", "state": "ready"})
    old.heard()
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/"))
        ident, _, _ = old.request()
        old.text({"type": "not_ready", "state": "not_ready"})
        old.heard()
        assert tunnel.get("/").error == "agent_unavailable"
        old.respond(ident, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"ok")
        assert wire.answer().body == b"ok"
    old.close()


def test_off_by_default(tunnel, backend):
    assert tunnel.get("/body?n=1").status == 200
    assert [seen.target for seen in backend.seen] == ["/body?n=1"]
