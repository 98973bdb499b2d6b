"""Header fields: what a backend and a client see, what stays on its own hop, what the gateway adds."""
import re

import pytest

from lib.backend import Backend
from urllib.parse import quote


def test_names_values_order_and_repetitions_are_kept(tunnel, backend):
    tunnel.get("/echo", "X-One: 1", "x-TWO:   spaced   out \t", "X-One: again", "X-Empty:", "X-Latin: caf\xe9",
               "Cookie: a=b; c=d")
    seen = backend.last()
    mine = [(n, v) for n, v in seen.fields if n.lower().startswith("x-") and not n.lower().startswith("x-forwarded")
            and n.lower() != "x-request-id"]
    assert mine == [("X-One", "1"), ("x-TWO", "spaced   out"), ("X-One", "again"), ("X-Empty", ""), ("X-Latin", "caf\xe9")]
    assert seen.get("cookie") == "a=b; c=d"


def test_host_is_the_clients(tunnel, backend):
    tunnel.get("/echo")
    assert backend.last().get("host") == "test.example"


@pytest.mark.parametrize("field", ["Keep-Alive: timeout=5", "Proxy-Connection: keep-alive", "Proxy-Authenticate: x",
                                   "TE: gzip", "Upgrade: h2c"])
def test_hop_by_hop_fields_of_a_request_stay_behind(tunnel, backend, field):
    tunnel.get("/echo", field)
    name = field.split(":")[0].lower()
    assert name not in backend.last().names


def test_fields_named_in_connection_stay_behind(tunnel, backend):
    tunnel.get("/echo", "Connection: X-Secret, keep-alive", "X-Secret: inside", "Connection: x-also", "X-Also: y", "X-Not: z")
    names = backend.last().names
    assert "x-secret" not in names and "x-also" not in names and "x-not" in names
    assert not any("secret" in v.lower() for v in backend.last().all("connection"))


@pytest.mark.parametrize("name", ["Keep-Alive", "Proxy-Connection", "Upgrade", "X-Hop"])
def test_hop_by_hop_fields_of_an_answer_stay_behind(tunnel, name):
    answer = tunnel.get(f"/fields?f={quote(name + ': v')}&f={quote('X-Stays: 1')}&f={quote('Connection: X-Hop, keep-alive')}")
    assert answer.status == 200
    assert answer.all(name) == []
    assert answer.get("X-Stays") == "1"
    assert answer.all("Connection") == []


def test_cookies_stay_separate(tunnel):
    answer = tunnel.get("/fields?f=" + quote("Set-Cookie: a=1; Path=/") + "&f=" + quote("Set-Cookie: b=2; Expires=Wed, 21 Oct 2026 07:28:00 GMT"))
    assert answer.all("Set-Cookie") == ["a=1; Path=/", "b=2; Expires=Wed, 21 Oct 2026 07:28:00 GMT"]


def test_no_content_type_is_invented(tunnel):
    answer = tunnel.get("/status?code=200&body=%3Chtml%3E")
    assert answer.all("Content-Type") == []


def test_the_gateways_token_never_reaches_a_backend(tunnel, backend):
    tunnel.get("/echo")
    assert "authorization" not in backend.last().names
    assert tunnel.token.encode() not in backend.last().head


def test_proxy_authorization_carries_the_token_and_leaves_authorization_to_the_backend(tunnel, backend):
    with tunnel.wire() as wire:
        wire.send(f"GET {tunnel.path('/echo')} HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Bearer {tunnel.token}\r\n"
                  "Authorization: Bearer sk-the-backends-own\r\n\r\n")
        assert wire.answer().status == 200
    seen = backend.last()
    assert seen.get("authorization") == "Bearer sk-the-backends-own"
    assert "proxy-authorization" not in seen.names
    assert tunnel.token.encode() not in seen.head


def test_proxy_authorization_alone_is_enough(tunnel, backend):
    with tunnel.wire() as wire:
        wire.send(f"GET {tunnel.path('/echo')} HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Bearer {tunnel.token}\r\n\r\n")
        assert wire.answer().status == 200
    assert tunnel.token.encode() not in backend.last().head


def test_a_bad_proxy_authorization_is_not_rescued_by_authorization(tunnel, backend):
    with tunnel.wire() as wire:
        wire.send(f"GET {tunnel.path('/echo')} HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Bearer nonsense\r\n"
                  f"Authorization: Bearer {tunnel.token}\r\n\r\n")
        assert wire.answer().status == 401
    assert not backend.seen


@pytest.mark.parametrize("name", ["Authorization", "Proxy-Authorization"])
def test_a_repeated_credential_is_refused(tunnel, backend, name):
    with tunnel.wire() as wire:
        wire.send(f"GET {tunnel.path('/echo')} HTTP/1.1\r\nHost: x\r\n" + f"{name}: Bearer {tunnel.token}\r\n" * 2 + "\r\n")
        assert wire.answer().status == 400
    assert not backend.seen


