"""A backend with every odd behaviour, in a thread of the test process: it records exactly what it was sent.

The path chooses the behaviour (ROUTES below); `Backend(script)` instead runs `async script(Peer)` on each connection.
"""
import asyncio
import dataclasses
import hashlib
import json
import socket
import struct
import threading
import time
from urllib.parse import parse_qs, urlsplit

from lib import tls as tls_lib
from lib.settings import PATIENCE, wait_until

KEEP_BYTES = 1 << 20  # of a body, to look at; the digest is of all of it


_BLOCK = bytes(range(251)) * 262


def pattern(count: int, start: int = 0) -> bytes:
    """`count` bytes that tell where they belong."""
    out = bytearray()
    at = start % 251
    while len(out) < count:
        out += _BLOCK[at:at + count - len(out)]
        at = 0  # a block is whole runs
    return bytes(out)


@dataclasses.dataclass
class Seen:
    """One request as it came."""
    connection: int
    head: bytes
    method: str
    target: str
    version: str
    fields: "list[tuple[str, str]]"
    body: bytes = b""
    body_bytes: int = 0
    trailers: "list[tuple[str, str]]" = dataclasses.field(default_factory=list)
    coding: str = "none"
    complete: bool = False
    error: "str | None" = None
    began: float = 0.0
    gone: threading.Event = dataclasses.field(default_factory=threading.Event)
    gone_at: float = 0.0

    def all(self, name: str):
        return [v for n, v in self.fields if n.lower() == name.lower()]

    def get(self, name: str):
        values = self.all(name)
        assert len(values) <= 1, f"{name}: {values}"
        return values[0] if values else None

    @property
    def names(self):
        return [n.lower() for n, _ in self.fields]


class Peer:
    """One connection from the agent."""

    def __init__(self, backend: "Backend", number: int, reader, writer):
        self.backend, self.number, self.reader, self.writer = backend, number, reader, writer
        self.received = bytearray()  # by scripts

    async def head(self) -> "Seen | None":
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as short:
            if short.partial:
                self.backend.oddities.append(bytes(short.partial))
            return None
        lines = head[:-4].split(b"\r\n")
        method, target, version = lines[0].decode("latin-1").split(" ")
        fields = []
        for line in lines[1:]:
            name, _, value = line.decode("latin-1").partition(":")
            fields.append((name, value.strip(" \t")))
        seen = Seen(self.number, head, method, target, version, fields, began=time.monotonic())
        length, coding = seen.all("content-length"), seen.all("transfer-encoding")
        if coding and length or len(length) > 1 or len(coding) > 1:
            self.backend.oddities.append(head)
        seen.coding = "chunked" if coding else "length" if length and int(length[0]) else "none"
        self.backend.seen.append(seen)
        return seen

    async def body(self, seen: Seen):
        """The request's body piece by piece."""
        if seen.coding == "length":
            left = int(seen.get("content-length"))
            while left:
                piece = await self.reader.read(min(left, 1 << 18))
                if not piece:
                    raise ConnectionError("the request's body was cut")
                left -= len(piece)
                yield piece
        while seen.coding == "chunked":
            line = await self.reader.readuntil(b"\r\n")
            left = int(line.split(b";")[0], 16)
            if left == 0:
                while (line := await self.reader.readuntil(b"\r\n")) != b"\r\n":
                    name, _, value = line[:-2].decode("latin-1").partition(":")
                    seen.trailers.append((name, value.strip()))
                break
            while left:
                piece = await self.reader.read(min(left, 1 << 18))
                if not piece:
                    raise ConnectionError("the request's body was cut")
                left -= len(piece)
                yield piece
            await self.reader.readexactly(2)
        seen.complete = True

    async def take(self, seen: Seen) -> str:
        """Reads the whole body; its SHA-256."""
        digest = hashlib.sha256()
        try:
            async for piece in self.body(seen):
                digest.update(piece)
                seen.body_bytes += len(piece)
                if len(seen.body) < KEEP_BYTES:
                    seen.body += piece[:KEEP_BYTES - len(seen.body)]
        except (ConnectionError, asyncio.IncompleteReadError) as problem:
            seen.error = str(problem)
            self.left(seen)
            raise
        return digest.hexdigest()

    async def send(self, *data: bytes):
        for piece in data:
            self.writer.write(piece)
        await self.writer.drain()
        if self.backend.tls:
            await asyncio.sleep(0)  # a lost TLS transport takes everything without a pause, and nobody would hear of its end

    async def answer(self, status: str, body: bytes = b"", *fields: str):
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields, "", ""]
        await self.send("\r\n".join(lines).encode("latin-1") + body)

    def reset(self):
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def left(self, seen: Seen):
        if not seen.gone.is_set():
            seen.gone_at = time.monotonic()
            seen.gone.set()

    async def until_gone(self, seen: Seen):
        """Waits for the agent to close the connection (requests without a body under way)."""
        try:
            while await self.reader.read(65536):
                pass
        except OSError:
            pass
        self.left(seen)

    def watch(self, seen: Seen):
        return asyncio.ensure_future(self.until_gone(seen))


