"""Refusals: statuses, texts, X-Gimlet-Error, JSON for those who take it. Order and texts: spec/gimlet.md 2.3, 2.5."""
import base64
import json
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from lib.keys import Keys
from lib.settings import wait_until
from lib.wire import Wire


def raw(tunnel, path, *fields, method="GET"):
    with tunnel.wire() as wire:
        lines = [f"{method} {path} HTTP/1.1", "Host: x", *fields, "", ""]
        return wire.send("\r\n".join(lines)).answer(method)


def bearer(tunnel, token, path="/echo"):
    return raw(tunnel, tunnel.path(path), f"Authorization: Bearer {token}")


def refused(answer, status, error, text):
    assert (answer.status, answer.error) == (status, error), answer.body
    assert answer.body.decode().startswith(text), answer.body
    assert answer.get("Content-Type") == "text/plain; charset=utf-8"
    assert answer.get("X-Content-Type-Options") == "nosniff"
    assert answer.get("X-Request-Id")
    assert answer.get("Date")


def test_no_service(tunnel):
    refused(raw(tunnel, "/services/"), 400, "bad_request", "Invalid path - expected /services/<service>/...\n")


@pytest.mark.parametrize("path", ["/services/s%zz/", "/services/a%2Fb/", "/services/a%2fb/", "/services/../health", "/services/./x",
                                  "/services/%2e%2e/x", "/services/a%00/x", "/services//x"])
def test_a_service_name_that_is_none(tunnel, backend, path):
    """A name in disguise is refused, whatever a lenient router would make of it."""
    answer = raw(tunnel, path, f"Authorization: Bearer {tunnel.token}")
    assert (answer.status, answer.error) == (400, "bad_request"), answer.body
    assert not backend.seen


def test_no_credential(tunnel, backend):
    refused(raw(tunnel, tunnel.path()), 401, "unauthorized", "Missing Authorization header\n")
    assert not backend.seen


def test_an_empty_credential(tunnel):
    refused(raw(tunnel, tunnel.path(), "Authorization:"), 401, "unauthorized", "Missing Authorization header\n")


@pytest.mark.parametrize("value", ["Basic dTpw", "bearer x", "Bearer", "Token x"])
def test_not_a_bearer(tunnel, value):
    refused(raw(tunnel, tunnel.path(), f"Authorization: {value}"), 401, "unauthorized", "Invalid Authorization header format\n")


@pytest.mark.parametrize("token", ["x", "a.b", "a.b.c.d", "a.b.c", "..", "e30.e30.e30"])
def test_a_malformed_token(tunnel, backend, token):
    answer = bearer(tunnel, token)
    assert answer.status == 401 and answer.body in (b"Token malformed\n", b"Unauthorized\n"), answer.body
    assert not backend.seen


def test_a_padded_token_is_malformed(tunnel, keys):
    refused(bearer(tunnel, keys.client() + "="), 401, "unauthorized", "Token malformed\n")


def test_white_space_behind_a_token_is_harmless(tunnel):
    assert bearer(tunnel, tunnel.token + "  ").status == 200


def test_expired(tunnel, keys):
    refused(bearer(tunnel, keys.client(duration="0s")), 401, "unauthorized", "Token expired\n")


def test_a_token_expires_while_it_is_cached(tunnel, keys):
    token = keys.forge(exp=int(time.time()) + 2)
    assert bearer(tunnel, token).status == 200
    time.sleep(2.2)
    refused(bearer(tunnel, token), 401, "unauthorized", "Token expired\n")


def test_not_yet_valid(tunnel, keys):
    refused(bearer(tunnel, keys.forge(nbf=int(time.time()) + 600)), 401, "unauthorized", "Token not valid yet\n")


def test_expired_wins_over_not_yet_valid(tunnel, keys):
    now = int(time.time())
    refused(bearer(tunnel, keys.forge(exp=now - 5, nbf=now + 600)), 401, "unauthorized", "Token expired\n")


def test_a_changed_signature(tunnel, keys):
    refused(bearer(tunnel, keys.client()[:-5] + "XXXXX"), 401, "unauthorized", "Invalid signature\n")


def test_another_key(tunnel, tmp_path, backend):
    refused(bearer(tunnel, Keys(tmp_path, "other").client()), 401, "unauthorized", "Invalid signature\n")
    assert not backend.seen