def test_forwarded_fields_are_set(tunnel, backend):
    tunnel.get("/echo")
    seen = backend.last()
    assert seen.get("x-forwarded-for") == "127.0.0.1"
    assert seen.get("x-forwarded-proto") == "http"
    assert seen.get("x-forwarded-host") == "test.example"


def test_forwarded_for_is_extended(tunnel, backend):
    tunnel.get("/echo", "X-Forwarded-For: 203.0.113.9", "X-Forwarded-For: 198.51.100.2", "X-Forwarded-Proto: https",
               "X-Forwarded-Host: public.example")
    seen = backend.last()
    assert seen.get("x-forwarded-for") == "203.0.113.9, 198.51.100.2, 127.0.0.1"
    assert seen.get("x-forwarded-proto") == "https"
    assert seen.get("x-forwarded-host") == "public.example"


def test_a_request_id_is_made_and_told_to_both(tunnel, backend):
    answer = tunnel.get("/echo")
    made = backend.last().get("x-request-id")
    assert re.fullmatch(r"[0-9a-f]{32}", made)
    assert answer.get("X-Request-Id") == made
    tunnel.get("/echo")
    assert backend.last().get("x-request-id") != made


def test_a_request_id_is_kept(tunnel, backend):
    answer = tunnel.get("/echo", "X-Request-Id: my-id.42")
    assert backend.last().get("x-request-id") == "my-id.42"
    assert answer.get("X-Request-Id") == "my-id.42"


def test_an_unusable_request_id_is_replaced(tunnel, backend):
    answer = tunnel.get("/echo", "X-Request-Id: " + "x" * 5000)
    assert re.fullmatch(r"[0-9a-f]{32}", backend.last().get("x-request-id"))
    assert answer.get("X-Request-Id") == backend.last().get("x-request-id")


def test_a_trace_is_begun(tunnel, backend):
    tunnel.get("/echo")
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", backend.last().get("traceparent"))


def test_a_trace_goes_on(tunnel, backend):
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    tunnel.get("/echo", f"traceparent: {trace}", "tracestate: a=b")
    assert backend.last().get("traceparent").startswith("00-4bf92f3577b34da6a3ce929d0e0e4736-")
    assert backend.last().get("tracestate") == "a=b"


def test_an_answer_has_a_date_and_the_backends_wins(tunnel):
    assert tunnel.get("/status?code=200").get("Date").endswith(" GMT")
    given = "Mon, 02 Jan 2006 15:04:05 GMT"
    assert tunnel.get("/fields?f=" + quote(f"Date: {given}")).get("Date") == given


def test_large_heads_both_ways(tunnel, backend):
    value = "v" * 20_000
    tunnel.get("/echo", f"X-Big: {value}", f"X-Bigger: {value}")
    assert backend.last().get("x-bigger") == value
    answer = tunnel.get("/fields-big")
    assert answer.status == 200


def test_a_large_answer_head(workshop):
    async def script(peer):
        while await peer.head():
            await peer.answer("200 OK", b"ok", *[f"X-F{n}: {'y' * 1000}" for n in range(40)])
    tunnel = workshop.tunnel(backend=workshop.backend(script))
    answer = tunnel.get("/")
    assert answer.status == 200 and answer.get("X-F39") == "y" * 1000


@pytest.mark.parametrize("count,status", [(100, 200), (500, 431)])
def test_many_fields(tunnel, backend, count, status):
    answer = tunnel.get("/echo", *[f"X-{n}: {n}" for n in range(count)])
    assert answer.status == status
    assert len(backend.seen) == (1 if status == 200 else 0)


def test_a_head_beyond_the_limit_is_431(tunnel, backend):
    answer = tunnel.get("/echo", "X-Big: " + "v" * 70_000)
    assert (answer.status, answer.error) == (431, "header_too_large")
    assert answer.get("Connection") == "close"
    assert not backend.seen


def test_a_target_beyond_the_limit_is_414(tunnel, backend):
    answer = tunnel.get("/" + "x" * 66_000)
    assert answer.status in (414, 431)
    assert not backend.seen


def test_header_bytes_is_settable(workshop):
    tunnel = workshop.tunnel("--header-bytes", "4KiB")
    assert tunnel.get("/echo", "X-Big: " + "v" * 2000).status == 200
    assert tunnel.get("/echo", "X-Big: " + "v" * 5000).status == 431


def test_the_backend_is_named_when_the_client_names_no_host(tunnel, backend):
    with tunnel.wire() as wire:
        wire.send(f"GET {tunnel.path('/echo')} HTTP/1.0\r\nAuthorization: Bearer {tunnel.token}\r\n\r\n")
        assert wire.answer().status == 200
    assert backend.last().get("host") == f"127.0.0.1:{backend.port}"


def test_the_request_line_says_http11(tunnel, backend):
    tunnel.get("/echo")
    assert backend.last().version == "HTTP/1.1"
    assert isinstance(backend, Backend)
