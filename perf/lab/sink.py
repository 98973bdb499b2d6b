#!/usr/bin/python3
"""A backend that swallows uploads as fast as the kernel gives them: sink.py PORT [TLS-PORT CERTIFICATE KEY].

Counted bodies only, keep-alive. With four arguments a second port speaks TLS.
"""
import re
import socket
import ssl
import sys
import threading


def serve(peer: socket.socket, context: "ssl.SSLContext | None"):
    buffer = bytearray(1 << 22)
    head = b""
    with (context.wrap_socket(peer, server_side=True) if context else peer) as peer:
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