def test_an_empty_signature(tunnel, keys):
    refused(bearer(tunnel, keys.client().rsplit(".", 1)[0] + "."), 401, "unauthorized", "Invalid signature\n")


def test_a_changed_payload(tunnel, keys):
    head, payload, signature = keys.client("other").split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims["services"] = ["*"]
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    refused(bearer(tunnel, f"{head}.{payload}.{signature}"), 401, "unauthorized", "Invalid signature\n")


@pytest.mark.parametrize("algorithm", ["HS256", "none", "PS256", "ES256"])
def test_other_algorithms(tunnel, keys, algorithm):
    key = {"HS256": b"secret", "none": "", "PS256": None, "ES256": ec.generate_private_key(ec.SECP256R1())}[algorithm]
    refused(bearer(tunnel, keys.forge(algorithm=algorithm, key=key)), 401, "unauthorized", "Unsupported signing method\n")


@pytest.mark.parametrize("algorithm", ["RS384", "RS512"])
def test_longer_hashes(tunnel, keys, algorithm):
    assert bearer(tunnel, keys.forge(algorithm=algorithm)).status == 200


@pytest.mark.parametrize("change", [{"iss": "somebody"}, {"aud": "gimlet-agent"}, {"aud": ["gimlet-client", "b"]}, {"sub": ""},
                                    {"services": []}])
def test_claims_that_are_not_enough(tunnel, keys, change, backend):
    refused(bearer(tunnel, keys.forge(**change)), 401, "unauthorized", "Unauthorized\n")
    assert not backend.seen


def test_an_audience_list_of_one(tunnel, keys):
    assert bearer(tunnel, keys.forge(aud=["gimlet-client"])).status == 200


def test_services_as_a_string(tunnel, keys):
    refused(bearer(tunnel, keys.forge(services="svc")), 401, "unauthorized", "Token malformed\n")


def test_no_expiry_is_refused(tunnel, keys):
    refused(bearer(tunnel, keys.forge(drop=["exp"])), 401, "unauthorized", "Unauthorized\n")


def test_claims_are_named_as_they_are_spelt(tunnel, keys):
    expires = int(time.time()) + 600
    assert bearer(tunnel, keys.forge(EXP=1, Services="none")).status == 200
    refused(bearer(tunnel, keys.forge(drop=["exp"], Exp=expires)), 401, "unauthorized", "Unauthorized\n")


@pytest.mark.parametrize("services,allowed", [(["svc"], True), (["s*"], True), (["sv?"], True), (["[a-t]vc"], True), (["*"], True),
                                              (["other", "svc"], True), (["SVC"], False), (["sv"], False), (["svc/*"], False),
                                              (["[^s]vc"], False), (["["], False)])
def test_patterns(tunnel, backend, keys, services, allowed):
    answer = bearer(tunnel, keys.forge(services=services))
    if allowed:
        assert answer.status == 200
    else:
        refused(answer, 403, "forbidden", "Forbidden\n")
        assert not backend.seen


def test_an_agents_token_is_no_clients(tunnel, keys):
    assert bearer(tunnel, keys.agent("svc", "x")).status == 401


def test_an_over_long_token(tunnel):
    assert bearer(tunnel, "x" * 9000).status == 401


def test_no_agent(tunnel):
    answer = raw(tunnel, "/services/nobody/x", f"Authorization: Bearer {tunnel.token}")
    refused(answer, 503, "agent_unavailable",
            "Gimlet Infrastructure Error\n\nError Code: AGENT_UNAVAILABLE\nMessage: No agents available for service nobody\n")


def test_the_credential_is_asked_before_the_service(tunnel, keys):
    answer = raw(tunnel, "/services/nobody/x", f"Authorization: Bearer {keys.forge(services=['svc'])}")
    assert answer.status == 403, "who may not call learns nothing about agents"


@pytest.mark.parametrize("path", ["/", "/x", "/health/", "/metrics", "/servicesx/svc", "/debug/counters", "/agents"])
def test_unknown_paths(tunnel, path):
    refused(raw(tunnel, path), 404, "not_found", "404 page not found\n")