# --- behaviours: each gets (peer, seen, arguments of the query) and may return "close" ------------

async def echo(peer, seen, query):
    digest = await peer.take(seen)
    text = json.dumps({"method": seen.method, "target": seen.target, "version": seen.version, "fields": seen.fields,
                       "length": seen.body_bytes, "sha256": digest, "coding": seen.coding, "trailers": seen.trailers})
    await peer.answer("200 OK", b"" if seen.method == "HEAD" else text.encode(), "Content-Type: application/json")


async def status(peer, seen, query):
    await peer.take(seen)
    code = int(query["code"])
    if code in (204, 304):
        await peer.send(f"HTTP/1.1 {code} Fine\r\nETag: \"x\"\r\n\r\n".encode())
    else:
        await peer.answer(f"{code} {query.get('reason', 'Fine')}", query.get("body", "").encode())


async def body(peer, seen, query):
    """n bytes, counted; for HEAD only the head."""
    await peer.take(seen)
    count, step = int(query["n"]), int(query.get("step", 1 << 18))
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % count)
    if seen.method == "HEAD":
        return None
    return await pour(peer, seen, count, step)


async def pour(peer, seen, count, step):
    watch = peer.watch(seen)
    try:
        at = 0
        while at < count and not seen.gone.is_set():
            take = min(step, count - at)
            await peer.send(pattern(take, at))
            at += take
            seen.body_bytes = at
    except OSError:
        peer.left(seen)
    await unwatch(watch)
    return "close" if seen.gone.is_set() else None


async def unwatch(watch):
    watch.cancel()
    try:
        await watch
    except asyncio.CancelledError:
        pass


async def chunks(peer, seen, query):
    await peer.take(seen)
    count, step = int(query["n"]), int(query.get("step", 1000))
    await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for at in range(0, count, step):
        take = min(step, count - at)
        await peer.send(b"%x\r\n%s\r\n" % (take, pattern(take, at)))
    await peer.send(b"0\r\n\r\n")


async def trailers(peer, seen, query):
    await peer.take(seen)
    await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-More\r\n\r\n",
                    b"5\r\nhello\r\n0\r\nX-Sum: 42\r\nX-More: yes it is\r\n\r\n")


async def until_close(peer, seen, query):
    await peer.take(seen)
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n", pattern(int(query["n"])))
    return "close"


