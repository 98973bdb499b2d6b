"""The HTTP surface of 0.0.x, line by line: routes, order of checks, statuses, first lines of bodies (spec/gimlet.md 2)."""
import json
import re

import pytest

from lib.settings import wait_until
from lib.tunnel import Tunnel
from old_peer import END, OldAgent, frame

UPGRADE = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")


def raw(tunnel, path, *fields, method="GET"):
    with tunnel.wire() as wire:
        return wire.send("\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *fields, "", ""])).answer(method)


def first_lines(answer, code):
    """The first four lines of an error of the tunnel's, and that its id is the one that the head carries."""
    lines = answer.body.decode().split("\n")
    assert lines[:3] == ["Gimlet Infrastructure Error", "", f"Error Code: {code}"], lines
    assert lines[3].startswith("Message: ")
    assert answer.get("X-Request-Id") in lines[-2], "the body names the id that the head carries"
    return lines[3][len("Message: "):]


# --- 2.1 routes ---

@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_health_takes_any_method(tunnel, method):
    answer = raw(tunnel, "/health", method=method)
    assert answer.status == 200 and json.loads(answer.body)["status"] == "healthy"


@pytest.mark.parametrize("path", ["/services", "/services?x=1"])
def test_services_without_a_service_is_no_redirect(tunnel, path):
    answer = raw(tunnel, path)
    assert (answer.status, answer.body) == (400, b"Invalid path - expected /services/<service>/...\n")


@pytest.mark.parametrize("path", ["/", "/health/", "/health/x", "/agent/", "/services2", "//health", "/./health"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_everything_else_is_not_found(tunnel, method, path):
    answer = raw(tunnel, path, method=method)
    assert (answer.status, answer.body) == (404, b"404 page not found\n")


def test_head_of_a_missing_page(tunnel):
    answer = raw(tunnel, "/nothing", method="HEAD")
    assert answer.status == 404 and answer.get("Content-Length") == "19" and answer.body == b""


# --- 2.2, 2.3 errors and their order ---

def test_the_path_is_looked_at_before_the_token_and_the_token_before_the_service(tunnel, keys):
    assert raw(tunnel, "/services/").status == 400
    assert raw(tunnel, "/services/nobody/x").status == 401
    narrow = f"Authorization: Bearer {keys.forge(services=['svc'])}"
    assert raw(tunnel, "/services/nobody/x", narrow).status == 403
    answer = raw(tunnel, "/services/nobody/x", f"Authorization: Bearer {tunnel.token}")
    assert answer.status == 503
    assert first_lines(answer, "AGENT_UNAVAILABLE") == "No agents available for service nobody"
    assert answer.get("Content-Type") == "text/plain; charset=utf-8"


@pytest.mark.parametrize("value,text", [("", "Missing Authorization header"), ("bearer x", "Invalid Authorization header format"),
                                        ("Bearer", "Invalid Authorization header format"), ("Bearer x", "Token malformed")])
def test_one_line_errors_are_one_line(tunnel, value, text):
    answer = raw(tunnel, tunnel.path(), f"Authorization: {value}")
    assert (answer.status, answer.body.decode()) == (401, text + "\n")
    assert answer.get("Content-Length") == str(len(text) + 1)


def test_the_clients_own_id_is_named_in_the_body(tunnel):
    answer = raw(tunnel, "/services/nobody/x", f"Authorization: Bearer {tunnel.token}", "X-Request-Id: mine-7")
    first_lines(answer, "AGENT_UNAVAILABLE")
    assert b"mine-7" in answer.body


def test_bad_escapes_in_a_path_are_refused(tunnel, backend):
    for path in ("/services/svc/%", "/services/svc/%zz", "/services/svc/a%2"):
        assert raw(tunnel, path, f"Authorization: Bearer {tunnel.token}").status == 400
    assert not backend.seen


def test_a_token_that_never_expires_is_refused(tunnel, keys):
    answer = raw(tunnel, tunnel.path(), f"Authorization: Bearer {keys.forge(exp=None)}")
    assert (answer.status, answer.body) == (401, b"Unauthorized\n")


def test_what_goes_wrong_behind_the_server(workshop):
    """The first lines, by which scripts tell these apart."""
    answer = workshop.tunnel("--idle-timeout", "700ms").get("/hang")
    assert answer.status == 504 and first_lines(answer, "TIMEOUT") == "Request timeout"
    tunnel = workshop.tunnel()
    answer = tunnel.ask("POST", "/drop", body=b"x")
    assert answer.status == 502 and first_lines(answer, "BACKEND_ERROR")
    tunnel.backend.forget()
    with tunnel.wire() as wire:
        wire.send(tunnel.head("POST", "/hang", "Content-Length: 1") + b"x")
        tunnel.backend.wait_seen()
        tunnel.agent.kill()
        answer = wire.answer()
        assert answer.status == 502 and first_lines(answer, "AGENT_DISCONNECT") == "Agent disconnected"
    tunnel.server.wait_agents("svc", 0)  # its lanes end one by one
    answer = tunnel.get("/echo")
    assert answer.status == 503 and first_lines(answer, "AGENT_UNAVAILABLE") == "No agents available for service svc"


@pytest.mark.plain("the scripted agent of 0.0.x speaks plain text")
def test_what_an_agent_of_0_0_x_gives_as_its_cause_is_the_message(workshop, keys):
    server = workshop.server()
    agent = OldAgent(server.port, keys.agent("svc", "old"))
    tunnel = Tunnel(server, None, "svc")
    server.wait_agents("svc")

    def ask(text, *fields, fragment=None):
        with tunnel.wire() as wire:
            wire.send(tunnel.head("POST", "/", "Content-Length: 0", *fields))
            ident, _, _ = agent.request()
            agent.message(frame(END, ident, text), fragment=fragment)
            return wire.answer()
    answer = ask(b"dial tcp 127.0.0.1:9: connection refused")
    assert answer.status == 502
    assert first_lines(answer, "BACKEND_ERROR") == "dial tcp 127.0.0.1:9: connection refused"
    answer = ask(b'in "pieces"', "Accept: application/json", fragment=43)
    assert (answer.status, json.loads(answer.body)["error"]["message"]) == (502, 'in "pieces"')
    assert first_lines(ask(b"two\r\nlines \xc3\xa9\x00"), "BACKEND_ERROR") == "two??lines ???"
    assert first_lines(ask(b"x" * 5000), "BACKEND_ERROR") == "x" * 200
    # 0.0.x makes a 200 of this; an answer that nobody has given is none here.
    assert first_lines(ask(b""), "BACKEND_ERROR") == "The backend sent a response that is not valid HTTP."
    agent.close()


# --- limits: after the token, with a Retry-After ---

def retry_after(answer):
    assert re.fullmatch("[1-9][0-9]?", answer.get("Retry-After") or ""), answer.fields
    return int(answer.get("Retry-After"))


def test_the_servers_limit(workshop, keys):
    tunnel = workshop.tunnel("--max-concurrent-requests", "1")
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/hang"))
        tunnel.backend.wait_seen()
        answer = tunnel.get("/echo")
        assert (answer.status, answer.error) == (429, "rate_limit")
        assert first_lines(answer, "RATE_LIMIT_EXCEEDED") == "Server concurrent request limit reached (1)"
        assert retry_after(answer) <= 60
        answer = tunnel.get("/echo", "Accept: application/json")
        assert json.loads(answer.body)["error"]["code"] == "rate_limit" and retry_after(answer)
        assert raw(tunnel, "/services/nobody/x", "Authorization: Bearer x").status == 401
        assert raw(tunnel, "/services/svc/x", f"Authorization: Bearer {keys.forge(services=['other'])}").status == 403
    wait_until(lambda: tunnel.get("/echo").status == 200, "the place is free again")


def test_the_agents_limit_and_another_agent(workshop, keys):
    """429 in the agent's words when all are full; a second agent is tried before anybody is told so."""
    tunnel = workshop.tunnel(agent_flags=("--max-concurrent-requests", "1"))
    with tunnel.wire() as first, tunnel.wire() as second:
        first.send(tunnel.head("GET", "/hang"))
        tunnel.backend.wait_seen()
        answer = tunnel.get("/echo")
        assert (answer.status, answer.error) == (429, "agent_limit")
        assert answer.body == b"Agent concurrent request limit reached (1)\n"
        assert retry_after(answer) <= 60
        workshop.agent(tunnel.server, {"svc": tunnel.backend.url}, "--max-concurrent-requests", "1")
        assert all(tunnel.get("/echo").status == 200 for _ in range(6))
        second.send(tunnel.head("GET", "/hang"))
        tunnel.backend.wait_seen(8)
        assert tunnel.ask("POST", "/echo", body=b"x").error == "agent_limit"


def test_links_that_are_full_are_no_missing_agents(workshop):
    tunnel = workshop.tunnel("--stream-limit", "1", "--lanes", "1")
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/hang"))
        tunnel.backend.wait_seen()
        answer = tunnel.get("/echo")
        assert (answer.status, answer.error) == (429, "agent_limit")
        retry_after(answer)


# --- 2.8 health ---

def test_the_keys_and_the_form_of_health(tunnel):
    answer = raw(tunnel, "/health")
    assert answer.get("Content-Type") == "application/json" and answer.body.endswith(b"}\n") and answer.body.count(b"\n") == 1
    document = json.loads(answer.body)
    assert list(document) == ["active_requests", "agents", "server_id", "status", "uptime"]
    assert re.fullmatch(r"(\d+h)?(\d+m)?\d+(\.\d+)?s|\d+(\.\d+)?ms", document["uptime"]), document["uptime"]
    assert document["agents"] == {"svc": 1} and document["active_requests"] == 0
    head = raw(tunnel, "/health", method="HEAD")
    assert head.status == 200 and int(head.get("Content-Length")) > 50 and head.body == b""


# --- 2.9 /agent ---

def test_agent_says_how_a_credential_looks(tunnel, keys):
    assert raw(tunnel, "/agent", *UPGRADE).body == b"Missing Authorization header\n"
    answer = raw(tunnel, "/agent", *UPGRADE, "Authorization: Basic x")
    assert (answer.status, answer.body) == (401, b"Invalid Authorization header format (use 'Bearer <token>')\n")
    answer = raw(tunnel, "/agent", *UPGRADE, f"Authorization: Bearer {keys.client()}")
    assert (answer.status, answer.body) == (401, b"Unauthorized\n")


def test_agent_wants_a_websocket(tunnel, keys):
    token = f"Authorization: Bearer {keys.agent('svc', 'x')}"
    for fields in ((), UPGRADE, (*UPGRADE, "Sec-WebSocket-Version: 12")):
        answer = raw(tunnel, "/agent", token, *fields)
        assert (answer.status, answer.body, answer.get("Sec-WebSocket-Version")) == (400, b"Bad Request\n", "13")
    answer = raw(tunnel, "/agent", token, *UPGRADE, "Sec-WebSocket-Version: 13", method="POST")
    assert (answer.status, answer.get("Allow")) == (405, "GET")
