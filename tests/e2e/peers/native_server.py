"""A server that speaks gimlet.v1 (src/frame/PROTOCOL.md) as a test commands, to meet an agent alone: frames as they
are, in any order and any pieces, legal or not."""
import base64
import hashlib
import json
import os
import socket
import struct

HELLO, READY, OPEN, HEAD, DATA, TRAILERS, END, RESET, STOP, CREDIT, PING, PONG, DRAIN, DRAIN_ACK = range(1, 15)
END_STREAM, MORE = 1, 2
BODY, UPGRADE, TE_TRAILERS = 2, 4, 8
UNKNOWN = 2**64 - 1
REASONS = {0: "none", 1: "cancelled", 5: "backend_connect", 6: "backend_protocol", 7: "backend_closed", 8: "backend_timeout",
           11: "overload", 13: "agent_limit", 14: "protocol_error", 15: "flow_control", 16: "draining", 28: "not_implemented"}


class Closed(Exception):
    """The agent has closed the link: code (None: without a CLOSE frame) and text."""

    def __init__(self, code=None, text=""):
        super().__init__(f"closed with {code} {text!r}")
        self.code, self.text = code, text


def fields(pairs) -> bytes:
    return b"".join(struct.pack("<HH", len(name), len(value)) + name.encode() + value.encode("latin-1") for name, value in pairs)


def request(method="GET", target="/", authority="test.example", pairs=(), length=UNKNOWN, flags=0) -> bytes:
    return struct.pack("<BBBBHHQHH", 1, flags, len(method), 0, len(target), len(authority), length, len(pairs), 0) \
        + f"{method}{target}{authority}".encode() + fields(pairs)


def read_fields(data: bytes, count: int):
    pairs = []
    for _ in range(count):
        name, value = struct.unpack_from("<HH", data)
        pairs.append((data[4:4 + name].decode(), data[4 + name:4 + name + value].decode("latin-1")))
        data = data[4 + name + value:]
    assert not data, "bytes behind the last field"
    return pairs


class Head:
    def __init__(self, block: bytes):
        kind, self.flags, self.status, reason, _, count, self.length = struct.unpack_from("<BBHBBHQ", block)
        assert kind == 2
        self.reason = block[16:16 + reason].decode()
        self.fields = read_fields(block[16 + reason:], count)