def test_errors_for_those_who_take_json(tunnel):
    answer = raw(tunnel, "/services/nobody/x", f"Authorization: Bearer {tunnel.token}", "Accept: application/json")
    assert answer.status == 503 and answer.get("Content-Type") == "application/json"
    document = json.loads(answer.body)
    assert document["error"]["message"] == "No agents available for service nobody"
    assert document["error"]["type"] == "gimlet_error"
    assert document["error"]["code"] == "agent_unavailable" == answer.error
    assert document["request_id"] == answer.get("X-Request-Id")


def test_the_clients_request_id_is_in_its_error(tunnel):
    answer = raw(tunnel, "/services/nobody/x", f"Authorization: Bearer {tunnel.token}", "X-Request-Id: mine",
                 "Accept: application/json")
    assert answer.get("X-Request-Id") == "mine" == json.loads(answer.body)["request_id"]


def test_a_hostile_request_id_cannot_break_the_json(tunnel):
    answer = raw(tunnel, tunnel.path(), 'X-Request-Id: a","x":"\\', "Accept: application/json")
    assert answer.status == 401
    assert json.loads(answer.body)["request_id"] in ('a","x":"\\', answer.get("X-Request-Id"))


def test_errors_to_head_have_no_body(tunnel):
    with tunnel.wire() as wire:
        answer = wire.send("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n").answer("HEAD")
        assert answer.status == 404 and int(answer.get("Content-Length")) > 0
        assert wire.send(tunnel.head("GET", "/body?n=1")).answer().status == 200


def test_the_connection_goes_on_after_a_refusal(tunnel):
    with tunnel.wire() as wire:
        assert wire.send("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n").answer().status == 404
        assert wire.send(f"GET {tunnel.path()} HTTP/1.1\r\nHost: x\r\n\r\n").answer().status == 401
        assert wire.send(tunnel.head("GET", "/body?n=1")).answer().status == 200


def test_a_refused_upload_is_not_taken_for_a_request(tunnel, backend):
    with tunnel.wire() as wire:
        smuggled = tunnel.head("GET", "/echo?smuggled")
        wire.send(f"POST {tunnel.path()} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(smuggled)}\r\n\r\n".encode() + smuggled)
        assert wire.answer().status == 401
        assert wire.expect_end() == b""
    assert not backend.seen


def test_who_has_no_token_does_not_feel_the_limit(workshop):
    tunnel = workshop.tunnel("--max-concurrent-requests", "1")
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/hang"))
        tunnel.backend.wait_seen()
        assert raw(tunnel, tunnel.path()).status == 401, "a limit is not told to strangers"


def test_nobody_listens_at_the_target(workshop):
    from lib.settings import free_port
    tunnel = workshop.tunnel(target=f"http://127.0.0.1:{free_port()}")
    refused(tunnel.get("/"), 502, "backend_connect", "Gimlet Infrastructure Error\n\nError Code: BACKEND_ERROR\nMessage: ")
    refused(tunnel.ask("POST", "/", body=b"x"), 502, "backend_connect", "Gimlet Infrastructure Error\n")


def test_a_backend_that_closes_without_a_word(tunnel, backend):
    answer = tunnel.get("/drop")
    assert (answer.status, answer.error) == (502, "backend_closed")
    answer = tunnel.ask("POST", "/drop", body=b"data")
    assert (answer.status, answer.error) == (502, "backend_closed")


def test_health(tunnel):
    document = tunnel.server.health()
    assert list(document) == sorted(["active_requests", "agents", "server_id", "status", "uptime"])
    assert document["status"] == "healthy" and document["agents"] == {"svc": 1} and document["active_requests"] == 0
    answer = raw(tunnel, "/health", method="HEAD")
    assert answer.status == 200 and answer.get("Content-Type") == "application/json"


def test_health_moves_to_its_port(workshop):
    from lib.settings import free_port
    port = free_port()
    server = workshop.server("--health-port", port, ready=False)

    def listens():
        try:
            return Wire(port)
        except OSError:
            return None
    with wait_until(listens, "the health port listens") as wire:
        assert wire.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n").answer().status == 200
        assert wire.send("GET /services/a HTTP/1.1\r\nHost: x\r\n\r\n").answer().status == 404
    with server.wire() as wire:
        assert wire.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n").answer().status == 404


def test_counters_have_help_for_every_ring(tunnel):
    counters = tunnel.server.counters()
    assert counters["requests"] > 0
    rings = tunnel.server.rings
    assert sum(counters[f'requests{{ring="{n}"}}'] for n in [*range(rings), "control"]) == counters["requests"]