async def http10(peer, seen, query):
    await peer.take(seen)
    await peer.send(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n", b"from the nineties")
    return "close"


async def early(peer, seen, query):
    """The answer comes at once, the body is not read; then the connection closes, or (drain=1) the rest is read."""
    text = b"too much\n"
    await peer.answer(f"{query.get('code', '413')} Early", text, "Connection: close")
    if query.get("drain"):
        try:
            await peer.take(seen)
        except (OSError, asyncio.IncompleteReadError):
            pass
    return "close"


async def hints(peer, seen, query):
    await peer.take(seen)
    await peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
    await asyncio.sleep(float(query.get("pause", 0)))
    await peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </more.css>; rel=preload\r\n\r\n")
    await peer.answer("200 OK", b"hinted")


async def expect(peer, seen, query):
    """Reads the body only if it asked for it: 100 first, or with refuse=1 a 417 at once."""
    if query.get("refuse"):
        await peer.answer("417 Expectation Failed", b"no")
        return "close"
    await asyncio.sleep(float(query.get("pause", 0)))
    if seen.get("expect") == "100-continue":
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    return await echo(peer, seen, query)


async def slow(peer, seen, query):
    await peer.take(seen)
    await asyncio.sleep(float(query["s"]))
    await peer.answer("200 OK", b"at last")


async def hang(peer, seen, query):
    """Never answers; notes when the agent leaves."""
    await peer.until_gone(seen)
    return "close"


async def never_read(peer, seen, query):
    """Reads not a byte of the body, and never answers."""
    peer.writer.transport.pause_reading()
    await asyncio.sleep(600)


async def stall(peer, seen, query):
    """A head and n bytes of a longer body, then nothing; notes when the agent leaves."""
    coding = query.get("coding", "length")
    count = int(query.get("n", 10))
    if coding == "chunked":
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (count, pattern(count)))
    elif coding == "close":
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n", pattern(count))
    else:
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", pattern(count))
    await peer.until_gone(seen)
    return "close"


async def cut(peer, seen, query):
    """Dies in the middle of a body: coding = length, chunked, chunk (inside one) or close (a RST then)."""
    await peer.take(seen)
    coding = query["coding"]
    if coding == "length":
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", pattern(500))
    elif coding == "chunked":
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n")
    elif coding == "chunk":
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nhel")
    else:
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n", b"hello")
    await asyncio.sleep(float(query.get("pause", 0.05)))
    if coding == "close" or query.get("reset"):
        peer.reset()
    return "close"


async def drop(peer, seen, query):
    """Closes without an answer, having read the body (or nothing of it: unread=1)."""
    if not query.get("unread"):
        await peer.take(seen)
    return "close"


async def sse(peer, seen, query):
    """n events, `every` seconds apart, the first after `first` seconds; each says when it left."""
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
                    b"Transfer-Encoding: chunked\r\n\r\n")
    watch = peer.watch(seen)
    await asyncio.sleep(float(query.get("first", 0)))
    try:
        for index in range(int(query.get("n", 5))):
            if seen.gone.is_set():
                return "close"
            event = b"data: %d %.6f\n\n" % (index, time.monotonic())
            await peer.send(b"%x\r\n%s\r\n" % (len(event), event))
            seen.body_bytes += len(event)
            await asyncio.sleep(float(query.get("every", 0.1)))
        await peer.send(b"0\r\n\r\n")
    except OSError:
        peer.left(seen)
        return "close"
    await unwatch(watch)
    return None


async def duplex(peer, seen, query):
    """Sends each piece of the body back as it comes."""
    await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    try:
        async for piece in peer.body(seen):
            seen.body_bytes += len(piece)
            await peer.send(b"%x\r\n" % len(piece), piece, b"\r\n")
    except (OSError, asyncio.IncompleteReadError) as problem:
        seen.error = str(problem)
        peer.left(seen)
        return "close"
    await peer.send(b"0\r\n\r\n")
    return None


async def fields(peer, seen, query):
    """Whatever fields the query asks for: f=Name:value, any number of times; raw otherwise."""
    await peer.take(seen)
    extra = "".join(f + "\r\n" for f in query.get("f", []))
    await peer.send(f"HTTP/1.1 200 OK\r\n{extra}Content-Length: 2\r\n\r\nok".encode("latin-1"))


