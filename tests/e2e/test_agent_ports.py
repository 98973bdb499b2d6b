"""The agent's own ports: /metrics and /health, for who watches an agent where it runs."""
import os
import signal

import requests
from lib.prometheus import Page, lint
from lib.settings import PATIENCE, free_port, wait_until
from lib.tunnel import Tunnel


def ask(port, path, method="GET"):
    return requests.request(method, f"http://127.0.0.1:{port}{path}", timeout=PATIENCE)


def page(port) -> Page:
    answer = ask(port, "/metrics")
    assert answer.status_code == 200 and answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return Page(answer.text)


def test_metrics(workshop):
    port = free_port()
    server, backend = workshop.server("--server-id", 'a "server"'), workshop.backend()
    agent = workshop.agent(server, {"a": backend.url, "b": f"http://127.0.0.1:{free_port()}"}, "--metrics-port", port,
                           "--max-concurrent-requests", "2")
    lanes = int(server.wait_log("server started")[0]["lanes"])
    server.wait_links(2 * lanes)
    a, b = Tunnel(server, agent, "a", backend), Tunnel(server, agent, "b")
    for _ in range(3):
        assert a.get("/body?n=10").status == 200
    assert b.get("/").error == "backend_connect"
    with a.wire() as first, a.wire() as second:
        for wire in (first, second):
            wire.send(a.head("GET", "/hang"))
        backend.wait_seen(5)
        assert a.get("/").error == "agent_limit"
        now = page(port)
        assert now.one("gimlet_service_active_requests", service="a") == 2
        assert now.one("gimlet_service_active_requests", service="b") == 0
    wait_until(lambda: page(port).one("gimlet_service_active_requests", service="a") == 0, "both have been given up")
    text = ask(port, "/metrics").text
    assert not lint(text), lint(text)
    now = Page(text)
    ended = {tuple(dict(key)[name] for name in ("service", "reason")): value
             for key, value in now.all("gimlet_service_requests_total").items()}
    assert ended.pop(("b", "backend_connect")) >= 1  # the server may have tried twice
    assert ended.pop(("a", "agent_limit")) >= 1
    assert ended == {("a", "ok"): 3, ("b", "ok"): 0, ("a", "cancelled"): 2}
    for service in "ab":
        assert now.one("gimlet_service_links", service=service, server_id='a \\"server\\"') == lanes
    assert now.one("gimlet_agent_request_limit") == 2 and not now.all("gimlet_service_backend_healthy")
    assert now.sum("gimlet_ring_backend_connects_total") >= 3 and now.sum("gimlet_ring_frames_received_total") > 0
    assert now.one("process_resident_memory_bytes") > 1 << 20
    server.stop()
    wait_until(lambda: not page(port).all("gimlet_service_links"), "what has gone is not shown")


def test_what_the_ports_answer(workshop):
    metrics, health = free_port(), free_port()
    tunnel = workshop.tunnel(agent_flags=("--metrics-port", metrics, "--health-port", health))
    assert ask(metrics, "/debug/counters").text.startswith("io_backend{")
    for port, path in ((metrics, "/health"), (health, "/metrics"), (health, "/debug/counters"), (metrics, "/"), (health, "/health/")):
        assert ask(port, path).status_code == 404, path
    assert ask(health, "/health", "POST").status_code == 405
    head = ask(health, "/health", "HEAD")
    assert (head.status_code, head.content) == (200, b"") and int(head.headers["Content-Length"]) > 50
    assert ask(health, "/health?x=1").status_code == 200
    assert tunnel.get("/body?n=1").status == 200


def health(port):
    answer = ask(port, "/health")
    assert answer.headers["Content-Type"] == "application/json"
    said = answer.json()
    assert (answer.status_code == 200) == (said["status"] == "healthy") == (not said["problems"]), said
    return said


def test_health(workshop):
    """Links, backends, the drain: what is missing is said. One port may show all."""
    port, ward = free_port(), [500]

    async def script(peer):
        while seen := await peer.head():
            await peer.answer(f"{ward[0] if seen.target == '/ping' else 200} X", b"")
    sick, well = workshop.backend(script), workshop.backend()
    gone = workshop.server()
    assert gone.stop() == 0
    agent = workshop.agent(gone.agent_url, {"a": f"{sick.url},health-check-path=/ping,health-check-interval=100ms", "b": well.url},
                           "--metrics-port", port, "--health-port", port, "--reconnect-max", "300ms")
    agent.wait_log("the backend is not healthy")
    assert sorted(health(port)["problems"]) == ["service a: no link to a server", "service a: the backend is not healthy",
                                                "service b: no link to a server"]
    server = workshop.server(http_port=gone.port)
    lanes = int(server.wait_log("server started")[0]["lanes"])
    server.wait_links(2 * lanes)
    wait_until(lambda: health(port)["problems"] == ["service a: the backend is not healthy"], "every service has links")
    assert page(port).one("gimlet_service_backend_healthy", service="a") == 0
    ward[0] = 200
    wait_until(lambda: health(port)["status"] == "healthy", "all is well")
    said = {service.pop("service"): service for service in health(port)["services"]}
    assert said == {"a": {"links": lanes, "servers": 1, "active_requests": 0, "backend": "healthy"},
                    "b": {"links": lanes, "servers": 1, "active_requests": 0, "backend": "unchecked"}}
    now = page(port)
    assert now.one("gimlet_service_backend_healthy", service="a") == 1
    for result in ("passed", "failed"):
        assert now.one("gimlet_service_health_checks_total", service="a", result=result) > 0
    assert len(now.all("gimlet_service_health_checks_total")) == 2, "the other is not checked"
    tunnel = Tunnel(server, agent, "b", well)
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/hang"))
        well.wait_seen()
        agent.signal(signal.SIGTERM)
        wait_until(lambda: health(port)["status"] == "draining", "the drain is told")
    assert agent.wait() == 0


def listens(pid) -> bool:
    """Whether the process has a TCP socket that listens."""
    sockets = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    for table in ("tcp", "tcp6"):
        with open(f"/proc/{pid}/net/{table}") as lines:
            for line in list(lines)[1:]:
                words = line.split()
                if words[3] == "0A" and f"socket:[{words[9]}]" in sockets:
                    return True
    return False


def test_no_port_unless_it_is_asked_for(workshop):
    tunnel = workshop.tunnel()
    assert tunnel.get("/body?n=1").status == 200
    assert not listens(tunnel.agent.pid)
    other = workshop.agent(tunnel.server, {"svc": tunnel.backend.url}, "--health-port", "0")
    port = int(other.wait_log("health")[0]["port"])
    assert listens(other.pid) and health(port)["status"] == "healthy"


def test_a_port_is_nobody_elses(workshop):
    """Rings share ports among themselves, and two agents would without a word."""
    port = free_port()
    tunnel = workshop.tunnel(agent_flags=("--metrics-port", port))
    for flags in (("--metrics-port", port), ("--health-port", port)):
        other = workshop.agent(tunnel.server, {"other": tunnel.backend.url}, *flags, wait=False)
        assert other.wait() == 1
        assert other.log("the port is taken: stop what listens there, or choose another")[0]["port"] == port
    assert page(port).all("gimlet_service_links")
