"""How this run is parametrised from outside, and times that everything waits by."""
import os
import pathlib
import socket
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
GIMLET = os.environ.get("GIMLET_BIN", str(ROOT / "build" / "gimlet"))
IO = os.environ.get("GIMLET_E2E_IO", "uring")
RINGS = int(os.environ.get("GIMLET_E2E_RINGS", "1"))
LANES = int(os.environ.get("GIMLET_E2E_LANES", "0"))
# "" for plain text; else TLS on every leg, clients and backends speaking this version of it.
TLS = {"": "", "0": "", "1": "1.3", "1.2": "1.2", "1.3": "1.3"}[os.environ.get("GIMLET_E2E_TLS", "")]

IO_FLAGS = {
    "uring": ["--io", "uring"],
    "uring-min": ["--io", "uring", "--io-disable", "all"],
    "epoll": ["--io", "epoll"],
}[IO]
# What /debug/counters must call the back-end that these flags ask for.
IO_NAME = "epoll" if IO == "epoll" else "io_uring"


def is_sanitized() -> bool:
    """Whether the program carries a sanitizer: slower, and with a memory of its own."""
    with open(GIMLET, "rb") as program:
        text = program.read()
    return b"__asan_init" in text or b"__tsan_init" in text


SANITIZED = is_sanitized() if os.path.exists(GIMLET) else False
# Everything that is only waited for, never measured, is given this much; an emulated machine asks for more.
PATIENCE = float(os.environ.get("GIMLET_E2E_PATIENCE", "30" if SANITIZED else "15"))
# What must happen at once may take this long on a busy machine: less than any of the product's own clocks (5 s).
AT_ONCE = 4.0


def wait_until(condition, what: str, timeout: float = PATIENCE, step: float = 0.01):
    """Polls until condition() is true, and gives its value; fails with `what` after `timeout`."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what}: not within {timeout:.1f} s"
        time.sleep(step)


# Below the range that the kernel hands out to connecting sockets, so that nobody is given ours.
_next_port = 20000 + os.getpid() * 37 % 10000


def free_port() -> int:
    global _next_port
    while True:
        _next_port = 20000 + (_next_port + 1 - 20000) % 12000
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", _next_port))
            except OSError:
                continue
            return _next_port
