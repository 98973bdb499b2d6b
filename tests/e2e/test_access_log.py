"""The access log: a line of JSON for each request of a client, whole, and never a reason to wait."""
import json
import os
import re

import pytest

from lib.settings import wait_until

KEYS = ["time", "status", "bytesIn", "bytesOut", "durationMs", "firstByteMs", "reason", "client", "requestID", "clientID",
        "service", "agentID", "method", "path"]


@pytest.fixture(scope="module")
def logged(run_dir, keys):
    """A tunnel whose server writes an access log."""
    from conftest import Workshop
    directory = run_dir / "access"
    directory.mkdir()
    shop = Workshop(directory, keys)
    tunnel = shop.tunnel("--access-log", directory / "access.log")
    tunnel.file = directory / "access.log"
    yield tunnel
    shop.close()


def lines(path):
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(True) if line.endswith("\n")]


def line_of(tunnel, request_id, path=None):
    """The one line of the request with this id."""
    found = wait_until(lambda: [line for line in lines(path or tunnel.file) if line["requestID"] == request_id], "its line is written")
    assert len(found) == 1
    return found[0]


def test_a_request_and_all_that_is_said_of_it(logged, keys):
    answer = logged.ask("POST", "/echo?secret=1", "X-Request-Id: whole", body=b"x" * 3000)
    assert answer.status == 200
    line = line_of(logged, "whole")
    assert list(line) == KEYS
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert (line["status"], line["method"], line["path"]) == (200, "POST", "/services/svc/echo"), "without the query"
    assert (line["bytesIn"], line["bytesOut"]) == (3000, len(answer.body))
    assert line["service"] == "svc" and line["agentID"] == logged.agent.subject and line["reason"] == ""
    assert line["client"] == "127.0.0.1" and line["clientID"]
    assert 0 <= line["firstByteMs"] <= line["durationMs"] < 60_000


def test_a_chunked_body_counts_without_its_framing(logged):
    with logged.wire() as wire:
        wire.send(logged.head("POST", "/echo", "X-Request-Id: chunks", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")
        assert wire.answer().status == 200
    assert line_of(logged, "chunks")["bytesIn"] == 7


def test_refusals_say_what_is_known_of_them(logged, keys):
    with logged.wire() as wire:
        for head in ("GET /nothing HTTP/1.1\r\nX-Request-Id: r404", "GET /services/svc/x HTTP/1.1\r\nX-Request-Id: r401",
                     f"GET /services/svc/x HTTP/1.1\r\nX-Request-Id: r403\r\nAuthorization: Bearer {keys.forge(services=['other'], sub='eve')}",
                     f"GET /services/nobody/x HTTP/1.1\r\nX-Request-Id: r503\r\nAuthorization: Bearer {logged.token}",
                     "GET /health HTTP/1.1\r\nX-Request-Id: health"):
            wire.send(head + "\r\nHost: x\r\n\r\n").answer()
    assert line_of(logged, "r404")["reason"] == "not_found"
    line = line_of(logged, "r401")
    assert (line["status"], line["reason"], line["clientID"], line["service"]) == (401, "unauthorized", "", "")
    line = line_of(logged, "r403")
    assert (line["status"], line["reason"], line["clientID"], line["service"]) == (403, "forbidden", "eve", "svc")
    line = line_of(logged, "r503")
    assert (line["status"], line["reason"], line["service"]) == (503, "agent_unavailable", "nobody") and line["bytesOut"] > 0
    assert (line_of(logged, "health")["status"], line_of(logged, "health")["reason"]) == (200, "")


def test_what_is_no_http_has_a_line_too(logged):
    before = len([line for line in lines(logged.file) if line["status"] == 400])
    with logged.wire() as wire:
        assert wire.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").answer().status == 400
    wait_until(lambda: len([line for line in lines(logged.file) if line["status"] == 400]) == before + 1, "its line is written")
    line = [line for line in lines(logged.file) if line["status"] == 400][-1]
    assert (line["method"], line["path"], line["reason"]) == ("", "", "bad_request")


def test_a_client_that_leaves_and_a_backend_that_fails(logged):
    logged.backend.forget()
    with logged.wire() as wire:
        wire.send(logged.head("GET", "/hang", "X-Request-Id: left"))
        logged.backend.wait_seen()
    line = line_of(logged, "left")
    assert (line["status"], line["reason"], line["bytesOut"]) == (499, "cancelled", 0) and "firstByteMs" not in line
    assert logged.get("/drop", "X-Request-Id: dropped").status == 502
    line = line_of(logged, "dropped")
    assert (line["status"], line["reason"]) == (502, "backend_closed") and line["bytesOut"] > 0


def test_no_client_can_break_a_line(logged):
    path = "/" + "%0a%22" * 400
    answer = logged.get(path, 'X-Request-Id: "},{"a":"\\')
    assert answer.status == 200
    line = line_of(logged, '"},{"a":"\\')
    assert line["path"].startswith("/services/svc/%0a%22") and len(line["path"]) == 512


def test_a_file_that_is_moved_away_is_opened_again(logged):
    logged.get("/body?n=1", "X-Request-Id: before")
    line_of(logged, "before")
    old = logged.file.with_suffix(".1")
    os.rename(logged.file, old)

    def again():
        logged.get("/body?n=1", "X-Request-Id: after")
        return logged.file.exists() and any(line["requestID"] == "after" for line in lines(logged.file))
    wait_until(again, "lines go to the new file", step=0.2)
    assert any(line["requestID"] == "before" for line in lines(old))
    assert all(line["requestID"] != "before" for line in lines(logged.file))


def test_standard_output_and_queries(workshop):
    tunnel = workshop.tunnel("--access-log", "-", "--access-log-query")
    assert tunnel.get("/echo?q=1", "X-Request-Id: out").status == 200
    found = wait_until(lambda: [line for line in tunnel.server.log() if line.get("requestID") == "out"], "the line is written")
    assert found[0]["path"] == "/services/svc/echo?q=1"


def test_a_reader_that_does_not_read_holds_nobody_up(workshop, tmp_path):
    """A pipe that is full: requests go on, what does not fit the queue is counted."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        tunnel = workshop.tunnel("--access-log", pipe)
        with tunnel.wire() as wire:
            for _ in range(60):
                wire.send(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
                assert all(wire.answer().status == 404 for _ in range(100))
        assert tunnel.get("/body?n=1").status == 200
        assert tunnel.server.counter("access_lines_dropped") > 0
    finally:
        os.close(reader)


@pytest.mark.parametrize("flags,word", [(("--access-log", "/nowhere/x"), "access log"), (("--access-log-query",), "--access-log-query")])
def test_a_file_that_cannot_be_is_refused_at_the_start(workshop, flags, word):
    server = workshop.server(*flags, ready=False)
    assert server.wait() in (1, 2)
    assert word in server.tail()
