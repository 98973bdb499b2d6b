#!/usr/bin/python3
"""A new connection for every request: _handshakes.py full|resumed URL PROCESSES SECONDS AUTHORIZATION.

Each process asks, reads the answer to its end, closes and begins again; `resumed` offers the
session of the connection before. Prints one line of JSON. Failed: errors, answers other than 200,
and handshakes that were not of the kind asked for.
"""
import json
import multiprocessing
import socket
import ssl
import sys
import time


def exchange(peer: socket.socket, request: bytes) -> bool:
    peer.sendall(request)
    answer = b""
    while data := peer.recv(65536):
        answer += data
    return answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"Hello, world")


class Caller:
    """One process: its session, its request and what became of its connections."""

    def __init__(self, kind: str, url: str, authorization: str):
        _, _, host, path = url.split("/", 3)
        self.kind, self.port, self.session = kind, int(host.split(":")[1]), None
        self.request = f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {authorization}\r\nConnection: close\r\n\r\n".encode()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE

    def call(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as plain:
            with self.context.wrap_socket(plain, session=self.session) as peer:
                good = exchange(peer, self.request)
                expected = self.session is not None
                if self.kind == "resumed":
                    self.session = peer.session
                return good and peer.session_reused == expected


def work(kind, url, authorization, seconds, results):
    caller, took, failed, error = Caller(kind, url, authorization), [], 0, ""
    if kind == "resumed":
        caller.call()
    began = now = time.monotonic()
    while now - began < seconds:
        try:
            good = caller.call()
        except OSError as raised:
            good, error = False, str(raised)
            caller.session = None
        failed += not good
        before, now = now, time.monotonic()
        took.append(now - before)
    results.put((took, failed, error, now - began))


def main() -> int:
    kind, url, processes, seconds, authorization = sys.argv[1:]
    results = multiprocessing.Queue()
    workers = [multiprocessing.Process(target=work, args=(kind, url, authorization, float(seconds), results))
               for _ in range(int(processes))]
    for worker in workers:
        worker.start()
    parts = [results.get(timeout=float(seconds) + 60) for _ in workers]
    for worker in workers:
        worker.join()
    took = sorted(one for part in parts for one in part[0])
    print(json.dumps({"units": len(took), "seconds": max(part[3] for part in parts),
                      "failed": sum(part[1] for part in parts),
                      "error": next((part[2] for part in parts if part[2]), ""),
                      "p50_us": round(took[len(took) // 2] * 1e6), "p99_us": round(took[len(took) * 99 // 100] * 1e6)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
