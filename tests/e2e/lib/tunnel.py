"""`gimlet server` and `gimlet agent` as processes, ready when their start has returned."""
import functools
import itertools
import pathlib
import re

import requests

from lib import settings, tls
from lib.keys import Keys
from lib.process import Process
from lib.settings import GIMLET, IO_FLAGS, IO_NAME, LANES, RINGS, free_port, wait_until
from lib.wire import Wire

_subjects = itertools.count(1)


class Counted:
    """A process with raw counters on its metrics port."""

    metrics_port: int

    def _counter_lines(self) -> str:
        answer = requests.get(f"http://127.0.0.1:{self.metrics_port}/debug/counters", timeout=settings.PATIENCE)
        assert answer.status_code == 200, answer.text
        return answer.text

    def backend_name(self) -> str:
        return re.search(r'^io_backend\{name="(\w+)"\} 1$', self._counter_lines(), re.M)[1]

    def counters(self) -> "dict[str, int]":
        """Sums over all rings; single rings as name{ring="0"}."""
        found = {}
        for line in self._counter_lines().splitlines():
            name, _, value = line.rpartition(" ")
            found[name] = int(value)
        return found

    def counter(self, name: str) -> int:
        return self.counters()[name]

    def steps(self, before: "dict[str, int]") -> "dict[str, int]":
        """By how much each has grown since."""
        return {name: value - before[name] for name, value in self.counters().items()}


class Server(Process, Counted):
    """`secure`: a certificate, or flags that name some, for a TLS port beside no plain one; False: a plain port alone;
    by default what the run is about. `trust`: the CA that its clients check it against, `client`: a Pair that they show."""

    def __init__(self, directory: pathlib.Path, keys: Keys, *flags, http_port=None, rings=None, env=None, ready=True,
                 io_flags=None, secure=None, trust=None, client=None):
        self.keys = keys
        self.port = http_port or free_port()
        self.metrics_port = free_port()
        self.rings = rings or RINGS
        secure = tls.world().server if secure is None and settings.TLS else secure
        self.trust = (trust or tls.world().root.certificate) if secure else None
        self.client = client
        argv = [GIMLET, "server", "--listen-address", "127.0.0.1", *self._ports(secure, flags), "--metrics-port",
                self.metrics_port, "--token-public-key-file", keys.public, "--rings", self.rings,
                *(IO_FLAGS if io_flags is None else io_flags),
                *(["--lanes", LANES] if LANES and "--lanes" not in flags else []),
                # One that knows that it is alone keeps agents from looking for others: counters stand still.
                *(["--peers", "1"] if "--peers" not in flags else []),
                *(["--log-rate", "0"] if "--log-rate" not in flags else []), *flags]
        super().__init__("server", argv, directory, env)
        if ready:
            self.wait_ready()

    def _ports(self, secure, flags) -> list:
        if not secure:
            return ["--http-port", self.port]
        return [*([] if "--http-port" in flags else ["--http-port", "off"]), "--https-port", self.port,
                *(secure.flags if isinstance(secure, tls.Pair) else secure)]

    @property
    def url(self) -> str:
        return f"http{'s' if self.trust else ''}://127.0.0.1:{self.port}"

    @property
    def agent_url(self) -> str:
        return self.agent_url_at(self.port)

    def agent_url_at(self, port: int) -> str:
        """For an agent that comes by another way."""
        return f"ws{'s' if self.trust else ''}://127.0.0.1:{port}/agent"

    @functools.cached_property
    def context(self):
        """How its clients speak TLS to it, or None."""
        if not self.trust:
            return None
        return tls.client_context(self.trust, version=settings.TLS or None, pair=self.client)

    def wire(self, **options) -> Wire:
        return Wire(self.port, **{"tls": self.context, **options})

    def wait_ready(self):
        def healthy():
            assert self.is_alive, f"the server ended at its start\n{self.tail()}"
            try:
                return self._ask_health(5).status_code == 200
            except requests.RequestException:
                return False
        wait_until(healthy, "the server answers /health")
        assert self.backend_name() == IO_NAME, "the server does not run on the back-end that this run is about"

    def _ask_health(self, timeout: float):
        return requests.get(self.url + "/health", timeout=timeout, verify=str(self.trust) if self.trust else True,
                            cert=tuple(map(str, self.client)) if self.client else None)

    def health(self) -> dict:
        answer = self._ask_health(settings.PATIENCE)
        assert answer.status_code == 200
        return answer.json()

    def wait_agents(self, service: str, count: int = 1, timeout=None, through: "Process | None" = None):
        """Until that many agents serve; at once a failure when `through`, which should become one, has died."""
        def attached():
            if through:
                through.check_alive()
            return self.health()["agents"].get(service, 0) == count
        wait_until(attached, f"{count} agents of {service} are attached", timeout or settings.PATIENCE, 0.02)

    def wait_links(self, count: int):
        """Until that many links have ever been attached."""
        self.wait_log("agent attached", count)

    def wait_lanes(self, agents: "list[Agent]"):
        """Until each of them has every lane: with fewer, a ring that has none of an agent's prefers the others."""
        lanes = int(self.wait_log("server started")[0]["lanes"])

        def complete():
            attached = [line["agentID"] for line in self.log("agent attached")]
            return all(attached.count(agent.subject) >= lanes for agent in agents)
        wait_until(complete, f"every agent has {lanes} lanes", settings.PATIENCE, 0.02)

    def active(self) -> int:
        return self.health()["active_requests"]

    def wait_idle(self, timeout=None):
        wait_until(lambda: self.active() == 0, "no request is under way", timeout or settings.PATIENCE, 0.02)


