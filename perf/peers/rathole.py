"""rathole: TCP connections, each on a connection of its own between both ends."""
import subprocess
import sys

from lab.stage import Subject, free_ports
import peers
from peers import _tools

KIND = "tcp"
ADVICE = ("The configuration of its own benchmark: plain TCP between both ends, one connection for each of a client's. TCP_NODELAY"
          " as it comes, on; its README would trade latency for bandwidth by turning it off.")
VERSION = "0.5.0"
SERVER = """[server]
bind_addr = "127.0.0.1:{link}"
default_token = "perf"
"""
CLIENT = """[client]
remote_addr = "127.0.0.1:{link}"
default_token = "perf"
"""


def available() -> "str | None":
    """Installs it with cargo when it is not here. The lock file that it comes with no longer builds: its time 0.3.29 is
    refused by Rust 1.80 and later, so only rathole itself is pinned."""
    if _tools.find("rathole"):
        return None
    if not _tools.find("cargo"):
        return f"{_tools.missing('rathole')}; cargo would install it"
    print(f"  perf: cargo installs rathole {VERSION} into {peers.cache()}: minutes, once", file=sys.stderr, flush=True)
    done = subprocess.run([_tools.find("cargo"), "install", "--quiet", "--root", peers.cache(), "--version", f"={VERSION}",
                           "--no-default-features", "--features", "server,client", "rathole"],
                          capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else "cargo install fails: " + (done.stderr.strip().splitlines() or ["?"])[-1]


def version() -> str:
    return _tools.version("rathole", behind="Build Version:")


def start(stage, name: str) -> Subject:
    link, *ports = free_ports(1 + len(stage.services))
    public = dict(zip(stage.services, ports))
    server_file, client_file = stage.dir / f"{name}-server.toml", stage.dir / f"{name}-client.toml"
    server_file.write_text(SERVER.format(link=link) + "".join(
        f'[server.services.{service}]\nbind_addr = "127.0.0.1:{port}"\n' for service, port in public.items()))
    client_file.write_text(CLIENT.format(link=link) + "".join(
        f'[client.services.{service}]\nlocal_addr = "127.0.0.1:{backend}"\n' for service, backend in stage.services.items()))
    pids = []
    for side, file in (("server", server_file), ("client", client_file)):
        pids.append(stage.start(f"{name}-{side}", [_tools.find("rathole"), f"--{side}", file], stage.proxy_core,
                                {"RUST_LOG": "warn"}).pid)
    return Subject(name, pids, {service: (f"http://127.0.0.1:{port}", stage.client_headers()) for service, port in public.items()})