async def upgrade(peer, seen, query):
    """101, then a raw echo in both directions that passes a half-close on. first=TEXT: sent with the 101."""
    if query.get("refuse"):
        await peer.answer("403 Forbidden", b"no upgrade for you")
        return None
    await peer.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: %s\r\nConnection: Upgrade\r\n\r\n"
                    % (seen.get("upgrade") or "x").encode() + query.get("first", "").encode())
    try:
        if query.get("half"):  # speaks, half-closes, and still listens
            await peer.send(b"my part")
            peer.writer.write_eof()
        while piece := await peer.reader.read(65536):
            seen.body_bytes += len(piece)
            seen.body += piece
            if not query.get("half"):
                await peer.send(piece)
        if not query.get("half"):
            await peer.send(b"<end>")
    except OSError:
        pass
    peer.left(seen)
    return "close"


ROUTES = {f.__name__: f for f in (echo, status, body, chunks, trailers, until_close, http10, early, hints, expect, slow, hang, never_read,
                                  stall, cut, drop, sse, duplex, fields, upgrade)}
MANY = ("f",)  # arguments that may repeat


class Backend:
    """`tls`: an SSLContext, or False for none; by default what the run is about."""

    def __init__(self, script=None, port: int = 0, receive_buffer: "int | None" = None, tls=None):
        self.script = script
        self.tls = tls_lib.run_backend() if tls is None else tls or None
        self.seen: "list[Seen]" = []
        self.oddities: "list[bytes]" = []  # bytes that are no request, or one that may be read in two ways
        self.accepted = 0
        self.open = 0
        self.port = port
        self.receive_buffer = receive_buffer
        self._writers = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(PATIENCE)

    @property
    def url(self) -> str:
        return self.url_at(self.port)

    def url_at(self, port: int, host: str = "127.0.0.1") -> str:
        """Where it is for who reaches it by another way."""
        return f"http{'s' if self.tls else ''}://{host}:{port}"

    def _run(self):
        asyncio.set_event_loop(self._loop)
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.receive_buffer:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        listener.bind(("127.0.0.1", self.port))
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._accept, sock=listener, limit=1 << 19, backlog=512, ssl=self.tls))
        self.port = listener.getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _accept(self, reader, writer):
        self.accepted += 1
        self.open += 1
        self._writers.add(writer)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = Peer(self, self.accepted, reader, writer)
        try:
            if self.script:
                await self.script(peer)
            else:
                await self._serve(peer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            self._writers.discard(writer)
            if not writer.transport.is_closing():
                writer.close()

    async def _serve(self, peer):
        while seen := await peer.head():
            url = urlsplit(seen.target)
            name = url.path.strip("/").split("/")[0].replace("-", "_")
            query = {k: v if k in MANY else v[-1] for k, v in parse_qs(url.query, keep_blank_values=True).items()}
            if await ROUTES.get(name, echo)(peer, seen, query) == "close":
                return

    def last(self) -> Seen:
        assert self.seen, "the backend was sent nothing"
        return self.seen[-1]

    def wait_seen(self, count: int = 1, timeout: float = PATIENCE) -> Seen:
        """The newest request, once there have been `count`."""
        wait_until(lambda: len(self.seen) >= count, f"the backend sees {count} requests", timeout)
        return self.seen[-1]

    def forget(self):
        self.seen.clear()
        self.oddities.clear()

    def close(self):
        """Stops listening and drops every connection."""
        if not self._thread.is_alive():
            return

        def stop():
            self._server.close()
            if self.tls:  # its transports would say goodbye first, to nobody
                for writer in self._writers:
                    writer.transport.abort()
            self._loop.call_soon(self._loop.stop)
        self._loop.call_soon_threadsafe(stop)
        self._thread.join(PATIENCE)
