"""An agent that speaks gimlet.v1 (src/frame/PROTOCOL.md) as a test commands, to meet a server alone: its answers are
frames as they are, legal or not."""
import base64
import json
import os
import socket
import struct

from old_peer import WebSocket
from peers.native_server import CREDIT, DATA, END, HEAD, HELLO, OPEN, PING, PONG, READY, RESET, STOP, UNKNOWN, fields

__all__ = ["CREDIT", "DATA", "END", "HEAD", "NativeAgent", "OPEN", "RESET", "STOP", "response"]


def response(status=200, pairs=(), length=UNKNOWN, flags=0, reason="") -> bytes:
    return struct.pack("<BBHBBHQ", 2, flags, status, len(reason), 0, len(pairs), length) + reason.encode() + fields(pairs)


class NativeAgent(WebSocket):
    """Joined and ready, unless `ready` is False. `hello` is the server's."""

    def __init__(self, port: int, token: str, ready: bool = True, timeout: float = 20.0, context=None, receive_buffer=None):
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(timeout)
        sock.connect(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context:
            sock = context.wrap_socket(sock, server_hostname="127.0.0.1")
        super().__init__(sock, client=True)
        self.instance, self.frames = os.urandom(8).hex(), bytearray()
        sock.sendall((f"GET /agent HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\n"
                      f"Upgrade: websocket\r\nSec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
                      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: gimlet.v1\r\n"
                      f"Gimlet-Instance: {self.instance}\r\n\r\n").encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += sock.recv(1)
        assert head.startswith(b"HTTP/1.1 101 "), head
        kind, _, _, payload = self.recv()
        assert kind == HELLO
        self.hello = json.loads(payload)
        if ready:
            self.send(READY, 0, json.dumps({"instance": self.instance, "window": 65536}).encode())

    def send(self, kind, stream, payload=b"", flags=0):
        self.message(struct.pack("<BBHI", kind, flags, len(payload), stream) + payload)

    def recv(self):
        """The next frame: (type, flags, stream, payload). PINGs are answered in passing."""
        while True:
            while len(self.frames) < 8 or len(self.frames) < 8 + int.from_bytes(self.frames[2:4], "little"):
                kind, data = self.receive()
                assert kind == 2, (kind, data[:100])
                self.frames += data
            kind, flags, size, stream = struct.unpack_from("<BBHI", self.frames)
            payload = bytes(self.frames[8:8 + size])
            del self.frames[:8 + size]
            if kind == PING:
                self.send(PONG, 0, payload)
                continue
            return kind, flags, stream, payload

    def until(self, *kinds):
        """The next frame of one of those types; others are of no interest."""
        while (got := self.recv())[0] not in kinds:
            pass
        return got

    def request(self) -> int:
        """The stream of the next request."""
        return self.until(OPEN)[2]

    def respond(self, stream, body=b"", status=200, pairs=()):
        self.send(HEAD, stream, response(status, pairs, len(body), 2 if body else 0))
        self.send(DATA, stream, body, 1)
