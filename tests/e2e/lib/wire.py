"""An HTTP/1.1 client that sends exact bytes and reads strictly: what a lenient library forgives fails here."""
import dataclasses
import re
import socket
import struct
import time

from lib.settings import PATIENCE
from lib.tls import TlsSocket


class Truncated(Exception):
    """The answer ended before its own framing said so."""


class Malformed(Exception):
    """The answer is not HTTP."""


@dataclasses.dataclass
class Answer:
    status: int
    reason: str
    version: str
    fields: "list[tuple[str, str]]"
    body: bytes = b""
    trailers: "list[tuple[str, str]]" = dataclasses.field(default_factory=list)
    interim: "list[Answer]" = dataclasses.field(default_factory=list)
    chunks: int = 0

    def all(self, name: str) -> "list[str]":
        return [v for n, v in self.fields if n.lower() == name.lower()]

    def get(self, name: str) -> "str | None":
        values = self.all(name)
        assert len(values) <= 1, f"{name} stands {len(values)} times: {values}"
        return values[0] if values else None

    @property
    def error(self) -> "str | None":
        return self.get("X-Gimlet-Error")


_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2}) ([\t\x20-\x7e\x80-\xff]*)\Z")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")


def parse_fields(lines: "list[bytes]") -> "list[tuple[str, str]]":
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.match(name) or b"\r" in value or b"\n" in value:
            raise Malformed(f"field line {line!r}")
        fields.append((name.decode(), value.strip(b" \t").decode("latin-1")))
    return fields


class Wire:
    """One connection to the server (or to anything that speaks HTTP/1.1). `tls`: an SSLContext; more: of TlsSocket."""

    def __init__(self, address, timeout: float = PATIENCE, receive_buffer: "int | None" = None, tls=None, **more):
        if isinstance(address, int):
            address = ("127.0.0.1", address)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect(address)
        if tls:
            try:
                self.socket = TlsSocket(self.socket, tls, **more)
            except BaseException:
                self.socket.close()
                raise
        self.buffer = bytearray()
        self.ended = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # --- out ---
    def send(self, data: "bytes | str"):
        self.socket.sendall(data.encode("latin-1") if isinstance(data, str) else data)
        return self

    def send_slowly(self, data: bytes, step: int = 1, pause: float = 0.0):
        for at in range(0, len(data), step):
            self.socket.sendall(data[at:at + step])
            if pause:
                time.sleep(pause)
        return self

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)

    def close(self):
        self.socket.close()

    def reset(self):
        """Ends the connection with a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    # --- in ---
    def _fill(self):
        if self.ended:
            raise Truncated(f"the connection ended; left over: {bytes(self.buffer[:200])!r}")
        data = self.socket.recv(1 << 18)
        if not data:
            self.ended = True
            raise Truncated(f"the connection ended; left over: {bytes(self.buffer[:200])!r}")
        self.buffer += data

    def line(self) -> bytes:
        while True:
            end = self.buffer.find(b"\n")
            if end >= 0:
                line = bytes(self.buffer[:end + 1])
                del self.buffer[:end + 1]
                if not line.endswith(b"\r\n"):
                    raise Malformed(f"a line ends without CR: {line!r}")
                return line[:-2]
            self._fill()

    def exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            self._fill()
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def some(self) -> bytes:
        """Whatever is there, at least a byte; empty at the end."""
        if not self.buffer:
            try:
                self._fill()
            except Truncated:
                return b""
        data = bytes(self.buffer)
        self.buffer.clear()
        return data

    def until_end(self) -> bytes:
        """Everything up to a clean end. A reset raises ConnectionResetError."""
        while not self.ended:
            try:
                self._fill()
            except Truncated:
                break
        data = bytes(self.buffer)
        self.buffer.clear()
        return data

    def head(self) -> Answer:
        match = _STATUS.match(first := self.line())
        if not match:
            raise Malformed(f"status line {first!r}")
        lines = []
        while line := self.line():
            lines.append(line)
        return Answer(int(match[2]), match[3].decode("latin-1"), f"1.{match[1].decode()}", parse_fields(lines))

    def chunk(self, answer: Answer) -> bytes:
        """One chunk; empty for the last one, behind which the trailers have been read."""
        size = self.line()
        if not re.match(rb"[0-9a-fA-F]{1,16}\Z", size):
            raise Malformed(f"chunk size {size!r}")
        if int(size, 16) == 0:
            lines = []
            while line := self.line():
                lines.append(line)
            answer.trailers = parse_fields(lines)
            return b""
        data = self.exactly(int(size, 16))
        if self.exactly(2) != b"\r\n":
            raise Malformed("a chunk without CRLF behind it")
        answer.chunks += 1
        return data

    def final_head(self) -> Answer:
        interim = []
        while (answer := self.head()).status < 200 and answer.status != 101:
            interim.append(answer)
        answer.interim = interim
        return answer

    def body_pieces(self, answer: Answer, method: str = "GET"):
        """The body piece by piece, by the rules of RFC 9112 section 6.3."""
        coding, length = answer.get("Transfer-Encoding"), answer.get("Content-Length")
        if coding is not None and length is not None:
            raise Malformed("both Transfer-Encoding and Content-Length")
        if method == "HEAD" or answer.status in (204, 304) or answer.status < 200:
            return
        if coding is not None:
            if coding.lower() != "chunked":
                raise Malformed(f"coding {coding!r}")
            while piece := self.chunk(answer):
                yield piece
        elif length is not None:
            left = int(length)
            while left > 0:
                piece = self.some()
                if not piece:
                    raise Truncated(f"{left} of {length} bytes are missing")
                if len(piece) > left:
                    self.buffer[:0] = piece[left:]
                    piece = piece[:left]
                left -= len(piece)
                yield piece
        else:
            while piece := self.some():
                yield piece

    def events(self, answer: Answer):
        """The body event by event: one may lie across the end of a receive buffer on its way, and come as two pieces."""
        buffer = b""
        for piece in self.body_pieces(answer):
            *whole, buffer = (buffer + piece).split(b"\n\n")
            yield from whole
        assert not buffer, f"half an event: {buffer!r}"

    def answer(self, method: str = "GET") -> Answer:
        answer = self.final_head()
        answer.body = b"".join(self.body_pieces(answer, method))
        return answer

    def expect_end(self, timeout: "float | None" = None) -> bytes:
        """Asserts that the peer closes without a reset; gives what came before."""
        if timeout is not None:
            self.socket.settimeout(timeout)
        return self.until_end()

    def expect_silence(self, seconds: float):
        """Asserts that nothing comes and that the connection stays."""
        assert not self.buffer, bytes(self.buffer[:200])
        before = self.socket.gettimeout()
        self.socket.settimeout(seconds)
        try:
            data = self.socket.recv(4096)
        except TimeoutError:
            return
        finally:
            self.socket.settimeout(before)
        raise AssertionError(f"{data!r} came instead of silence" if data else "the connection ended")


def chunked(*pieces: bytes, trailers: bytes = b"") -> bytes:
    """Pieces in the chunked coding, with the end."""
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n" + trailers + b"\r\n"
