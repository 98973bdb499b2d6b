"""Ordinary requests: methods, paths, bodies and versions arrive at a real backend as they were sent."""
import hashlib
import json
import socket

import pytest
import requests

from lib.backend import pattern
from lib.wire import chunked


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "M-SEARCH",
                                    "BREW", "get"])
def test_every_method_reaches_the_backend(tunnel, backend, method):
    answer = tunnel.ask(method, "/echo")
    assert answer.status == 200
    assert json.loads(answer.body)["method"] == method


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_a_body_goes_with_every_method_that_takes_one(tunnel, backend, method):
    answer = tunnel.ask(method, "/echo", body=b"some body")
    assert answer.status == 200
    assert backend.last().body == b"some body"
    assert backend.last().get("content-length") == "9"


def test_connect_is_refused_and_reaches_nobody(tunnel, backend):
    with tunnel.wire() as wire:
        answer = wire.send(f"CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\nAuthorization: Bearer {tunnel.token}\r\n\r\n").answer()
    assert answer.status == 405
    assert not backend.seen


def test_options_star_is_answered_by_the_server(tunnel, backend):
    with tunnel.wire() as wire:
        answer = wire.send(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n").answer()
    assert (answer.status, answer.body) == (200, b"")
    assert not backend.seen


def test_head_has_the_length_and_no_body_and_the_connection_goes_on(tunnel):
    with tunnel.wire() as wire:
        wire.send(tunnel.head("HEAD", "/body?n=123456"))
        answer = wire.answer("HEAD")
        assert (answer.status, answer.get("Content-Length"), answer.body) == (200, "123456", b"")
        assert wire.send(tunnel.head("GET", "/body?n=5")).answer().body == pattern(5)


def test_head_by_curl_does_not_hang(tunnel, curl):
    done = curl("-I", "--max-time", "5", "-H", f"Authorization: Bearer {tunnel.token}", tunnel.url("/body?n=77"))
    assert b"200 OK" in done.stdout and b"ontent-Length: 77" in done.stdout


@pytest.mark.parametrize("code", [204, 304])
def test_statuses_without_a_body(tunnel, code):
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", f"/status?code={code}"))
        answer = wire.answer()
        assert answer.status == code
        assert answer.get("Transfer-Encoding") is None
        assert answer.get("ETag") == '"x"'
        if code == 204:
            assert answer.get("Content-Length") is None
        assert wire.send(tunnel.head("GET", "/body?n=3")).answer().body == pattern(3)


@pytest.mark.parametrize("code", [200, 201, 202, 206, 301, 302, 400, 401, 403, 404, 409, 418, 429, 500, 502, 503, 599, 799])
def test_status_and_reason_are_the_backends(tunnel, code):
    answer = tunnel.get(f"/status?code={code}&reason=So+be+it&body=text")
    assert (answer.status, answer.reason, answer.body) == (code, "So be it", b"text")
    assert answer.error is None


PATHS = ["/", "/a", "/a/", "/a//b", "//", "///x", "/a/../b", "/../..", "/./x", "/a/./", "/%20x", "/a%2Fb", "/%2e%2e/x",
         "/%25", "/%3Fq", "/%23f", "/caf%C3%A9", "/%00", "/a;b=c;d", "/a:b@c", "/$&'()*+,=~-_.!", "/%0d%0aX:%20y",
         "/a?", "/a?b", "/a?b=c&d=e", "/a??", "/?%", "/?%zz", "/a?b?c=/../d//", "/a?x=%26%3D", "/services/svc/x"]


@pytest.mark.parametrize("path", PATHS)
def test_paths_arrive_byte_for_byte(tunnel, backend, path):
    answer = tunnel.get(path)
    assert answer.status == 200, answer.body
    assert backend.last().target == path


@pytest.mark.parametrize("path", ["/café", "/日本?語=é"])
def test_raw_utf8_is_kept_or_refused_but_never_changed(tunnel, backend, path):
    with tunnel.wire() as wire:
        head = (f"GET {tunnel.path(path)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {tunnel.token}\r\n\r\n").encode()
        answer = wire.send(head).answer()
    if answer.status == 200:
        assert backend.last().target.encode("latin-1") == path.encode()
    else:
        assert answer.status == 400 and not backend.seen


@pytest.mark.parametrize("rest,target", [("", "/"), ("?x=1", "/?x=1"), ("?", "/?"), ("/", "/"), ("/?", "/?")])
def test_a_service_without_a_path_means_its_root(tunnel, backend, rest, target):
    assert tunnel.get(rest).status == 200
    assert backend.last().target in (target, target.rstrip("?") if rest == "?" else target)


def test_a_path_as_long_as_the_limits_allow(tunnel, backend):
    path = "/echo/" + "x" * 6000
    assert tunnel.get(path).status == 200
    assert backend.last().target == path


def test_an_encoded_service_name_is_the_service(tunnel, backend):
    with tunnel.wire() as wire:
        head = f"GET /services/s%76c/x%20y HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {tunnel.token}\r\n\r\n"
        assert wire.send(head).answer().status == 200
    assert backend.last().target == "/x%20y"


def test_absolute_form(tunnel, backend):
    with tunnel.wire() as wire:
        head = (f"GET http://there.example:81{tunnel.path('/a//b?c')} HTTP/1.1\r\nHost: elsewhere.example\r\n"
                f"Authorization: Bearer {tunnel.token}\r\n\r\n")
        assert wire.send(head).answer().status == 200
    assert backend.last().target == "/a//b?c"
    assert backend.last().get("host") == "there.example:81", "the target's authority wins over Host (RFC 9112 3.2.2)"


def test_pipelined_requests_are_answered_in_order(tunnel, backend):
    with tunnel.wire() as wire:
        wire.send(b"".join(tunnel.head("GET", f"/body?n={n}") for n in range(50)))
        for n in range(50):
            assert wire.answer().body == pattern(n)
    assert len(backend.seen) == 50


def test_pipelined_requests_with_bodies_between_them(tunnel, backend):
    with tunnel.wire() as wire:
        wire.send(tunnel.head("POST", "/echo?1", "Content-Length: 3") + b"one"
                  + tunnel.head("POST", "/echo?2", "Transfer-Encoding: chunked") + chunked(b"t", b"wo")
                  + tunnel.head("HEAD", "/body?n=9") + tunnel.head("GET", "/status?code=204")
                  + tunnel.head("GET", "/echo?5", "Connection: close"))
        sums = [hashlib.sha256(b).hexdigest() for b in (b"one", b"two")]
        assert [json.loads(wire.answer().body)["sha256"] for _ in range(2)] == sums
        assert wire.answer("HEAD").get("content-length") == "9"
        assert wire.answer().status == 204
        assert json.loads(wire.answer().body)["target"] == "/echo?5"
        assert wire.expect_end() == b""


def test_pipelining_survives_any_segmentation(tunnel):
    with tunnel.wire() as wire:
        data = (tunnel.head("POST", "/echo", "Content-Length: 5") + b"12345"
                + tunnel.head("POST", "/echo", "Transfer-Encoding: chunked") + chunked(b"123", b"45", trailers=b"A: b\r\n"))
        wire.send_slowly(data, 1)
        assert [json.loads(wire.answer().body)["length"] for _ in range(2)] == [5, 5]


def test_http10_request_gets_an_answer_that_ends_with_the_connection(tunnel, backend):
    with tunnel.wire() as wire:
        wire.send(f"GET {tunnel.path('/chunks?n=5000')} HTTP/1.0\r\nAuthorization: Bearer {tunnel.token}\r\n\r\n")
        answer = wire.answer()
        assert answer.status == 200
        assert answer.get("Transfer-Encoding") is None, "HTTP/1.0 knows no chunks"
        assert answer.body == pattern(5000)
        assert wire.expect_end() == b""


def test_http10_keep_alive_is_kept_when_the_length_is_known(tunnel):
    with tunnel.wire() as wire:
        head = (f"GET {tunnel.path('/body?n=50')} HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n"
                f"Authorization: Bearer {tunnel.token}\r\n\r\n")
        for _ in range(2):
            answer = wire.send(head).answer()
            assert answer.body == pattern(50)
            assert answer.get("Connection") == "keep-alive"


def test_connection_close_is_honoured(tunnel):
    with tunnel.wire() as wire:
        answer = wire.send(tunnel.head("GET", "/body?n=10", "Connection: close")).answer()
        assert answer.body == pattern(10) and answer.get("Connection") == "close"
        assert wire.expect_end() == b""


def test_keep_alive_serves_many_requests_on_one_connection(tunnel):
    with tunnel.wire() as wire:
        for n in range(100):
            assert wire.send(tunnel.head("GET", f"/body?n={n * 7}")).answer().body == pattern(n * 7)


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 16383, 16384, 16385, 65535, 65536, 65537, 200_000, 1_000_000])
def test_counted_bodies_of_every_size_both_ways(tunnel, backend, size):
    data = pattern(size)
    answer = tunnel.ask("POST", "/echo", f"Content-Length: {size}") if size == 0 else tunnel.ask("POST", "/echo", body=data)
    assert json.loads(answer.body)["sha256"] == hashlib.sha256(data).hexdigest()
    down = tunnel.get(f"/body?n={size}")
    assert down.get("Content-Length") == str(size)
    assert down.body == data


