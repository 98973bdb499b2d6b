"""TLS whose records are the kernel's: what passes, what must not be lost, how it ends. Where this kernel has no TLS, tests/vm runs
these on one that has."""
import hashlib
import pathlib
import socket
import ssl
import time

import pytest

from lib import tls
from lib.backend import pattern
from lib.settings import wait_until
from lib.tls import client_context, server_context
from lib.wire import Truncated, chunked

ULP = pathlib.Path("/proc/sys/net/ipv4/tcp_available_ulp")
pytestmark = pytest.mark.skipif(not ULP.exists() or "tls" not in ULP.read_text().split(),
                                reason="this kernel has no TLS (module tls is not loaded): tests/vm/run.sh")
SENDS, RECEIVES = "tls_kernel_sends", "tls_kernel_receives"


@pytest.fixture(params=["1.2", "1.3"])
def spoken(request, secure):
    """A version that the kernel does, with the tunnel that has TLS on every leg."""
    found = secure.server.wait_log("TLS")[0]
    assert found["kernelTls"] in ("TLS 1.2", "TLS 1.3 and 1.2"), found
    if request.param not in found["kernelTls"]:
        pytest.skip(found["kernelTlsNot"])
    return secure, request.param


def kernel_connections(tunnel) -> "tuple[int, int]":
    counters = tunnel.server.counters()
    return counters[SENDS], counters[RECEIVES]


def test_requests_of_every_sort(spoken):
    tunnel, version = spoken
    sends, receives = kernel_connections(tunnel)
    data = pattern(300_000)
    with tunnel.wire(tls=client_context(version=version)) as wire:
        assert wire.send(tunnel.head("GET", "/body?n=1")).answer().body == pattern(1)
        wire.send(tunnel.head("POST", "/echo", "Transfer-Encoding: chunked") + chunked(data[:100], data[100:]))
        assert hashlib.sha256(data).hexdigest().encode() in wire.answer().body
        assert wire.send(tunnel.head("GET", "/body?n=3000000")).answer().body == pattern(3_000_000)
        wire.send(tunnel.head("GET", "/sse?n=5&every=0.05"))
        assert b"".join(wire.body_pieces(wire.final_head())).count(b"data:") == 5
    now = kernel_connections(tunnel)
    assert now[0] > sends and now[1] > receives, "that is what was to be tested"


def test_a_slow_reader_gets_everything_before_the_end(spoken):
    """The kernel seals into a queue of its own, which it would drop with the connection."""
    tunnel, version = spoken
    with tunnel.wire(tls=client_context(version=version), receive_buffer=8192) as wire:
        wire.send(tunnel.head("GET", "/body?n=2500000", "Connection: close"))
        seen = tunnel.backend.wait_seen()
        time.sleep(1)
        assert wire.answer().body == pattern(2_500_000), seen
        assert wire.until_end() == b"", "close_notify, and no cut"


def test_a_cut_upload_is_no_whole_one(spoken):
    tunnel, version = spoken
    with tunnel.wire(tls=client_context(version=version)) as wire:
        wire.send(tunnel.head("POST", "/echo", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n")
        seen = tunnel.backend.wait_seen()
        wire.socket.raw.shutdown(socket.SHUT_WR)
        assert seen.gone.wait(30) and not seen.complete


def test_a_forged_record_ends_the_connection_alone(spoken):
    tunnel, version = spoken
    failed = tunnel.server.counter("tls_failed")
    with tunnel.wire(tls=client_context(version=version)) as wire:
        assert wire.send(tunnel.head("GET", "/body?n=7")).answer().body == pattern(7)
        wire.socket.raw.sendall(b"\x17\x03\x03\x00\x40" + bytes(64))
        with pytest.raises((ssl.SSLError, ConnectionError, Truncated)) as caught:
            wire.send(tunnel.head("GET", "/body?n=7")).answer()
        if isinstance(caught.value, ssl.SSLError):
            assert "MAC" in str(caught.value).upper(), caught.value
    wait_until(lambda: tunnel.server.counter("tls_failed") > failed, "the forgery is counted")
    assert tunnel.ask("GET", "/body?n=9", tls=client_context(version=version)).body == pattern(9)


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "cut"])
def test_an_https_backend(spoken, workshop, whole):
    """Each connection: one answer, and then an end without close_notify, in or behind the answer."""
    _, version = spoken

    async def script(peer):
        while seen := await peer.head():
            await peer.take(seen)
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (70_000 if whole else 90_000) + pattern(70_000))
            if not whole:
                peer.writer.transport.abort()
    tunnel = workshop.tunnel(backend=workshop.backend(script, tls=server_context(version=version)))
    with tunnel.wire() as wire:
        for _ in range(3 if whole else 1):
            wire.send(tunnel.head("GET", "/"))
            if whole:
                assert wire.answer().body == pattern(70_000)
            else:
                with pytest.raises((Truncated, ConnectionResetError)):
                    wire.answer()


def test_off_is_off(workshop):
    """Where it is not asked for, our own records are as good."""
    tunnel = workshop.tunnel("--kernel-tls", "off", secure=tls.world().server)
    assert tunnel.server.wait_log("TLS")[0]["kernelTlsNot"] == "off"
    assert tunnel.ask("GET", "/body?n=100000").body == pattern(100_000)
    assert kernel_connections(tunnel) == (0, 0)
