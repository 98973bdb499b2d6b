"""PROXY headers before a connection's bytes, and whose word about a request's way is taken."""
import functools
import ipaddress
import socket
import struct
import threading
import time

import pytest

from lib import tls
from lib.settings import PATIENCE, free_port, wait_until
from lib.tunnel import Tunnel
from lib.wire import Wire

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
CLOSED = "connection closed: --proxy-protocol is on"


def v1(source: str, port: int = 4711) -> bytes:
    family = "TCP6" if ":" in source else "TCP4"
    own = "2001:db8::99" if ":" in source else "192.0.2.99"
    return f"PROXY {family} {source} {own} {port} 443\r\n".encode()


def v2(source: "str | None" = None, more: bytes = b"", command: int = 0x21, family: "int | None" = None) -> bytes:
    addresses = b""
    if source:
        packed = ipaddress.ip_address(source).packed
        family = 0x11 if len(packed) == 4 else 0x21
        addresses = packed + bytes(len(packed)) + struct.pack("!HH", 4711, 443)
    return SIGNATURE + struct.pack("!BBH", command, family or 0, len(addresses + more)) + addresses + more


class Balancer:
    """A TCP load balancer: puts `header` before each connection and passes the rest both ways."""

    def __init__(self, target: int, header: bytes):
        self.target, self.header = target, header
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.acceptor = threading.Thread(target=self._accept, daemon=True)
        self.acceptor.start()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.target), PATIENCE)
                far.sendall(self.header)
            except OSError:
                near.close()  # the server is not there yet, or not any more
                continue
            far.settimeout(None)
            for raw in (near, far):
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(a, b), daemon=True).start()

    @staticmethod
    def _pass(a, b):
        try:
            while data := a.recv(1 << 16):
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            for raw in (a, b):
                try:
                    raw.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept(): a close alone leaves it there
        self.acceptor.join(PATIENCE)
        self.listener.close()


def balance(shop, *flags, header=v1("198.51.100.1"), ready=True, secure=False):
    """A tunnel whose server asks for PROXY headers; .port is the balancer's, .direct the server's."""
    server = shop.server("--proxy-protocol", "on", *flags, ready=False, secure=secure)
    server.direct = server.port
    balancer = Balancer(server.direct, header)
    shop.closers.append(balancer.close)
    server.port = balancer.port
    if not ready:
        return server
    server.wait_ready()
    backend = shop.backend()
    agent = shop.agent(server, {"svc": backend.url})
    return Tunnel(server, agent, "svc", backend)


@pytest.fixture
def balanced(workshop):
    """Makes tunnels of a test's own."""
    return functools.partial(balance, workshop)


@pytest.fixture(scope="module")
def standing_behind(standing):
    return balance(standing)


@pytest.fixture(scope="module")
def standing_behind_tls(standing):
    return balance(standing, secure=tls.world().server)


def lend(tunnel, request):
    tunnel.backend.forget()
    tunnel.server.forget_log()
    request.node.processes = tunnel.processes
    yield tunnel
    tunnel.check()
    tunnel.server.wait_idle()


@pytest.fixture
def behind(standing_behind, request):
    """One for all tests that leave it as they found it."""
    yield from lend(standing_behind, request)


@pytest.fixture
def plain(workshop):
    """Makes tunnels without TLS, whatever the run is about."""
    return lambda *flags: workshop.tunnel(*flags, secure=False)


def direct(tunnel) -> Wire:
    return Wire(tunnel.server.direct)


def seen_through(tunnel, header: bytes, *fields: str):
    """The request as the backend gets it when it comes behind that header."""
    with direct(tunnel) as wire:
        assert wire.send(header + tunnel.head("GET", "/echo", *fields)).answer().status == 200
    return tunnel.backend.last()


# --- PROXY headers ------------------------------------------------------------------------------

