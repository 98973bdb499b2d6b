"""Piko: an HTTP tunnel; agents register endpoints, the server routes by the first word of Host."""
import json

from lab.stage import Subject, free_ports
from peers import _tools

KIND = "http"
ADVICE = ("One node and one agent as in its guide, access logs off, no limit on the agent's idle connections; times are raised so"
          " that a GiB fits (they end a body after 10 s as it comes).")
AGES = "3600s"


def available() -> "str | None":
    return _tools.missing("piko")


def version() -> str:
    return _tools.version("piko")


def server_arguments(proxy: int, upstream: int, admin: int, gossip: int) -> "list[str]":
    addresses = {"proxy": proxy, "upstream": upstream, "admin": admin, "cluster.gossip": gossip}
    return [*(f"--{part}.bind-addr=127.0.0.1:{port}" for part, port in addresses.items()), "--proxy.access-log.disable",
            "--proxy.http.read-timeout=0", "--proxy.http.write-timeout=0", f"--proxy.timeout={AGES}", "--log.level=error"]


def start(stage, name: str) -> Subject:
    proxy, upstream, admin, gossip, agent_port = free_ports(5)
    piko = _tools.find("piko")
    server = stage.start(f"{name}-server", [piko, "server", *server_arguments(proxy, upstream, admin, gossip)], stage.proxy_core)
    stage.wait_port(upstream)
    file = stage.dir / f"{name}.yaml"  # JSON is YAML as well
    file.write_text(json.dumps({
        "listeners": [{"endpoint_id": service, "addr": f"127.0.0.1:{backend}", "timeout": AGES, "access_log": {"disable": True},
                       "http_client": {"max_idle_conns": -1}} for service, backend in stage.services.items()],
        "connect": {"url": f"http://127.0.0.1:{upstream}"}, "server": {"bind_addr": f"127.0.0.1:{agent_port}"},
        "log": {"level": "error"}}))
    agent = stage.start(f"{name}-agent", [piko, "agent", "start", f"--config.path={file}"], stage.proxy_core)
    return Subject(name, [server.pid, agent.pid],
                   {service: (f"http://127.0.0.1:{proxy}", {"Host": f"{service}.test", **stage.client_headers()})
                    for service in stage.services})