class Link:
    """One link of an agent, as its server sees it."""

    def __init__(self, sock: socket.socket, head: bytes):
        self.sock, self.head = sock, head.decode("latin-1")
        self.messages, self.frames = bytearray(), bytearray()
        self.instance = self.field("Gimlet-Instance")
        self.ready = None
        self.window = {}

    def field(self, name: str):
        for line in self.head.split("\r\n")[1:]:
            if line.lower().startswith(name.lower() + ": "):
                return line.partition(": ")[2]
        return None

    def refuse(self, status: str, text: str):
        self.sock.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}".encode())
        self.sock.close()

    def upgrade(self, protocol="gimlet.v1"):
        key = self.field("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        chosen = f"Sec-WebSocket-Protocol: {protocol}\r\n" if protocol else ""
        self.sock.sendall(("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                           f"Sec-WebSocket-Accept: {accept}\r\n{chosen}\r\n").encode())

    def hello(self, lane=0, lanes=1, instance="server-1", **more):
        document = {"server_id": "peer", "instance": instance, "lane": lane, "lanes": lanes, "stream_limit": 100, "window": 65536,
                    "peers": 1, **more}
        self.send(HELLO, 0, json.dumps(document).encode())

    def greet(self, **hello) -> dict:
        self.upgrade()
        self.hello(**hello)
        kind, _, stream, payload = self.recv()
        assert (kind, stream) == (READY, 0)
        self.ready = json.loads(payload)
        return self.ready

    # --- out ---

    def message(self, data: bytes, opcode=2, fin=True):
        size = len(data)
        head = bytes([opcode | (0x80 if fin else 0)])
        head += bytes([size]) if size < 126 else b"\x7e" + struct.pack(">H", size) if size < 65536 else b"\x7f" + struct.pack(">Q", size)
        self.sock.sendall(head + data)

    @staticmethod
    def frame(kind, stream, payload=b"", flags=0) -> bytes:
        return struct.pack("<BBHI", kind, flags, len(payload), stream) + payload

    def send(self, kind, stream, payload=b"", flags=0):
        self.message(self.frame(kind, stream, payload, flags))

    def open(self, stream, block, window=65536, end=True):
        self.send(OPEN, stream, struct.pack("<I", window) + block, END_STREAM if end else 0)

    def data(self, stream, data: bytes, end=False):
        for start in range(0, len(data), 16384):
            piece = data[start:start + 16384]
            self.send(DATA, stream, piece, END_STREAM if end and start + len(piece) == len(data) else 0)

    def credit(self, stream, delta: int):
        self.send(CREDIT, stream, struct.pack("<I", delta))

    def reset(self, stream, reason=1):
        self.send(RESET, stream, struct.pack("<HH", reason, 0))

    # --- in ---

    def _fill(self, count: int):
        while len(self.messages) < count:
            data = self.sock.recv(1 << 16)
            if not data:
                raise Closed()
            self.messages += data

    def _take(self, count: int) -> bytes:
        self._fill(count)
        data = bytes(self.messages[:count])
        del self.messages[:count]
        return data

    def _message(self):
        first, second = self._take(2)
        assert second & 0x80, "an agent masks"
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(self._take(2 if size == 126 else 8), "big")
        key, data = self._take(4), self._take(size)
        pad = (key * (size // 4 + 1))[:size]
        data = (int.from_bytes(data, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")
        if first & 0x0F == 8:
            raise Closed(int.from_bytes(data[:2], "big") if data else None, data[2:].decode())
        assert first == 0x82, f"an unexpected message {first:#x}"
        self.frames += data

    def recv(self, pings=False):
        """The next frame: (type, flags, stream, payload). PINGs are answered in passing."""
        while True:
            while len(self.frames) < 8 or len(self.frames) < 8 + int.from_bytes(self.frames[2:4], "little"):
                self._message()
            kind, flags, size, stream = struct.unpack_from("<BBHI", self.frames)
            payload = bytes(self.frames[8:8 + size])
            del self.frames[:8 + size]
            if kind == PING and not pings:
                self.send(PONG, 0, payload)
                continue
            return kind, flags, stream, payload

    def until(self, kind, stream=None):
        """The next frame of that type (and stream); others of no interest are dropped."""
        while True:
            frame = self.recv()
            if frame[0] == kind and stream in (None, frame[2]):
                return frame

    def answer(self, stream, grant=True):
        """A whole answer: (Head, body, trailers), or the name of the reason of a RESET and whether it was UNTOUCHED."""
        head, body, trailers = None, b"", []
        while True:
            kind, flags, got, payload = self.recv()
            if got != stream:
                continue
            if kind == HEAD:
                head = Head(payload)
            elif kind == DATA:
                body += payload
                if grant:
                    self.credit(stream, len(payload))
            elif kind == TRAILERS:
                trailers = read_fields(payload[4:], int.from_bytes(payload[2:4], "little"))
            elif kind == RESET:
                reason, untouched = struct.unpack("<HH", payload)
                return REASONS.get(reason, reason), bool(untouched & 1)
            if kind == END or (kind in (HEAD, DATA, TRAILERS) and flags & END_STREAM):
                return head, body, trailers

    def close(self, code=1000):
        try:
            self.message(struct.pack(">H", code), opcode=8)
        except OSError:
            pass
        self.sock.close()

    def cut(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class NativeServer:
    def __init__(self, timeout=30.0):
        self.timeout = timeout
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.listener.settimeout(timeout)
        self.port = self.listener.getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}/agent"

    def accept(self, timeout=None) -> Link:
        """The next link: its request has been read, nothing has been answered."""
        self.listener.settimeout(timeout or self.timeout)
        sock, _ = self.listener.accept()
        sock.settimeout(self.timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            data = sock.recv(65536)
            assert data, "the agent has gone"
            head += data
        return Link(sock, head)

    def close(self):
        self.listener.close()


if __name__ == "__main__":
    server = NativeServer()
    print(f"{server.url}  (pid {os.getpid()})")
    link = server.accept()
    print(link.head, link.greet())