@pytest.mark.parametrize("size,step", [(0, 1), (1, 1), (100, 1), (70_000, 1), (100_000, 333), (1_000_000, 16384),
                                       (1_000_000, 100_000)])
def test_chunked_bodies_both_ways(tunnel, backend, size, step):
    data = pattern(size)
    pieces = [data[at:at + step] for at in range(0, size, step)]
    with tunnel.wire() as wire:
        wire.send(tunnel.head("POST", "/echo", "Transfer-Encoding: chunked") + chunked(*pieces))
        seen = json.loads(wire.answer().body)
    assert seen["sha256"] == hashlib.sha256(data).hexdigest()
    assert seen["coding"] == "chunked"
    answer = tunnel.get(f"/chunks?n={size}&step={max(step, 10)}")
    assert answer.get("Transfer-Encoding") == "chunked"
    assert answer.body == data


def test_a_chunked_upload_stays_a_stream(tunnel, backend):
    with tunnel.wire() as wire:
        wire.send(tunnel.head("POST", "/echo", "Transfer-Encoding: chunked") + b"5\r\nfirst\r\n")
        seen = backend.wait_seen()
        from lib.settings import wait_until
        wait_until(lambda: seen.body == b"first", "the first chunk arrives before the last one is sent")
        wire.send(b"3\r\nend\r\n0\r\n\r\n")
        assert json.loads(wire.answer().body)["length"] == 8


