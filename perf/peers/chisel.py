"""chisel: TCP connections as SSH channels in one WebSocket."""
from lab.stage import Subject, free_ports
from peers import _tools

KIND = "tcp"
ADVICE = ("As its help says for reverse remotes; there is nothing to set for throughput. Its link is always SSH and always"
          " encrypted, even inside a plain WebSocket.")


def available() -> "str | None":
    return _tools.missing("chisel")


def version() -> str:
    return _tools.version("chisel")


def start(stage, name: str) -> Subject:
    link, *ports = free_ports(1 + len(stage.services))
    public = dict(zip(stage.services, ports))
    chisel = _tools.find("chisel")
    server = stage.start(f"{name}-server", [chisel, "server", "--reverse", "--host", "127.0.0.1", "--port", link], stage.proxy_core)
    stage.wait_port(link)
    remotes = [f"R:127.0.0.1:{port}:127.0.0.1:{stage.services[service]}" for service, port in public.items()]
    client = stage.start(f"{name}-client", [chisel, "client", f"http://127.0.0.1:{link}", *remotes], stage.proxy_core)
    return Subject(name, [server.pid, client.pid],
                   {service: (f"http://127.0.0.1:{port}", stage.client_headers()) for service, port in public.items()})