@pytest.mark.parametrize("header,address", [
    (v1("203.0.113.7"), "203.0.113.7"),
    (v1("2001:db8::7"), "2001:db8::7"),
    (v1("::ffff:203.0.113.7"), "203.0.113.7"),
    (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
    (b"PROXY UNKNOWN 203.0.113.7 ? and so on\r\n", "127.0.0.1"),
    (v2("203.0.113.7"), "203.0.113.7"),
    (v2("2001:db8::7"), "2001:db8::7"),
    (v2("203.0.113.7", b"\x03\x00\x04abcd\x04\x01\x00" + bytes(256)), "203.0.113.7"),
    (v2("203.0.113.7", bytes(536 - 28)), "203.0.113.7"),
    (v2(command=0x20), "127.0.0.1"),
    (v2("203.0.113.7", command=0x20), "127.0.0.1"),
    (v2(more=b"\x03\x00\x04abcd"), "127.0.0.1"),
    (v2(family=0x31, more=bytes(216)), "127.0.0.1"),
], ids=lambda value: repr(value)[:60] if isinstance(value, bytes) else value)
def test_the_header_names_the_client(behind, header, address):
    assert seen_through(behind, header).get("x-forwarded-for") == address
    assert not behind.server.log(CLOSED)


def test_it_names_the_client_of_every_request_of_the_connection(behind):
    request = behind.head("GET", "/echo")
    with direct(behind) as wire:
        wire.send(v2("203.0.113.7") + request + request)
        assert [wire.answer().status for _ in range(2)] == [200, 200]
        assert wire.send(request).answer().status == 200
    assert [seen.get("x-forwarded-for") for seen in behind.backend.seen] == ["203.0.113.7"] * 3


@pytest.mark.parametrize("header", [v1("203.0.113.7"), v2("203.0.113.7", bytes(200))], ids=["v1", "v2"])
@pytest.mark.parametrize("step", [1, 7, 100])
def test_it_may_come_in_pieces(behind, header, step):
    with direct(behind) as wire:
        wire.send_slowly(header + behind.head("GET", "/echo"), step, 0.001)
        assert wire.answer().status == 200
    assert behind.backend.last().get("x-forwarded-for") == "203.0.113.7"


def test_a_body_behind_it_is_whole(behind):
    body = bytes(range(256)) * 4096
    with direct(behind) as wire:
        wire.send(v1("203.0.113.7") + behind.head("POST", "/echo", f"Content-Length: {len(body)}") + body)
        assert wire.answer("POST").status == 200
    assert behind.backend.last().body == body


@pytest.mark.parametrize("start,problem", [
    (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", "without a PROXY header"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), "without a PROXY header"),
    (b"PROXY TCP4 203.0.113.7 192.0.2.1 1\r\n", "malformed"),
    (b"PROXY TCP4 203.0.113.7 192.0.2.1 1 2\n", "malformed"),
    (b"PROXY UNKNOWN " + b"x" * 200, "too long"),
    (v2("203.0.113.7", command=0x22), "malformed"),
    (SIGNATURE + b"\x21\x11\x00\x04abcd", "malformed"),
    (v2("203.0.113.7", bytes(536 - 27)), "too long"),
], ids=["http", "tls", "short", "bare-lf", "long-v1", "command", "addresses", "long-v2"])
def test_anything_else_is_closed_without_an_answer(behind, start, problem):
    refused = behind.server.counter("proxy_refused")
    with direct(behind) as wire:
        wire.send(start)
        try:
            assert wire.expect_end() == b""
        except ConnectionResetError:
            pass  # it had not read all that we sent
    line, = behind.server.wait_log(CLOSED)
    assert problem in line["problem"] and line["from"] == "127.0.0.1" and line["level"] == "warn"
    assert behind.server.counter("proxy_refused") == refused + 1
    assert not behind.backend.seen


def test_a_header_in_the_place_of_a_request_is_a_bad_request(behind):
    with direct(behind) as wire:
        answer = wire.send(v1("203.0.113.7") + v1("203.0.113.8")).answer()
        assert answer.status == 400


def test_without_the_option_a_header_is_a_bad_request(tunnel):
    with tunnel.wire() as wire:
        assert wire.send(v1("203.0.113.7")).answer().status == 400


@pytest.mark.parametrize("start", [b"", b"PROXY TC", SIGNATURE[:5], v2("203.0.113.7")[:20]])
def test_it_must_be_there_in_time(balanced, start):
    tunnel = balanced("--header-timeout", "1s")
    with direct(tunnel) as wire:
        began = time.monotonic()
        wire.send(start)
        assert wire.expect_end() == b""
        assert 0.8 < time.monotonic() - began < PATIENCE / 2
    line, = tunnel.server.wait_log(CLOSED)
    assert "in time" in line["problem"]


def test_the_request_behind_it_has_its_own_time(balanced):
    tunnel = balanced("--header-timeout", "3s")
    with direct(tunnel) as wire:
        time.sleep(1.7)
        wire.send(v1("203.0.113.7"))
        time.sleep(1.7)
        assert wire.send(tunnel.head("GET", "/echo")).answer().status == 200


@pytest.mark.parametrize("start", [b"", b"PROXY", SIGNATURE])
def test_a_balancer_that_only_looks_is_no_warning(behind, start):
    for _ in range(3):
        with direct(behind) as wire:
            wire.send(start).half_close()
            assert wire.expect_end() == b""
    with direct(behind) as wire:
        wire.send(start)
        wire.reset()
    assert behind.get("/echo").status == 200
    assert not behind.server.log(CLOSED)


def test_the_operators_ports_ask_for_none(workshop):
    port = free_port()
    server = workshop.server("--proxy-protocol", "on", "--health-port", port, ready=False)

    def healthy():
        try:
            with Wire(port) as wire:
                return wire.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n").answer().status == 200
        except ConnectionRefusedError:
            return False
    wait_until(healthy, "the health port answers")
    assert server.counters()


def test_connections_without_a_header_yet_do_not_hold_up_the_end(balanced):
    behind = balanced()
    wires = [direct(behind) for _ in range(3)]
    wires[1].send(b"PROXY TCP4")
    wires[2].send(v1("203.0.113.7"))
    time.sleep(0.2)
    began = time.monotonic()
    assert behind.server.stop() == 0
    assert time.monotonic() - began < 5
    for wire in wires:
        assert wire.expect_end() == b""
        wire.close()


def test_incomplete_headers_make_room_for_one_another(balanced):
    """More of them than there are places for heads: the oldest go, quietly, and the newest stay."""
    tunnel = balanced("--ring-memory", "8MiB")
    wires = []
    for _ in range(1500):
        wires.append(direct(tunnel).send(b"PROXY TCP4 203.0.113.7 "))
    assert wires[0].expect_end() == b""
    wires[-1].expect_silence(0.2)
    for wire in wires:
        wire.close()
    assert seen_through(tunnel, v1("203.0.113.8")).get("x-forwarded-for") == "203.0.113.8"
    assert not tunnel.server.log(CLOSED)


# --- Trusted proxies ----------------------------------------------------------------------------

CLAIMS = ["X-Forwarded-For: 203.0.113.9", "x-forwarded-for: 198.51.100.2", "X-Forwarded-Proto: https",
          "X-Forwarded-Host: public.example", "Forwarded: for=203.0.113.9;proto=https", "X-Forwarded-Port: 8443",
          "X-Forwarded-Prefix: /x", "X-Real-IP: 203.0.113.9", "X-Forwarded: left alone", "X-Realm: left alone"]


def claimed(tunnel, *fields: str):
    assert tunnel.get("/echo", *(fields or CLAIMS)).status == 200
    return tunnel.backend.last()


def assert_kept(seen, peer: str):
    assert seen.get("x-forwarded-for") == f"203.0.113.9, 198.51.100.2, {peer}"
    assert seen.get("x-forwarded-proto") == "https"
    assert seen.get("x-forwarded-host") == "public.example"
    assert seen.get("x-forwarded-port") == "8443"
    assert seen.get("x-real-ip") == "203.0.113.9"
    assert seen.get("x-forwarded") == seen.get("x-realm") == "left alone"


def assert_replaced(seen, peer: str):
    assert seen.get("x-forwarded-for") == peer
    assert seen.get("x-forwarded-proto") == "http"
    assert seen.get("x-forwarded-host") == "test.example"
    assert seen.get("forwarded") == f'for={peer};proto=http;host="test.example"'
    assert not {"x-forwarded-port", "x-forwarded-prefix", "x-real-ip"} & set(seen.names)
    assert seen.get("x-forwarded") == seen.get("x-realm") == "left alone"
    assert b"203.0.113.9" not in seen.head or peer == "203.0.113.9"


def test_unset_everybodys_word_is_taken(tunnel):
    seen = claimed(tunnel)
    assert_kept(seen, "127.0.0.1")
    assert seen.get("forwarded") == "for=203.0.113.9;proto=https"


@pytest.mark.parametrize("networks", ["none", "10.0.0.0/8, ::/0", "127.0.0.2"])
def test_the_word_of_others_is_replaced(plain, networks):
    tunnel = plain("--trusted-proxies", networks)
    assert_replaced(claimed(tunnel), "127.0.0.1")
    seen = claimed(tunnel, "X-Any: 1")
    assert seen.get("x-forwarded-for") == "127.0.0.1"
    assert seen.get("x-forwarded-proto") == "http"
    assert "forwarded" not in seen.names


def test_the_word_of_trusted_proxies_is_kept_and_extended(plain):
    tunnel = plain("--trusted-proxies", "10.0.0.0/8,127.0.0.0/8")
    seen = claimed(tunnel)
    assert_kept(seen, "127.0.0.1")
    assert seen.get("forwarded") == 'for=203.0.113.9;proto=https, for=127.0.0.1;proto=http;host="test.example"'
    seen = claimed(tunnel, "X-Any: 1")
    assert seen.get("x-forwarded-for") == "127.0.0.1"
    assert seen.get("x-forwarded-proto") == "http"
    assert seen.get("x-forwarded-host") == "test.example"


def test_each_connection_is_judged_for_itself(plain):
    """Addresses of this machine, one of them trusted."""
    tunnel = plain("--trusted-proxies", "127.0.0.2")
    for source, judge in (("127.0.0.2", assert_kept), ("127.0.0.1", assert_replaced), ("127.0.0.3", assert_replaced)):
        with socket.create_connection(("127.0.0.1", tunnel.server.port), PATIENCE, (source, 0)) as raw:
            raw.sendall(tunnel.head("GET", "/echo", *CLAIMS))
            assert raw.recv(100).startswith(b"HTTP/1.1 200 ")
        judge(tunnel.backend.last(), source)


def test_a_header_from_others_is_not_taken(balanced):
    server = balanced("--trusted-proxies", "10.0.0.0/8", ready=False)
    wait_until(lambda: "listening" in server.text() or server.log(), "the server has started")

    def refused():
        try:
            with Wire(server.direct) as wire:
                return wire.send(v1("10.0.0.1")).until_end() == b""
        except ConnectionResetError:
            return True
        except ConnectionRefusedError:
            return False
    wait_until(refused, "a connection is closed")
    assert "none of --trusted-proxies" in server.wait_log(CLOSED)[0]["problem"]


def test_whom_the_header_names_is_judged(balanced):
    """The balancer looks at no field: what its clients claim is theirs, unless they are proxies themselves."""
    tunnel = balanced("--trusted-proxies", "127.0.0.1,198.51.100.0/24")
    assert_replaced(seen_through(tunnel, v1("192.0.2.5"), *CLAIMS), "192.0.2.5")
    assert_kept(seen_through(tunnel, v2("198.51.100.77"), *CLAIMS), "198.51.100.77")
    assert_kept(seen_through(tunnel, v2(command=0x20), *CLAIMS), "127.0.0.1")
    seen = seen_through(tunnel, v1("2001:db8::7"), "Forwarded: for=evil")
    assert seen.get("forwarded") == 'for="[2001:db8::7]";proto=http;host="test.example"'


def test_the_longest_host_fits_forwarded(plain):
    tunnel = plain("--trusted-proxies", "none")
    host = "h" * 255 + ":65535"
    with tunnel.wire() as wire:
        assert wire.send(tunnel.head("GET", "/echo", "Forwarded: for=x", host=host)).answer().status == 200
    assert tunnel.backend.last().get("forwarded") == f'for=127.0.0.1;proto=http;host="{host}"'


# --- before TLS ---------------------------------------------------------------------------------

class Preface:
    """A socket that puts bytes before the first that are sent; those together leave in one send, or in steps."""

    def __init__(self, raw: socket.socket, header: bytes, step: int = 1 << 20):
        self.raw, self.header, self.step = raw, header, step

    def __getattr__(self, name):
        return getattr(self.raw, name)

    def sendall(self, data: bytes):
        data, self.header = self.header + data, b""
        for at in range(0, len(data), self.step):
            self.raw.sendall(data[at:at + self.step])
        self.step = 1 << 20

    def send(self, data: bytes) -> int:
        self.sendall(data)
        return len(data)


def secured(tunnel, header: bytes, step: int = 1 << 20) -> Wire:
    """A connection that is TLS behind the header; both begin in one segment."""
    wire = direct(tunnel)
    wire.socket = tls.TlsSocket(Preface(wire.socket, header, step), tunnel.server.context)
    return wire


@pytest.fixture
def behind_tls(standing_behind_tls, request):
    yield from lend(standing_behind_tls, request)


@pytest.mark.parametrize("header", [v1("203.0.113.7"), v2("203.0.113.7"), v2("203.0.113.7", bytes(536 - 28))],
                         ids=["v1", "v2", "longest"])
@pytest.mark.parametrize("step", [1 << 20, 100, 7, 1])
def test_the_header_comes_before_tls(behind_tls, header, step):
    body = bytes(range(256)) * 1024
    with secured(behind_tls, header, step) as wire:
        for _ in range(2):
            wire.send(behind_tls.head("POST", "/echo", f"Content-Length: {len(body)}") + body)
            assert wire.answer("POST").status == 200
    seen = behind_tls.backend.last()
    assert seen.body == body
    assert seen.get("x-forwarded-for") == "203.0.113.7"
    assert seen.get("x-forwarded-proto") == "https"


def test_inside_tls_a_header_is_too_late(behind_tls):
    with direct(behind_tls) as wire:
        wire.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(507))
        try:
            assert wire.expect_end() == b""
        except ConnectionResetError:
            pass
    assert "without a PROXY header" in behind_tls.server.wait_log(CLOSED)[0]["problem"]
    with secured(behind_tls, v1("203.0.113.7")) as wire:
        assert wire.send(v1("203.0.113.8")).answer().status == 400


def test_what_is_no_tls_behind_the_header_is_told_of_whom_it_names(behind_tls):
    with direct(behind_tls) as wire:
        wire.send(v1("203.0.113.7") + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            wire.until_end()
        except ConnectionResetError:
            pass
    line, = behind_tls.server.wait_log("TLS with a client failed")
    assert line["from"] == "203.0.113.7"


def test_the_handshake_has_its_own_time(balanced):
    tunnel = balanced("--header-timeout", "3s", secure=tls.world().server)
    with direct(tunnel) as wire:
        time.sleep(1.7)
        wire.send(v1("203.0.113.7"))
        time.sleep(1.7)
        wire.socket = tls.TlsSocket(wire.socket, tunnel.server.context)
        assert wire.send(tunnel.head("GET", "/echo")).answer().status == 200


def test_whom_is_trusted_over_tls(balanced):
    tunnel = balanced("--trusted-proxies", "127.0.0.1,198.51.100.0/24", secure=tls.world().server)
    for header, claims, proto in ((v1("192.0.2.5"), "http", "https"), (v1("198.51.100.5"), "http", "http")):
        with secured(tunnel, header) as wire:
            wire.send(tunnel.head("GET", "/echo", f"X-Forwarded-Proto: {claims}", "Forwarded: proto=http"))
            assert wire.answer().status == 200
        assert tunnel.backend.last().get("x-forwarded-proto") == proto
    assert tunnel.backend.last().get("forwarded") == \
        'proto=http, for=198.51.100.5;proto=https;host="test.example"'
