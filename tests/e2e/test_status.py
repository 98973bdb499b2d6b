"""/status: who may ask, what it says, where it stands. spec/gimlet.md 2.8."""
import asyncio
import contextlib
import datetime
import json
import signal
import threading
import time

import pytest
import requests

from lib.settings import PATIENCE, free_port, wait_until


def ask(server, *fields, path="/status", method="GET"):
    with server.wire() as wire:
        return wire.send("\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *fields, "", ""])).answer(method)


def bearer(server, **claims) -> str:
    return f"Authorization: Bearer {server.keys.forge(**{'scope': ['status'], **claims})}"


def status(server, **claims) -> dict:
    answer = ask(server, bearer(server, **claims))
    assert answer.status == 200, answer.body
    assert answer.get("Content-Type") == "application/json"
    return json.loads(answer.body)


@pytest.mark.parametrize("field,text", [
    ("X-None: 1", "Missing Authorization header\n"),
    ("Authorization:", "Missing Authorization header\n"),
    ("Authorization: Basic dTpw", "Invalid Authorization header format (use 'Bearer <token>')\n"),
    ("Authorization: Bearer x", "Token malformed\n"),
])
def test_who_shows_no_token(tunnel, field, text):
    answer = ask(tunnel.server, field)
    assert (answer.status, answer.error, answer.body.decode()) == (401, "unauthorized", text)
    assert answer.get("Content-Type") == "text/plain; charset=utf-8"


@pytest.mark.parametrize("claims,text", [
    ({"scope": []}, "Insufficient scope\n"),
    ({"scope": ["Status", "status "]}, "Insufficient scope\n"),
    ({"scope": "status"}, "Token malformed\n"),
    ({"exp": int(time.time()) - 10}, "Token expired\n"),
    ({"iss": "other"}, "Unauthorized\n"),
    ({"aud": "gimlet-other"}, "Unauthorized\n"),
])
def test_whose_token_is_not_good(tunnel, claims, text):
    answer = ask(tunnel.server, bearer(tunnel.server, **claims))
    assert (answer.status, answer.body.decode()) == (401, text)


def test_what_it_says(tunnel):
    document = status(tunnel.server, services=["none-of-them"])
    health = tunnel.server.health()
    assert set(document) == {"active_requests", "server_id", "uptime", "services"}
    assert (document["active_requests"], document["server_id"]) == (0, health["server_id"])
    assert document["uptime"].endswith("s")
    (name, service), = document["services"].items()
    assert name == tunnel.service and set(service) == {"agent_count", "active_requests", "agents"}
    assert (service["agent_count"], service["active_requests"]) == (1, 0)
    agent, = service["agents"]
    assert set(agent) == {"id", "ready", "active_requests", "draining", "connection_uptime_seconds", "backend_failures",
                          "token_expires_at"}
    assert (agent["id"], agent["ready"], agent["draining"]) == (tunnel.agent.subject, True, False)
    left = datetime.datetime.fromisoformat(agent["token_expires_at"].replace("Z", "+00:00")).timestamp() - time.time()
    assert 0 < left <= 3600


def test_every_audience_may_ask(tunnel):
    agent = {"aud": "gimlet-agent", "service": "x", "scope": ["other", "status"]}
    assert status(tunnel.server, **agent)["services"]
    assert ask(tunnel.server, bearer(tunnel.server), method="POST").status == 200
    head = ask(tunnel.server, bearer(tunnel.server), method="HEAD")
    assert head.status == 200 and not head.body
    assert ask(tunnel.server, bearer(tunnel.server), path="/status/").status == 404
    assert ask(tunnel.server, bearer(tunnel.server), path="/status?x=1").status == 200


def test_requests_under_way(tunnel, backend):
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/hang"))
        backend.wait_seen()
        document = status(tunnel.server)
        service = document["services"][tunnel.service]
        assert document["active_requests"] == service["active_requests"] == service["agents"][0]["active_requests"] == 1


def test_each_process_is_an_agent(workshop):
    """Also those that share a token; what one has reported is its own. It reports at once when it drains."""
    let_go = threading.Event()

    async def script(peer):
        while (seen := await peer.head()) and seen.target == "/held":
            await asyncio.get_running_loop().run_in_executor(None, let_go.wait, PATIENCE)
            await peer.answer("200 OK", b"")
    tunnel, sick = workshop.tunnel(), workshop.backend(script)
    failing = workshop.agent(tunnel.server, {"svc": sick.url}, subject=tunnel.agent.subject)
    workshop.agent(tunnel.server, {"other": tunnel.backend.url})
    services = status(tunnel.server)["services"]
    assert {name: service["agent_count"] for name, service in services.items()} == {"svc": 2, "other": 1}
    assert [agent["id"] for agent in services["svc"]["agents"]] == [tunnel.agent.subject] * 2
    for _ in range(4):
        tunnel.get("/echo")

    def agents():
        listed = status(tunnel.server)["services"]["svc"]["agents"]
        return sorted((agent["draining"], agent["backend_failures"] > 0) for agent in listed)
    with contextlib.ExitStack() as wires:
        while not any(seen.target == "/held" for seen in sick.seen):
            wires.enter_context(tunnel.wire()).send(tunnel.head("GET", "/held"))
            time.sleep(0.05)
        failing.signal(signal.SIGTERM)
        wait_until(lambda: agents() == [(False, False), (True, True)], "the one whose backend drops connections reports that")
        let_go.set()
        assert failing.wait() == 0


def test_it_moves_with_health(workshop):
    port = free_port()
    server = workshop.server("--health-port", port, ready=False)
    server.wait_log("server started")
    field = bearer(server).split(": ", 1)
    answer = requests.get(f"http://127.0.0.1:{port}/status", headers=dict([field]), timeout=PATIENCE)
    assert answer.status_code == 200 and answer.json()["services"] == {}
    assert ask(server, bearer(server)).status == 404
