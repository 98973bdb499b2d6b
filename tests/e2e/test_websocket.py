"""Upgrades: WebSocket through the tunnel with a real library, and raw streams with half-closes."""
import asyncio
import base64
import os
import socket
import threading

import pytest
import websockets

from lib.backend import pattern
from lib.settings import PATIENCE
from lib.wire import Truncated


class WebSocketBackend:
    """`websockets` as a backend: echoes, and counts."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.messages = 0
        self.closed = []
        ready = threading.Event()

        def run():
            asyncio.set_event_loop(self.loop)
            server = self.loop.run_until_complete(websockets.serve(self.serve, "127.0.0.1", 0, max_size=1 << 26,
                                                                   subprotocols=["echo.v1"]))
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            self.loop.run_forever()
        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        assert ready.wait(PATIENCE)

    async def serve(self, socket_, path=None):
        try:
            async for message in socket_:
                self.messages += 1
                if message == "close me":
                    await socket_.close(4001, "as you wish")
                elif message == "count":
                    for n in range(1000):
                        await socket_.send(str(n))
                else:
                    await socket_.send(message)
        finally:
            self.closed.append((socket_.close_code, socket_.close_reason))

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE)


@pytest.fixture
def sockets(workshop):
    backend = WebSocketBackend()
    workshop.closers.append(backend.close)
    tunnel = workshop.tunnel(target=f"http://127.0.0.1:{backend.port}")
    tunnel.ws = backend
    return tunnel


def connect(tunnel, **options):
    return websockets.connect(tunnel.url("/chat?x=1").replace("http:", "ws:"), extra_headers=tunnel.auth, max_size=1 << 26,
                              open_timeout=PATIENCE, **options)


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 4 * PATIENCE))


def test_messages_both_ways(sockets):
    async def talk():
        async with connect(sockets) as ws:
            for message in ("hello", "", "é", b"", b"\x00\xff", pattern(125), pattern(126), pattern(65535), pattern(65536),
                            pattern(3_000_000)):
                await ws.send(message)
                assert await ws.recv() == message
    run(talk())


def test_subprotocol_and_ping(sockets):
    async def talk():
        async with connect(sockets, subprotocols=["echo.v1"]) as ws:
            assert ws.subprotocol == "echo.v1"
            await asyncio.wait_for(await ws.ping(), PATIENCE)
    run(talk())


def test_the_backend_speaks_while_the_client_is_silent(sockets):
    async def talk():
        async with connect(sockets) as ws:
            await ws.send("count")
            assert [await ws.recv() for _ in range(1000)] == [str(n) for n in range(1000)]
    run(talk())


def test_close_codes_pass_from_the_backend(sockets):
    async def talk():
        async with connect(sockets) as ws:
            await ws.send("close me")
            with pytest.raises(websockets.ConnectionClosed):
                await ws.recv()
            assert (ws.close_code, ws.close_reason) == (4001, "as you wish")
    run(talk())


def test_close_codes_pass_from_the_client(sockets):
    async def talk():
        async with connect(sockets) as ws:
            await ws.send("x")
            await ws.recv()
            await ws.close(4002, "bye")
    run(talk())
    from lib.settings import wait_until
    wait_until(lambda: sockets.ws.closed, "the backend sees the close")
    assert sockets.ws.closed[0] == (4002, "bye")


def test_fifty_sockets_at_once(sockets):
    async def one(n):
        async with connect(sockets) as ws:
            for k in range(20):
                await ws.send(f"{n}/{k}")
                assert await ws.recv() == f"{n}/{k}"

    async def talk():
        await asyncio.gather(*(one(n) for n in range(50)))
    run(talk())
    assert sockets.ws.messages == 1000


def test_a_wrong_token_opens_no_socket(sockets):
    async def talk():
        with pytest.raises(websockets.InvalidStatusCode) as refused:
            async with websockets.connect(sockets.url("/").replace("http:", "ws:"), extra_headers={"Authorization": "Bearer x"}):
                pass
        assert refused.value.status_code == 401
    run(talk())


# --- raw upgrades ---------------------------------------------------------------------------------

UPGRADE = ("Connection: Upgrade", "Upgrade: raw/1")


def test_the_101_is_whole(tunnel, backend):
    with tunnel.wire() as wire:
        answer = wire.send(tunnel.head("GET", "/upgrade", *UPGRADE)).answer()
        assert (answer.status, answer.get("Upgrade"), answer.get("Connection").lower()) == (101, "raw/1", "upgrade")
        assert answer.get("Transfer-Encoding") is None and answer.get("Content-Length") is None
        seen = backend.last()
        assert seen.get("upgrade") == "raw/1" and seen.get("connection").lower() == "upgrade"
        wire.send(b"ping")
        assert wire.exactly(4) == b"ping"


def test_bytes_that_come_with_the_101(tunnel):
    with tunnel.wire() as wire:
        answer = wire.send(tunnel.head("GET", "/upgrade?first=welcome", *UPGRADE)).answer()
        assert answer.status == 101
        assert wire.exactly(7) == b"welcome"


def test_bytes_that_come_with_the_request_are_kept_until_the_101(tunnel):
    with tunnel.wire() as wire:
        answer = wire.send(tunnel.head("GET", "/upgrade", *UPGRADE) + b"eager").answer()
        assert answer.status == 101
        assert wire.exactly(5) == b"eager"


def test_a_clients_half_close_passes_and_the_answer_still_comes(tunnel):
    with tunnel.wire() as wire:
        assert wire.send(tunnel.head("GET", "/upgrade", *UPGRADE)).answer().status == 101
        wire.send(b"last words")
        wire.half_close()
        assert wire.expect_end() == b"last words<end>"


def test_a_backends_half_close_passes_and_the_client_goes_on(tunnel, backend):
    with tunnel.wire() as wire:
        assert wire.send(tunnel.head("GET", "/upgrade?half=1", *UPGRADE)).answer().status == 101
        assert wire.expect_end() == b"my part"
        wire.send(pattern(200_000))
        wire.half_close()
        seen = backend.last()
        assert seen.gone.wait(PATIENCE)
        assert seen.body == pattern(200_000)


def test_a_refused_upgrade_is_an_ordinary_answer(tunnel, backend):
    with tunnel.wire() as wire:
        answer = wire.send(tunnel.head("GET", "/upgrade?refuse=1", *UPGRADE)).answer()
        assert (answer.status, answer.body) == (403, b"no upgrade for you")
        assert answer.all("Upgrade") == []
        assert wire.send(tunnel.head("GET", "/body?n=4")).answer().body == pattern(4), "the connection goes on"


def test_an_upgrade_that_the_backend_ignores(tunnel, backend):
    with tunnel.wire() as wire:
        answer = wire.send(tunnel.head("GET", "/body?n=70000", *UPGRADE)).answer()
        assert answer.status == 200 and answer.body == pattern(70_000)
        assert wire.send(tunnel.head("GET", "/body?n=4")).answer().body == pattern(4)


def test_a_client_that_leaves_a_raw_stream(tunnel, backend):
    with tunnel.wire() as wire:
        assert wire.send(tunnel.head("GET", "/upgrade", *UPGRADE)).answer().status == 101
        wire.send(b"x")
        wire.exactly(1)
        wire.reset()
    assert backend.last().gone.wait(5)


def test_much_in_both_directions(tunnel):
    size = 8_000_000
    with tunnel.wire() as wire:
        assert wire.send(tunnel.head("GET", "/upgrade", *UPGRADE)).answer().status == 101
        sender = threading.Thread(target=lambda: (wire.send(pattern(size)), wire.half_close()))
        sender.start()
        assert wire.until_end() == pattern(size) + b"<end>"
        sender.join()


def test_a_dead_agent_cuts_a_raw_stream_visibly(workshop):
    tunnel = workshop.tunnel()
    with tunnel.wire() as wire:
        assert wire.send(tunnel.head("GET", "/upgrade", *UPGRADE)).answer().status == 101
        tunnel.agent.kill()
        with pytest.raises(ConnectionResetError):
            wire.until_end()


def test_a_websocket_key_passes_unchanged(tunnel, backend):
    key = base64.b64encode(os.urandom(16)).decode()
    with tunnel.wire() as wire:
        wire.send(tunnel.head("GET", "/upgrade", "Connection: keep-alive, Upgrade", "Upgrade: websocket",
                              f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Extensions: permessage-deflate"))
        assert wire.answer().status == 101
    seen = backend.last()
    assert seen.get("sec-websocket-key") == key and seen.get("sec-websocket-extensions") == "permessage-deflate"


def test_the_socket_is_told_apart_from_a_truncated_answer(tunnel, backend):
    """A backend that dies before its 101 is a 502, not a silent end."""
    with tunnel.wire() as wire:
        try:
            answer = wire.send(tunnel.head("GET", "/drop?unread=1", *UPGRADE)).answer()
        except Truncated:
            pytest.fail("the connection just ended")
        assert answer.status == 502
    assert isinstance(wire.socket, socket.socket)