def test_request_trailers_reach_the_backend(tunnel, backend):
    with tunnel.wire() as wire:
        wire.send(tunnel.head("POST", "/echo", "Transfer-Encoding: chunked", "Trailer: X-Sum")
                  + chunked(b"data", trailers=b"X-Sum: 99\r\nX-Other: b\r\n"))
        assert json.loads(wire.answer().body)["trailers"] == [["X-Sum", "99"], ["X-Other", "b"]]


def test_answer_trailers_reach_the_client(tunnel, backend):
    with tunnel.wire() as wire:
        answer = wire.send(tunnel.head("GET", "/trailers", "TE: trailers", "Connection: TE")).answer()
        assert answer.body == b"hello"
        assert answer.trailers == [("X-Sum", "42"), ("X-More", "yes it is")]
        assert wire.send(tunnel.head("GET", "/body?n=3")).answer().body == pattern(3)
    assert backend.seen[0].get("te") == "trailers", "the agent says that trailers are welcome"


def test_a_trailer_may_not_smuggle_framing(tunnel, backend):
    with tunnel.wire() as wire:
        wire.send(tunnel.head("POST", "/echo", "Transfer-Encoding: chunked")
                  + chunked(b"data", trailers=b"Content-Length: 0\r\n"))
        assert wire.answer().status == 400
    assert not any(seen.complete for seen in backend.seen)


