"""Gimlet 0.0.x, the Go system, from where GIMLET_PERF_GO says.

That is a program with the subcommands server and agent, or a folder with one program for each: server or gimlet-server,
agent or gimlet-agent. Only its own flags are used; the tokens are those of our own tunnel.
"""
import os
import pathlib

from lab.stage import Subject, free_ports
from peers import _tools

KIND = "http"
ADVICE = "As it comes, without its limits on concurrent requests; one agent for each service, which is all that an agent can serve."
LOG = ["--log-level", "WARN", "--max-concurrent-requests", "0"]


def command(part: str) -> "list[str] | None":
    """How its server or its agent is called."""
    path = pathlib.Path(os.environ.get(_tools.variable("go"), "")).absolute()
    if path.is_dir():
        return next(([str(path / name)] for name in (part, f"gimlet-{part}") if os.access(path / name, os.X_OK)
                     and (path / name).is_file()), None)
    return [str(path), part] if os.access(path, os.X_OK) else None


def available() -> "str | None":
    if _tools.variable("go") not in os.environ:
        return f"{_tools.variable('go')} names no program"
    absent = [part for part in ("server", "agent") if not command(part)]
    return f"no {' and '.join(absent)} where {_tools.variable('go')} points" if absent else None


def version() -> str:
    return os.environ[_tools.variable("go")]


def start(stage, name: str) -> Subject:
    port, metrics = free_ports(2)
    headers = stage.client_headers()
    server = stage.start(f"{name}-server", [*command("server"), "--http-port", port, "--metrics-port", metrics,
                                            "--token-public-key-file", stage.dir / "gimlet.pub", *LOG], stage.proxy_core)
    stage.wait_port(port)
    pids = [server.pid]
    for service, backend in stage.services.items():
        file = stage.dir / f"{name}-{service}.token"
        file.write_text(stage.token("agent", "--subject", f"perf-{service}", "--service", service))
        agent = [*command("agent"), "--server-url", f"ws://127.0.0.1:{port}/agent", "--target-url", f"http://127.0.0.1:{backend}",
                 "--token-file", file, *LOG]
        pids.append(stage.start(f"{name}-agent-{service}", agent, stage.proxy_core).pid)
    return Subject(name, pids, {service: (f"http://127.0.0.1:{port}/services/{service}", headers) for service in stage.services})
