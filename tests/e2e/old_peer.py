"""Peers that speak Gimlet 0.0.x to the byte: an agent and a server, scripted frame by frame, and an agent that serves a
backend by itself as one of 0.0.6 does (a raw pipe, queues of 100 frames, one reader that waits for the slowest)."""
import base64
import hashlib
import http.client
import json
import os
import queue
import socket
import struct
import threading

from lib.settings import wait_until

START, DATA, END, CANCEL = 1, 2, 3, 4
QUEUE_FRAMES = 100
FRAGMENT = 4096
DUPLICATE = "Cannot create multiple connections to a server with the same JWT"


class Closed(Exception):
    """The peer has closed: code (None: without a CLOSE frame) and text."""

    def __init__(self, code=None, text=""):
        super().__init__(f"closed with {code} {text!r}")
        self.code, self.text = code, text


def frame(kind: int, ident: "str | bytes", payload: bytes = b"") -> bytes:
    ident = ident.encode() if isinstance(ident, str) else ident
    return struct.pack(">BI", kind, len(ident)) + ident + payload


def masked(data: bytes, key: bytes) -> bytes:
    pad = (key * (len(data) // 4 + 1))[:len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(pad, "big")).to_bytes(len(data), "big")


class WebSocket:
    """Messages over a socket, as a client (masks, and fragments at 4096) or as a server."""

    def __init__(self, sock: socket.socket, client: bool):
        self.sock, self.client = sock, client
        self.buffer = bytearray()
        self.lock = threading.Lock()
        self.kept = []
        self.answers_pings = True
        self.ponged = threading.Event()

    def _frame(self, opcode: int, data: bytes, fin: bool) -> bytes:
        size, mask = len(data), 0x80 if self.client else 0
        head = bytes([opcode | (0x80 if fin else 0)])
        head += bytes([mask | size]) if size < 126 else bytes([mask | 126]) + struct.pack(">H", size) if size < 65536 \
            else bytes([mask | 127]) + struct.pack(">Q", size)
        if not self.client:
            return head + data
        key = os.urandom(4)
        return head + key + masked(data, key)

    def message(self, data: bytes, opcode: int = 2, fragment: "int | None" = None):
        if not fragment and self.client and opcode < 8:
            fragment = FRAGMENT
        pieces = [data[at:at + fragment] for at in range(0, len(data), fragment)] if fragment else [data]
        pieces = pieces or [b""]
        with self.lock:
            for number, piece in enumerate(pieces):
                self.sock.sendall(self._frame(opcode if number == 0 else 0, piece, number == len(pieces) - 1))

    def text(self, document: "dict | str", **options):
        text = document if isinstance(document, str) else json.dumps(document) + "\n"
        self.message(text.encode(), opcode=1, **options)

    def _take(self, count: int) -> bytes:
        while len(self.buffer) < count:
            data = self.sock.recv(1 << 16)
            if not data:
                raise Closed()
            self.buffer += data
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def receive(self, controls: bool = False):
        """The next message: (opcode, bytes). Pings are answered in passing, unless `controls`."""
        if self.kept:
            return self.kept.pop(0)
        whole, kind = b"", None
        while True:
            first, second = self._take(2)
            assert bool(second & 0x80) != self.client, "an agent masks, a server does not"
            size = second & 0x7F
            if size >= 126:
                size = int.from_bytes(self._take(2 if size == 126 else 8), "big")
            key = self._take(4) if second & 0x80 else None
            data = self._take(size)
            data = masked(data, key) if key else data
            opcode = first & 0x0F
            if opcode == 8:
                raise Closed(int.from_bytes(data[:2], "big") if data else None, data[2:].decode())
            if opcode >= 8:
                if controls:
                    return opcode, data
                if opcode == 9 and self.answers_pings:
                    self.message(data, opcode=10)
                elif opcode == 10:
                    self.ponged.set()
                continue
            kind = opcode if opcode else kind
            whole += data
            if first & 0x80:
                return kind, whole

    def next_text(self) -> dict:
        kind, data = self.receive()
        assert kind == 1, (kind, data[:100])
        return json.loads(data)

    def next_text_of(self, kind: str) -> dict:
        """The next TEXT of that type; others are of no interest."""
        while True:
            document = self.next_text()
            if document.get("type") == kind:
                return document

    def next_frame(self):
        """The next BINARY message: (type, id, payload). TEXT is skipped."""
        while True:
            kind, data = self.receive()
            if kind == 2:
                size = int.from_bytes(data[1:5], "big")
                return data[0], data[5:5 + size].decode(), data[5 + size:]

    def close(self):
        self.sock.close()

    def cut(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class OldAgent(WebSocket):
    """Joins a server as an agent of 0.0.x does. `hello` is the server's first message, or its error."""

    def __init__(self, port: int, token: str, ready: bool = True, timeout: float = 20.0, receive_buffer=None, context=None):
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(timeout)
        sock.connect(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context:
            sock = context.wrap_socket(sock, server_hostname="127.0.0.1")
        super().__init__(sock, client=True)
        key = base64.b64encode(os.urandom(16)).decode()
        sock.sendall((f"GET /agent HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: Go-http-client/1.1\r\n"
                      f"Authorization: Bearer {token}\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
                      "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n\r\n").encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = sock.recv(1)
            if not byte:
                raise Closed()
            head += byte
        self.answer = head.decode("latin-1")
        assert self.answer.startswith("HTTP/1.1 101 "), self.answer
        self.hello = self.next_text()
        if ready and "error" not in self.hello:
            self.text({"type": "ready", "state": "ready"})
            self.heard()

    def heard(self):
        """What the agent has said is known to the server: a ping behind it has been answered."""
        self.message(b"heard?", opcode=9)
        kept = []  # a request may come before the answer
        while (got := self.receive(controls=True)) != (10, b"heard?"):
            if got[0] == 9:
                self.message(got[1], opcode=10)
            elif got[0] < 8:
                kept.append(got)
        self.kept += kept

    def request(self):
        """The next request, whole: (id, head, body). CANCELs of earlier ones are skipped."""
        ident, head, body = None, None, b""
        while True:
            kind, got, payload = self.next_frame()
            if kind == START:
                ident, head = got, payload
            elif got == ident and kind == DATA:
                body += payload
            elif got == ident and kind == END:
                assert payload == b""
                return ident, head, body

    def respond(self, ident: str, head: "str | bytes", *pieces: bytes, error: bytes = b""):
        self.message(frame(START, ident, head.encode() if isinstance(head, str) else head))
        for piece in pieces:
            self.message(frame(DATA, ident, piece))
        self.message(frame(END, ident, error))

    def until(self, kind: int, ident: str):
        while True:
            got = self.next_frame()
            if got[:2] == (kind, ident):
                return got[2]


class Pipe(threading.Thread):
    """An agent of 0.0.6 at work for a backend, until its link ends or stop() is called."""

    def __init__(self, agent: OldAgent, backend_port: int, limit: int = 50):
        super().__init__(daemon=True)
        self.agent, self.port, self.limit = agent, backend_port, limit
        self.requests = {}
        self.failure = None
        agent.sock.settimeout(None)
        self.start()

    def run(self):
        try:
            while True:
                self._deliver(*self.agent.next_frame())
        except (Closed, OSError) as end:
            self.failure = end
        for entry in list(self.requests.values()):
            entry["queue"].put(None)

    def _deliver(self, kind, ident, payload):
        if kind == START:
            if len(self.requests) >= self.limit:
                text = f"Agent concurrent request limit reached ({self.limit})".encode()
                self.agent.respond(ident, f"HTTP/1.1 429 Too Many Requests\r\nContent-Length: {len(text)}\r\n"
                                   "Content-Type: text/plain\r\n\r\n", text)
                return
            entry = {"queue": queue.Queue(QUEUE_FRAMES), "sock": None, "gone": False}
            self.requests[ident] = entry
            threading.Thread(target=self._serve, args=(ident, entry, payload), daemon=True).start()
        elif kind == DATA and (entry := self.requests.get(ident)):
            entry["queue"].put(payload)  # the one reader waits
        elif kind == CANCEL and (entry := self.requests.pop(ident, None)):
            entry["gone"] = True
            if entry["sock"]:
                try:
                    entry["sock"].shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def _feed(self, entry, sock):
        try:
            while (data := entry["queue"].get()) is not None:
                if not entry["gone"]:
                    sock.sendall(data)
        except OSError:
            entry["gone"] = True

    def _serve(self, ident, entry, head):
        sent = False
        try:
            sock = entry["sock"] = socket.create_connection(("127.0.0.1", self.port), 5)
            sock.settimeout(None)
            sock.sendall(head)
            threading.Thread(target=self._feed, args=(entry, sock), daemon=True).start()
            answer = http.client.HTTPResponse(sock, method="GET")  # whatever the request was
            answer.begin()
            fields = "".join(f"{name.title()}: {value}\r\n" for name, value in sorted(answer.getheaders())
                             if name.lower() not in ("transfer-encoding", "trailer"))
            self._send(START, ident, f"HTTP/1.1 {answer.status} {answer.reason}\r\n{fields}\r\n".encode("latin-1"))
            sent = True
            while data := answer.read1(65536):
                self._send(DATA, ident, data)
            error = b"Backend error: unexpected EOF" if answer.length else b""
            self._send(END, ident, error)
        except http.client.IncompleteRead:
            self._send(END, ident, b"Backend error: unexpected EOF")
        except (OSError, http.client.HTTPException, ValueError) as problem:
            if sent:
                self._send(END, ident, f"Backend error: {problem}".encode())
            else:
                self._send(START, ident, b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
                self._send(END, ident)
        finally:
            entry["gone"] = True
            if entry["sock"]:
                entry["sock"].close()
            self.requests.pop(ident, None)
            while not entry["queue"].empty():
                entry["queue"].get_nowait()
            entry["queue"].put(None)

    def _send(self, kind, ident, payload=b""):
        try:
            self.agent.message(frame(kind, ident, payload))
        except OSError:
            pass

    def drain(self):
        """Leaves as 0.0.x does: says so, and goes when nothing is under way; but not before it has been heard."""
        try:
            self.agent.ponged.clear()
            self.agent.text({"type": "draining", "state": "draining"})
            self.agent.message(b"heard?", opcode=9)
        except OSError:
            return  # the server has left first
        wait_until(lambda: self.agent.ponged.is_set() or not self.is_alive(), "the server hears that the agent drains")
        wait_until(lambda: not self.requests or not self.is_alive(), "all requests have been answered")
        self.stop()

    def stop(self):
        try:
            self.agent.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it has ended before
        self.join(10)
        self.agent.close()


class OldLink(WebSocket):
    """One link of an agent, as a 0.0.x server sees it: its request has been read, nothing has been answered."""

    def __init__(self, sock: socket.socket, head: bytes):
        super().__init__(sock, client=False)
        self.head = head.decode("latin-1")

    def field(self, name: str):
        for line in self.head.split("\r\n")[1:]:
            if line.lower().startswith(name.lower() + ": "):
                return line.partition(": ")[2]
        return None

    def upgrade(self):
        key = self.field("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.sock.sendall(("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                           f"Sec-WebSocket-Accept: {accept}\r\n\r\n").encode())

    def greet(self, server_id="old-1", agent="agent-1", service="svc") -> dict:
        self.upgrade()
        self.text({"server_id": server_id, "agent_id": agent, "service_name": service})
        said = self.next_text()
        assert said["type"] == "ready", said
        return said

    def refuse_duplicate(self, server_id="old-1", agent="agent-1"):
        self.upgrade()
        self.text({"error": DUPLICATE, "agent_id": agent, "server_id": server_id, "hint": "one token each"})
        self.sock.close()

    def start(self, ident: str, head: str, *pieces: bytes, end: bool = True):
        self.message(frame(START, ident, head.encode("latin-1")))
        for piece in pieces:
            self.message(frame(DATA, ident, piece))
        if end:
            self.message(frame(END, ident))

    def answer(self, ident: str, cancel: bool = True):
        """A whole answer: (head, body, error)."""
        head, body = None, bytearray()
        while True:
            kind, got, payload = self.next_frame()
            if got != ident:
                continue
            if kind == START:
                assert head is None, "a second START"
                head = payload.decode("latin-1")
            elif kind == DATA:
                body += payload
            elif kind == END:
                if cancel:
                    self.message(frame(CANCEL, ident))
                return head, bytes(body), payload.decode()


class OldServer:
    def __init__(self, timeout: float = 20.0, port: int = 0):
        self.timeout = timeout
        self.listener = socket.create_server(("127.0.0.1", port), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}/agent"

    def accept(self, timeout=None) -> OldLink:
        self.listener.settimeout(timeout or self.timeout)
        sock, _ = self.listener.accept()
        sock.settimeout(self.timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            data = sock.recv(65536)
            assert data, "the agent has gone"
            head += data
        return OldLink(sock, head)

    def close(self):
        self.listener.close()