@pytest.mark.parametrize("extension", [b";a", b";a=b", b';a="b c"', b" ; a = b"])
def test_chunk_extensions_are_dropped_or_refused(tunnel, backend, extension):
    with tunnel.wire() as wire:
        wire.send(tunnel.head("POST", "/echo", "Transfer-Encoding: chunked") + b"4" + extension + b"\r\ndata\r\n0\r\n\r\n")
        answer = wire.answer()
    if answer.status == 200:
        assert backend.last().body == b"data"
    else:
        assert answer.status == 400


def test_an_until_close_answer_is_chunked_for_the_client(tunnel):
    with tunnel.wire() as wire:
        answer = wire.send(tunnel.head("GET", "/until-close?n=100000")).answer()
        assert answer.get("Transfer-Encoding") == "chunked"
        assert answer.body == pattern(100_000)
        assert wire.send(tunnel.head("GET", "/body?n=3")).answer().body == pattern(3)


def test_an_http10_backend(tunnel):
    answer = tunnel.get("/http10")
    assert (answer.status, answer.version, answer.body) == (200, "1.1", b"from the nineties")


def test_expect_100_continue_end_to_end(tunnel, backend):
    with tunnel.wire() as wire:
        wire.send(tunnel.head("POST", "/expect?pause=0.2", "Expect: 100-continue", "Content-Length: 4"))
        seen = backend.wait_seen()
        assert seen.get("expect") == "100-continue"
        assert wire.head().status == 100
        wire.send(b"body")
        answer = wire.answer()
        assert answer.status == 200 and not answer.interim
    assert seen.body == b"body"


def test_expect_100_continue_comes_from_the_backend_not_from_us(tunnel, backend):
    with tunnel.wire() as wire:
        wire.send(tunnel.head("POST", "/expect?pause=0.6", "Expect: 100-continue", "Content-Length: 4"))
        wire.expect_silence(0.4)
        assert wire.head().status == 100
        wire.send(b"body")
        assert wire.answer().status == 200


def test_a_refused_expectation_sends_no_body(tunnel, backend):
    with tunnel.wire() as wire:
        wire.send(tunnel.head("POST", "/expect?refuse=1", "Expect: 100-continue", "Content-Length: 400000"))
        answer = wire.answer()
        assert answer.status == 417 and not answer.interim
    assert backend.last().body_bytes == 0


def test_curl_uploads_with_expect(tunnel, backend, curl, tmp_path):
    data = tmp_path / "data"
    data.write_bytes(pattern(3_000_000))
    done = curl("--data-binary", f"@{data}", "-H", "Expect: 100-continue", "-H", f"Authorization: Bearer {tunnel.token}",
                "--expect100-timeout", "20", tunnel.url("/expect"))
    assert json.loads(done.stdout)["sha256"] == hashlib.sha256(pattern(3_000_000)).hexdigest()


def test_an_unknown_expectation_is_417(tunnel, backend):
    assert tunnel.ask("POST", "/echo", "Expect: a-miracle", body=b"x").status == 417
    assert not backend.seen


def test_103_is_relayed_as_it_comes(tunnel):
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/hints?pause=0.3"))
        first = wire.head()
        assert (first.status, first.get("Link")) == (103, "</style.css>; rel=preload")
        wire.expect_silence(0.1)
        answer = wire.answer()
        assert [i.get("Link") for i in answer.interim] == ["</more.css>; rel=preload"]
        assert (answer.status, answer.body) == (200, b"hinted")


