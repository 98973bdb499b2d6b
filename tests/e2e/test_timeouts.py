"""Every wait has an end that can be set, and says its name."""
import select
import time

import pytest

from lib.wire import Truncated

SLACK = 5.0  # far from every default, and a busy machine's own


def took(seconds: float, since: float):
    assert seconds - 0.1 <= time.monotonic() - since <= seconds + SLACK, f"{time.monotonic() - since:.2f} s, not {seconds}"


def test_half_a_head_is_not_waited_for_long(workshop):
    server = workshop.server("--header-timeout", "1s")
    with server.wire() as wire:
        since = time.monotonic()
        wire.send(b"GET / HTTP/1.1\r\nHost:")
        answer = wire.answer()
        took(1, since)
        assert (answer.status, answer.error) == (408, "request_timeout")
        assert wire.expect_end() == b""


def test_a_connection_that_never_speaks_is_closed(workshop):
    server = workshop.server("--header-timeout", "1s", "--keepalive-timeout", "1s")
    with server.wire() as wire:
        since = time.monotonic()
        assert wire.expect_end(10) == b""
        took(1, since)


def test_trickling_does_not_prolong_the_header_timeout(workshop):
    server = workshop.server("--header-timeout", "1s")
    with server.wire() as wire:
        since = time.monotonic()
        wire.send(b"GET / HTTP/1.1\r\nX: ")
        while not select.select([wire.socket.fileno()], [], [], 0.05)[0]:
            wire.send(b"y")
            assert time.monotonic() - since < 1 + SLACK, "it goes on as long as the client does"
        assert wire.answer().status == 408
        took(1, since)


def test_keep_alive_ends(workshop):
    tunnel = workshop.tunnel("--keepalive-timeout", "1s")
    with tunnel.wire() as wire:
        assert wire.send(tunnel.head("GET", "/echo")).answer().status == 200
        since = time.monotonic()
        assert wire.expect_end(10) == b""
        took(1, since)


def test_a_client_that_owes_its_body_gets_408(workshop):
    tunnel = workshop.tunnel("--body-timeout", "1s")
    with tunnel.wire() as wire:
        since = time.monotonic()
        wire.send(tunnel.head("POST", "/echo", "Content-Length: 10") + b"12345")
        seen = tunnel.backend.wait_seen()
        answer = wire.answer()
        took(1, since)
        assert (answer.status, answer.error) == (408, "request_timeout")
    assert seen.gone.wait(5) and not seen.complete


def test_a_slow_but_steady_upload_is_no_timeout(workshop):
    tunnel = workshop.tunnel("--body-timeout", "2s")
    with tunnel.wire() as wire:
        wire.send(tunnel.head("POST", "/echo", "Content-Length: 20"))
        for _ in range(20):
            wire.send(b"x")
            time.sleep(0.12)
        assert wire.answer().status == 200


def test_a_backend_that_falls_silent_before_its_head(workshop):
    tunnel = workshop.tunnel("--idle-timeout", "1s")
    since = time.monotonic()
    answer = tunnel.get("/hang")
    took(1, since)
    assert (answer.status, answer.error) == (504, "timeout")
    assert tunnel.backend.last().gone.wait(5), "the backend's request is cancelled"


@pytest.mark.parametrize("coding", ["length", "chunked", "close"])
def test_a_backend_that_falls_silent_in_its_body(workshop, coding):
    tunnel = workshop.tunnel("--idle-timeout", "1s")
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", f"/stall?coding={coding}"))
        since = time.monotonic()
        with pytest.raises((Truncated, ConnectionResetError)):
            wire.answer()
        took(1, since)
    assert tunnel.backend.last().gone.wait(5)


def test_an_idle_timeout_of_zero_is_none(workshop):
    tunnel = workshop.tunnel("--idle-timeout", "0")
    assert tunnel.get("/slow?s=1.5").body == b"at last"


def test_the_agents_wait_for_a_head(workshop):
    tunnel = workshop.tunnel(agent_flags=("--response-header-timeout", "1s"))
    since = time.monotonic()
    answer = tunnel.get("/slow?s=20")
    took(1, since)
    assert (answer.status, answer.error) == (504, "backend_timeout")


def test_events_keep_a_stream_alive_beyond_the_header_timeouts(workshop):
    tunnel = workshop.tunnel("--header-timeout", "2s", "--body-timeout", "2s", "--keepalive-timeout", "2s",
                             agent_flags=("--response-header-timeout", "2s"))
    assert tunnel.get("/sse?n=8&every=0.4").body.count(b"data:") == 8


@pytest.mark.slow
def test_a_dial_that_nobody_answers(workshop):
    """192.0.2.0/24 is for documentation: nobody is there, or the network says so at once."""
    tunnel = workshop.tunnel(target="http://192.0.2.1:9", agent_flags=("--connect-timeout", "1s"))
    since = time.monotonic()
    answer = tunnel.get("/")
    assert time.monotonic() - since < 2 * 1 + SLACK + 1
    assert (answer.status, answer.error) == (502, "backend_connect")


def test_pooled_connections_are_given_up(workshop):
    tunnel = workshop.tunnel(agent_flags=("--backend-idle-timeout", "500ms"))
    from lib.settings import wait_until
    tunnel.get("/echo")
    assert tunnel.backend.open == 1
    wait_until(lambda: tunnel.backend.open == 0, "the idle backend connection is closed", 5)


def test_heads_that_do_not_come_leave_room_for_those_that_do(workshop):
    """A thousand incomplete heads in 8 MiB: the oldest are answered 408, and requests beside them never notice."""
    tunnel = workshop.tunnel("--ring-memory", "8MiB", "--rings", "1", "--header-timeout", "60s")
    wires = []
    try:
        for at in range(1000):
            wires.append(tunnel.server.wire())
            wires[-1].send(b"GET / HTTP/1.1\r\nHost: x\r\nX: ")
            if at % 50 == 49:
                assert tunnel.get("/body?n=20000").status == 200, f"with {at} incomplete heads"
        answer = wires[0].answer()
        assert (answer.status, answer.error) == (408, "request_timeout")
        wires[-1].send(b"y\r\n\r\n")
        assert wires[-1].answer().status in (401, 404), "the newest is still heard"
    finally:
        for wire in wires:
            wire.close()
