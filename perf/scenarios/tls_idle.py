"""Memory per idle TLS connection."""
import socket
import time

from lab.drive import wrk
from lab.gauge import resident_bytes
from scenarios._tls import tls_stage

TITLE = "Idle connections with TLS: resident memory of the process that holds them"
ABOUT = """Growth of `VmRSS` (server, or nginx's worker) over 2,000 kept connections that have had one answer each and wait, after 250
that are not counted. Every twentieth must still answer. Each subject is new: what others leave free in a heap would be filled unseen."""
ORDER = 100
PLOT = None
CONNECTIONS, FIRST = 2000, 250
CEILING = 6 << 10


def connect(stage, port: int, tls: bool) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=20)
    return stage.context.wrap_socket(plain, server_hostname="127.0.0.1") if tls else plain


def ask(peer: socket.socket, request: bytes) -> bool:
    peer.sendall(request)
    answer = b""
    while not answer.endswith(b"Hello, world"):
        data = peer.recv(65536)
        if not data:
            return False
        answer += data
    return answer.startswith(b"HTTP/1.1 200 ")


def hold(stage, subject, clock, count: int) -> dict:
    url, headers = subject.request("web", "/small")
    scheme, _, host, *path = url.split("/")
    port, pid = int(host.split(":")[1]), subject.pids[0]
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"GET /{'/'.join(path)} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n".encode()
    held, failed = [], wrk(stage, subject, 1, 1)["failed"]  # every receive buffer has been written to
    try:
        for index in range(FIRST + count):
            if index == FIRST:  # what is allocated once has been
                time.sleep(1)
                before = resident_bytes(pid)
                clock.restart()
            held.append(connect(stage, port, scheme == "https:"))
            failed += not ask(held[-1], request)
        clock.stop()
        time.sleep(2)
        after = resident_bytes(pid)
        for peer in held[::20]:  # still there?
            failed += not ask(peer, request)
    finally:
        for peer in held:
            peer.close()
    return {"units": count, "seconds": clock.spent["span"], "failed": failed, "bytes_each": round((after - before) / count)}


def run(lab):
    count = CONNECTIONS // (10 if lab.seconds <= 1 else 1)
    with tls_stage(lab) as (stage, subjects):
        lab.compare(f"{count:,} connections", subjects, lambda stage, subject, clock: hold(stage, subject, clock, count),
                    unit="connection", rounds=1, stage=stage)
        for subject in subjects:
            lab.note(f"{subject.name}: {lab.row(f'{count:,} connections', subject.name)['bytes_each']:,.0f} B of memory a connection")
        lab.judge("memory of an idle TLS connection", lab.row(f"{count:,} connections", "gimlet")["bytes_each"], CEILING, "B")