def test_interim_answers_are_kept_from_http10_clients(tunnel):
    with tunnel.wire() as wire:
        wire.send(f"GET {tunnel.path('/hints')} HTTP/1.0\r\nAuthorization: Bearer {tunnel.token}\r\n\r\n")
        answer = wire.answer()
        assert answer.status == 200 and not answer.interim and answer.body == b"hinted"


@pytest.mark.parametrize("size", [100_000, 50_000_000])
def test_an_early_answer_reaches_a_client_that_is_still_uploading(tunnel, size):
    with tunnel.wire() as wire:
        wire.send(tunnel.head("POST", "/early", f"Content-Length: {size}") + pattern(50_000))
        answer = wire.answer()
        assert (answer.status, answer.body) == (413, b"too much\n")


def test_an_early_answer_survives_a_client_that_goes_on_pushing(tunnel):
    """The client writes on without reading: a RST on unread data would destroy the 413."""
    with tunnel.wire() as wire:
        wire.send(tunnel.head("POST", "/early", "Content-Length: 2000000"))
        wire.socket.settimeout(5)
        try:
            for at in range(0, 2_000_000, 50_000):
                wire.send(pattern(50_000, at))
        except OSError:
            pass
        assert wire.answer().status == 413


def test_curl_sees_the_early_answer(tunnel, curl, tmp_path):
    data = tmp_path / "data"
    data.write_bytes(bytes(20_000_000))
    done = curl("-T", data, "-H", "Expect:", "-H", f"Authorization: Bearer {tunnel.token}", "-o", "-", "-w", " %{http_code}",
                tunnel.url("/early"), code=None)
    assert done.stdout == b"too much\n 413", done.stderr


def test_an_early_success_with_the_body_read_on_keeps_everything(tunnel, backend):
    with tunnel.wire() as wire:
        wire.send(tunnel.head("POST", "/early?code=200&drain=1", "Content-Length: 300000"))
        assert wire.final_head().status == 200


def test_requests_library_session(tunnel):
    with requests.Session() as session:
        session.headers.update(tunnel.auth)
        for n in (10, 100_000):
            assert session.get(tunnel.url(f"/body?n={n}")).content == pattern(n)
        assert session.post(tunnel.url("/echo"), json={"a": 1}).json()["length"] == 8
        generator = (pattern(1000) for _ in range(10))
        assert session.post(tunnel.url("/echo"), data=generator).json()["length"] == 10_000


def test_a_half_closed_client_counts_as_gone(tunnel, backend):
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/hang"))
        seen = backend.wait_seen()
        wire.half_close()
        assert seen.gone.wait(5), "a FIN during an HTTP answer cancels (design section 4)"


def test_backend_connections_are_pooled(tunnel, backend):
    tunnel.get("/body?n=1")
    before = backend.accepted
    with tunnel.wire() as wire:
        for _ in range(30):
            wire.send(tunnel.head("GET", "/body?n=1")).answer()
    assert backend.accepted - before <= 1


def test_many_connections_at_once(tunnel):
    wires = [tunnel.wire() for _ in range(200)]
    try:
        for n, wire in enumerate(wires):
            wire.send(tunnel.head("GET", f"/body?n={n * 100}"))
        for n, wire in enumerate(wires):
            assert wire.answer().body == pattern(n * 100)
    finally:
        for wire in wires:
            wire.close()


def test_ipv6_clients(workshop):
    from lib.settings import free_port
    from lib.wire import Wire
    tunnel = workshop.tunnel("--listen-address", "*", backend=workshop.backend())
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.connect(("::1", tunnel.server.port))
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")
    assert free_port()
    wire = Wire.__new__(Wire)
    wire.socket = socket.create_connection(("::1", tunnel.server.port), 10)
    wire.buffer, wire.ended = bytearray(), False
    with wire:
        assert wire.send(tunnel.head("GET", "/echo")).answer().status == 200
    assert tunnel.backend.last().get("x-forwarded-for") == "::1"
