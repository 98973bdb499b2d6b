"""frps and frpc: files of configuration, and the processes.

TLS is off on their link, as on ours. Multiplexing is on as frp comes; without it every connection has one of its own
between frps and frpc. For small requests at 64 connections that is 16 % cheaper with proxies of type tcp and 20 % dearer
with type http; a GiB is cheaper by 10 to 40 % with both. So type http takes part both ways.
"""
from lab.stage import Subject, free_ports
from peers import _tools

# Work connections that are dialled ahead for each proxy: frps takes no more than its own maximum of them.
POOL = 64

SERVER = """bindAddr = "127.0.0.1"
bindPort = {link}
proxyBindAddr = "127.0.0.1"
vhostHTTPPort = {http}
transport.maxPoolCount = {pool}
transport.tcpMux = {mux}
log.level = "warn"
"""
CLIENT = """serverAddr = "127.0.0.1"
serverPort = {link}
transport.poolCount = {pool}
transport.tcpMux = {mux}
transport.tls.enable = false
log.level = "warn"
"""
PROXY = """
[[proxies]]
name = "{service}"
type = "{type}"
localIP = "127.0.0.1"
localPort = {backend}
{public}
"""


def available() -> "str | None":
    return _tools.missing("frps", "frpc")


def version() -> str:
    return _tools.version("frps")


def start(stage, name: str, kind: str, public: dict, settings: dict) -> "list[int]":
    """kind: a proxy's type; public: {service: the line that says where it is to be found}; settings: http, the port of
    proxies of that type, and mux. The processes' ids."""
    link = free_ports(1)[0]
    common = {"link": link, "pool": POOL, "http": settings["http"], "mux": str(settings["mux"]).lower()}
    server_file, client_file = stage.dir / f"{name}-frps.toml", stage.dir / f"{name}-frpc.toml"
    server_file.write_text(SERVER.format(**common))
    client_file.write_text(CLIENT.format(**common) + "".join(
        PROXY.format(service=service, type=kind, backend=backend, public=public[service])
        for service, backend in stage.services.items()))
    server = stage.start(f"{name}-frps", [_tools.find("frps"), "-c", server_file], stage.proxy_core)
    stage.wait_port(link)
    client = stage.start(f"{name}-frpc", [_tools.find("frpc"), "-c", client_file], stage.proxy_core)
    return [server.pid, client.pid]


def start_http(stage, name: str, mux: bool) -> Subject:
    http = free_ports(1)[0]
    pids = start(stage, name, "http", {service: f'customDomains = ["{service}.test"]' for service in stage.services},
                 {"http": http, "mux": mux})
    return Subject(name, pids, {service: (f"http://127.0.0.1:{http}", {"Host": f"{service}.test", **stage.client_headers()})
                                for service in stage.services})


def start_tcp(stage, name: str) -> Subject:
    http, *ports = free_ports(1 + len(stage.services))
    public = dict(zip(stage.services, ports))
    pids = start(stage, name, "tcp", {service: f"remotePort = {port}" for service, port in public.items()},
                 {"http": http, "mux": False})
    return Subject(name, pids, {service: (f"http://127.0.0.1:{port}", stage.client_headers()) for service, port in public.items()})