class Agent(Process, Counted):
    """One agent process. services: {name: target}; one of them is given by --target-url. Where TLS is spoken and no
    flag says whom to trust, it is the run's root; with trust=False nothing is said. It has counters where a flag gives it
    a metrics port."""

    def __init__(self, directory: pathlib.Path, keys: Keys, server_url: str, services: "dict[str, str]", *flags,
                 subject=None, rings=None, env=None, many=False, token_file=None, io_flags=None, trust=True):
        self.keys = keys
        self.subject = subject or f"agent-{next(_subjects)}"
        self.token_files = {}
        self.metrics_port = flags[flags.index("--metrics-port") + 1] if "--metrics-port" in flags else None
        for service in services:
            path = token_file or directory / f"{self.subject}-{service}.token"
            if not token_file:
                path.write_text(keys.agent(service, self.subject) + "\n")
            self.token_files[service] = path
        argv = [GIMLET, "agent", "--server-url", server_url, "--rings", rings or RINGS,
                *(IO_FLAGS if io_flags is None else io_flags)]
        if many or len(services) > 1:
            for name, target in services.items():
                argv += ["--service", f"{name}={target},token-file={self.token_files[name]}"
                         + (f",ca-file={tls.world().root.certificate}"
                            if trust and target.startswith("https:") and ",ca-file=" not in target else "")]
        else:
            (name, target), = services.items()
            argv += ["--target-url", target, "--token-file", self.token_files[name]]
            if trust and target.startswith("https:") and not {"--backend-ca-file", "--backend-insecure-skip-verify"} & {*flags}:
                argv += ["--backend-ca-file", tls.world().root.certificate]
        if trust and server_url.startswith("wss:") and not {"--ca-file", "--insecure-skip-verify"} & {*flags}:
            argv += ["--ca-file", tls.world().root.certificate]
        defaults = {"--max-concurrent-requests": "4096", "--log-rate": "0", "--reconnect-max": "1s"}
        for flag, value in defaults.items():
            if flag not in flags:
                argv += [flag, value]
        super().__init__("agent", [*argv, *flags], directory, env)

    def io_line(self) -> str:
        """What it says about the back-end it runs on."""
        lines = self.wait_log("runtime")
        return str(lines[0]["io"])

    def assert_io(self):
        line = self.io_line()
        assert line.startswith(IO_NAME), f"the agent runs on {line!r}, not on {IO_NAME}"


class Tunnel:
    """A server, an agent, one service."""

    def __init__(self, server: Server, agent: Agent, service: str, backend=None):
        self.server, self.agent, self.service, self.backend = server, agent, service, backend
        self.token = server.keys.client()

    @property
    def processes(self):
        return (self.server, self.agent)

    def path(self, rest: str = "/") -> str:
        return f"/services/{self.service}{rest}"

    def url(self, rest: str = "/") -> str:
        return self.server.url + self.path(rest)

    @property
    def auth(self) -> "dict[str, str]":
        return {"Authorization": f"Bearer {self.token}"}

    def wire(self, **options) -> Wire:
        return self.server.wire(**options)

    def head(self, method: str, rest: str, *fields: str, host: str = "test.example") -> bytes:
        lines = [f"{method} {self.path(rest)} HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {self.token}",
                 *fields, "", ""]
        return "\r\n".join(lines).encode("latin-1")

    def ask(self, method: str, rest: str, *fields: str, body: bytes = b"", **options):
        """One request on a connection of its own, read strictly."""
        if body:
            fields = (*fields, f"Content-Length: {len(body)}")
        with self.wire(**options) as wire:
            return wire.send(self.head(method, rest, *fields) + body).answer(method)

    def get(self, rest: str, *fields: str, **options):
        return self.ask("GET", rest, *fields, **options)

    def check(self):
        for process in self.processes:
            process.check_alive()
            process.check_sanitizers()
