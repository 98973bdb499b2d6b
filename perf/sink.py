#!/usr/bin/python3
"""A backend that swallows uploads as fast as the kernel gives them: sink.py PORT. Counted bodies only, keep-alive."""
import re
import socket
import sys
import threading


def serve(peer: socket.socket):
    buffer = bytearray(1 << 22)
    head = b""
    with peer:
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


def main():
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=64)
    while True:
        peer, _ = listener.accept()
        threading.Thread(target=serve, args=(peer,), daemon=True).start()


if __name__ == "__main__":
    main()
