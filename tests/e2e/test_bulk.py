"""Gigabytes through one stream: whole, and with memory that stays flat. Release builds only."""
import threading
import time

import pytest

from lib.settings import wait_until
from test_streaming import echo_through

pytestmark = [pytest.mark.bulk, pytest.mark.slow]

MIB = 1 << 20
GIB = 1 << 30
RING_MEMORY = 64 * MIB  # the default

ZEROES = """
    location = /zero { sendfile on; sendfile_max_chunk 2m; }
    location = /sink { proxy_request_buffering off; proxy_http_version 1.1; proxy_pass http://127.0.0.1:%d; }
"""


@pytest.fixture
def zeroes(workshop):
    """A tunnel to an nginx with a sparse file of 4 GiB."""
    nginx = workshop.nginx(ZEROES % 9)
    with open(nginx.www / "zero", "wb") as file:
        file.truncate(4 * GIB)
    return workshop.tunnel(target=nginx.url)


def within_budget(tunnel, before):
    for process in tunnel.processes:
        rings = tunnel.server.rings
        peak = process.rss_peak_bytes()
        print(f"{process.name}: peak {peak / MIB:.1f} MiB, {peak / MIB - before[process.pid] / MIB:+.1f} MiB")
        assert peak <= rings * RING_MEMORY + 16 * MIB


def test_four_gib_down(zeroes):
    before = {p.pid: p.rss_bytes() for p in zeroes.processes}
    got, since = 0, time.monotonic()
    buffer = bytearray(4 * MIB)
    with zeroes.wire(timeout=60) as wire:
        answer = wire.send(zeroes.head("GET", "/zero")).final_head()
        assert answer.get("Content-Length") == str(4 * GIB)
        got = len(wire.buffer)
        wire.buffer.clear()
        while got < 4 * GIB:
            count = wire.socket.recv_into(buffer)
            assert count, f"cut after {got} bytes"
            got += count
    print(f"4 GiB down in {time.monotonic() - since:.1f} s")
    assert got == 4 * GIB
    within_budget(zeroes, before)
    assert zeroes.server.counter("copies_large") == 0


def test_four_gib_up(workshop):
    """A sink that only counts: a raw thread, as asyncio would be the slowest part."""
    import socket
    listener = socket.create_server(("127.0.0.1", 0))
    counted = []

    def sink():
        peer, _ = listener.accept()
        head = b""
        while b"\r\n\r\n" not in head:
            head += peer.recv(65536)
        got, buffer = len(head.split(b"\r\n\r\n", 1)[1]), bytearray(4 * MIB)
        while got < 4 * GIB and (count := peer.recv_into(buffer)):
            got += count
        counted.append(got)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        peer.close()
    thread = threading.Thread(target=sink, daemon=True)
    thread.start()
    tunnel = workshop.tunnel(target=f"http://127.0.0.1:{listener.getsockname()[1]}")
    before = {p.pid: p.rss_bytes() for p in tunnel.processes}
    since = time.monotonic()
    block = bytes(4 * MIB)
    with tunnel.wire(timeout=60) as wire:
        wire.send(tunnel.head("POST", "/up", f"Content-Length: {4 * GIB}"))
        for _ in range(4 * GIB // len(block)):
            wire.socket.sendall(block)
        assert wire.answer().body == b"ok"
    print(f"4 GiB up in {time.monotonic() - since:.1f} s")
    assert counted == [4 * GIB]
    listener.close()
    within_budget(tunnel, before)
    assert tunnel.server.counter("copies_large") == 0


def test_one_gib_of_full_duplex_echo(workshop):
    tunnel = workshop.tunnel()
    before = {p.pid: p.rss_bytes() for p in tunnel.processes}
    since = time.monotonic()
    echo_through(tunnel, GIB)
    print(f"1 GiB of echo in {time.monotonic() - since:.1f} s")
    within_budget(tunnel, before)


def test_ten_downloads_at_once(zeroes):
    before = {p.pid: p.rss_bytes() for p in zeroes.processes}
    failed = []

    def fetch():
        got, buffer = 0, bytearray(MIB)
        with zeroes.wire(timeout=60) as wire:
            wire.send(zeroes.head("GET", "/zero", f"Range: bytes=0-{256 * MIB - 1}")).final_head()
            got = len(wire.buffer)
            while got < 256 * MIB:
                count = wire.socket.recv_into(buffer)
                if not count:
                    failed.append(got)
                    return
                got += count
    threads = [threading.Thread(target=fetch) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failed
    within_budget(zeroes, before)


def test_memory_is_flat_over_many_small_requests(workshop):
    """A leak of a byte per request would not show in one test; a leak of a hundred does here."""
    tunnel = workshop.tunnel()

    def rounds(count):
        with tunnel.wire() as wire:
            request = tunnel.head("GET", "/body?n=100") * 50
            for _ in range(count):
                wire.send(request)
                for _ in range(50):
                    assert wire.answer().status == 200
    rounds(40)
    wait_until(lambda: tunnel.server.active() == 0, "idle")
    before = [p.rss_bytes() for p in tunnel.processes]
    rounds(200)
    growth = [p.rss_bytes() - b for p, b in zip(tunnel.processes, before)]
    assert max(growth) < 2 * MIB, growth
