"""An HTTP proxy that knows CONNECT alone, and does what a test asks of it."""
import socket
import struct
import threading

from lib.settings import PATIENCE

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n"


class ConnectProxy:
    """Listens on `host`; every tunnel leads to `target` at 127.0.0.1, whatever it was asked for: it is the proxy that
    resolves. `answer`: what a request is answered with; None: nothing is (it hangs). A tunnel stands only behind a 200
    or 204. `step`: the answer leaves in pieces of so many bytes. `heads`: what was asked, `up`: the bytes that
    came through the tunnels from the asking side, as far as they are kept."""

    KEEP = 1 << 20

    def __init__(self, target: int, host: str = "127.0.0.1"):
        self.target, self.host = target, host
        self.answer: "bytes | None" = ESTABLISHED
        self.step = 0
        self.heads: "list[str]" = []
        self.up = bytearray()
        self._sockets: "set[socket.socket]" = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.port = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    @property
    def url(self) -> str:
        return self.url_with("")

    def url_with(self, user: str) -> str:
        return f"http://{user}{'[' + self.host + ']' if ':' in self.host else self.host}:{self.port}"

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _keep(self, sock: socket.socket) -> socket.socket:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._sockets.add(sock)
        return sock

    def _end(self, *sockets: socket.socket):
        for sock in sockets:
            with self._lock:
                self._sockets.discard(sock)
            sock.close()

    def _serve(self, near: socket.socket):
        self._keep(near)
        try:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                byte = near.recv(1)  # whatever comes behind the head belongs to the tunnel
                if not byte:
                    return
                head += byte
            self.heads.append(head.decode("latin-1"))
            answer = self.answer
            if answer is None:
                near.recv(1)  # until the other side has enough
                return
            for at in range(0, len(answer), self.step or len(answer)):
                near.sendall(answer[at:at + (self.step or len(answer))])
            if answer.split(b" ", 2)[1:2] in ([b"200"], [b"204"]):
                self._tunnel(near)
        except OSError:
            pass
        finally:
            self._end(near)

    def _tunnel(self, near: socket.socket):
        far = self._keep(socket.create_connection(("127.0.0.1", self.target), PATIENCE))
        back = threading.Thread(target=self._pump, args=(far, near, None), daemon=True)
        back.start()
        self._pump(near, far, self.up)
        back.join()
        self._end(far)

    def _pump(self, source: socket.socket, target: socket.socket, kept: "bytearray | None"):
        try:
            while data := source.recv(1 << 16):
                if kept is not None and len(kept) < self.KEEP:
                    kept += data
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            for sock in (source, target):
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def cut(self):
        """Ends every connection with a reset."""
        with self._lock:
            sockets = list(self._sockets)
        for sock in sockets:
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept(): a close alone leaves it there
        self._acceptor.join(PATIENCE)
        self._listener.close()
        self.cut()
