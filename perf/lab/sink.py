#!/usr/bin/python3
"""A backend that swallows uploads as fast as the kernel gives them: sink.py PORT [TLS-PORT CERTIFICATE KEY].

Counted bodies only, keep-alive. With four arguments a second port speaks TLS.
"""
import re
import socket
import ssl
import sys
import threading


class Secure:
    """One end of TLS that takes from the kernel what there is. ssl's own sockets read each record with two system calls, and
    whoever sends to them is woken for each: what was measured of a sender was their pace."""

    def __init__(self, peer: socket.socket, context: ssl.SSLContext):
        self.peer, self.coming, self.going = peer, ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.coming, self.going, server_side=True)
        self.wire = bytearray(1 << 18)

    def __enter__(self):
        self.until_done(self.tls.do_handshake)
        return self

    def __exit__(self, *_):
        self.peer.close()

    def until_done(self, step, *arguments):
        while True:
            try:
                return step(*arguments)
            except ssl.SSLWantReadError:
                pass
            finally:
                if self.going.pending:
                    self.peer.sendall(self.going.read())
            if count := self.peer.recv_into(self.wire):
                self.coming.write(memoryview(self.wire)[:count])
            else:
                self.coming.write_eof()

    def recv(self, size: int) -> bytes:
        return self.until_done(self.tls.read, size)

    def recv_into(self, buffer: bytearray, size: int) -> int:
        return self.until_done(self.tls.read, size, buffer)

    def sendall(self, data: bytes):
        self.until_done(self.tls.write, data)


def serve(peer: socket.socket, context: "ssl.SSLContext | None"):
    buffer = bytearray(1 << 22)
    head = b""
    with (Secure(peer, context) if context else peer) as peer:
        while True:
            while (end := head.find(b"\r\n\r\n")) < 0:
                data = peer.recv(65536)
                if not data:
                    return
                head += data
            match = re.search(rb"\r\ncontent-length: *(\d+)", head[:end], re.I)
            left, head = int(match[1]) if match else 0, head[end + 4:]
            surplus = head[left:]
            left -= min(left, len(head))
            head = surplus
            while left > 0:
                count = peer.recv_into(buffer, min(left, len(buffer)))
                if not count:
                    return
                left -= count
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def listen(port: int, context: "ssl.SSLContext | None"):
    listener = socket.create_server(("127.0.0.1", port), backlog=64)
    while True:
        peer, _ = listener.accept()
        threading.Thread(target=serve, args=(peer, context), daemon=True).start()


def main():
    if len(sys.argv) > 2:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[3], sys.argv[4])
        threading.Thread(target=listen, args=(int(sys.argv[2]), context), daemon=True).start()
    listen(int(sys.argv[1]), None)


if __name__ == "__main__":
    main()
