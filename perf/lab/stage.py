"""All processes of one scenario: proxies on one core, backends and load on another.

A Stage owns every process that it starts and ends them all in close(). What is measured is a
Subject: a name, the addresses of the services behind it, and the processes whose time is its cost.
"""
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from lab.gauge import cpu_seconds

HERE = pathlib.Path(__file__).resolve().parent
GIB = 1 << 30
START_SECONDS = 30


class Broken(Exception):
    """A process that is needed does not come up, or has ended: the scenario cannot go on."""


class Subject:
    """routes: {service: (URL without a slash at its end, {field: value})}; pids: whose CPU time counts."""

    def __init__(self, name: str, pids: "list[int]", routes: dict, kind: str = "ours"):
        self.name, self.pids, self.routes, self.kind = name, pids, routes, kind

    def request(self, service: str, path: str) -> "tuple[str, dict]":
        """Where to ask for a backend's `path`, and with which fields."""
        url, headers = self.routes[service]
        return url + path, headers

    def header_arguments(self, service: str) -> "list[str]":
        """The fields as wrk and curl take them."""
        return [word for name, value in self.routes[service][1].items() for word in ("-H", f"{name}: {value}")]


class TunnelSubject(Subject):
    """A Gimlet tunnel: raw counters can be read from both of its processes."""

    def __init__(self, name, pids, routes, counters: "list[int]"):
        super().__init__(name, pids, routes)
        self.counter_ports = counters

    def counters(self, which: int) -> dict:
        """/debug/counters of the server (0) or of the agent (1), summed over its rings."""
        return {name: int(value) for name, value in self._lines(which) if "{" not in name}

    def io(self) -> str:
        """The back-end that the server runs on."""
        return next(name.split('"')[1] for name, _ in self._lines(0) if name.startswith("io_backend"))

    def _lines(self, which: int) -> "list[list[str]]":
        with urllib.request.urlopen(f"http://127.0.0.1:{self.counter_ports[which]}/debug/counters", timeout=10) as answer:
            return [line.split() for line in answer.read().decode().splitlines()]


class PlainLegs:
    """How a tunnel's three legs are spoken: client to server, agent to server, agent to backend."""

    SCHEME = "http"

    def listen(self, stage, port: int) -> list:
        return ["--http-port", port]

    def dial(self, stage, port: int) -> list:
        return ["--server-url", f"ws://127.0.0.1:{port}/agent"]

    def target(self, stage, service: str) -> str:
        return f"http://127.0.0.1:{stage.services[service]}"

    def target_options(self, stage) -> str:
        return ""


def free_ports(count: int) -> "list[int]":
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def children(pid: int) -> "list[int]":
    with open(f"/proc/{pid}/task/{pid}/children") as list_:
        return [int(child) for child in list_.read().split()]


class Stage:
    """gimlet: path of the program; io: its back-end (auto, uring, epoll)."""

    def __init__(self, gimlet: str, io: str):
        self.program, self.io = gimlet, io
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="gimlet-perf."))
        self.dir.chmod(0o755)
        self.processes, self.pids = [], [os.getpid()]
        self.environment = dict(os.environ)
        self.services, self.warm, self.curl_options = {}, {}, []
        self.all_cores = sorted(os.sched_getaffinity(0))
        self.load_core, self.proxy_core = self.all_cores[0], self.all_cores[1 % len(self.all_cores)]

    # --- processes ---
    def start(self, name: str, argv: list, core=None, environment=None) -> subprocess.Popen:
        """core: stage.proxy_core, stage.load_core, or None for all of them. Its output goes to NAME.log."""
        pinned = [] if core is None else ["taskset", "-c", str(core)]
        with open(self.dir / f"{name}.log", "wb") as log:
            process = subprocess.Popen([*pinned, *map(str, argv)], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                       cwd=self.dir, env={**self.environment, **(environment or {})})
        self.processes.append((name, process))
        self.pids.append(process.pid)
        return process

    def cpu(self) -> float:
        """Time of every process on the stage, this one included."""
        return sum(cpu_seconds(pid) for pid in self.pids)

    def log(self, name: str) -> str:
        return (self.dir / (name + ".log")).read_text(errors="replace")[-2000:]

    def check_alive(self):
        for name, process in self.processes:
            if process.poll() is not None:
                raise Broken(f"{name} ended:\n{self.log(name)}")

    def wait_port(self, port: int):
        deadline = time.monotonic() + START_SECONDS
        while True:
            self.check_alive()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            if time.monotonic() > deadline:
                raise Broken(f"nothing listens on port {port}")
            time.sleep(0.02)

    def wait_answer(self, subject: Subject, service: str):
        """Until the service's backend answers 200 through the subject: a tunnel takes a moment to come up."""
        url, _ = subject.request(service, self.warm[service])
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self.check_alive()
            done = subprocess.run(["curl", "-s", "-k", "--noproxy", "*", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}",
                                   *subject.header_arguments(service), url], capture_output=True, text=True, check=False, env=self.environment)
            if done.stdout == "200":
                return
            time.sleep(0.1)
        raise Broken(f"{subject.name} does not reach {service}: {url} answers {done.stdout}\n"
                         + "\n".join(f"{name}: {self.log(name)}" for name, _ in self.processes if not name.startswith("backend")))

    def close(self):
        for _, process in self.processes[::-1]:
            process.send_signal(signal.SIGTERM)
        for _, process in self.processes[::-1]:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    # --- backends ---
    def backend(self, service: str, argv: list, port: int, path: str = "/"):
        """A service's backend on the load's core, which answers GET `path` with 200 once it is up."""
        self.start(f"backend-{service}", argv, self.load_core)
        self.services[service], self.warm[service] = port, path
        self.wait_port(port)

    def web(self):
        """Service `web`: nginx with /small (12 bytes) and /large (a sparse GiB)."""
        port = free_ports(1)[0]
        self.large_file()
        self.nginx("backend", HERE / "backend.conf", port, {}, self.load_core)
        self.services["web"], self.warm["web"] = port, "/small"

    def sink(self):
        """Service `sink`: swallows uploads of any size."""
        port = free_ports(1)[0]
        self.backend("sink", [sys.executable, HERE / "sink.py", port], port)

    def large_file(self):
        """Sparse, and read once: else whoever is measured first pays for a page cache that has to be made."""
        (self.dir / "www").mkdir(exist_ok=True)
        with open(self.dir / "www" / "large", "w+b", buffering=0) as file:
            file.truncate(GIB)
            while file.read(1 << 22):
                pass

    def nginx(self, name: str, template: pathlib.Path, port: int, values: dict, core) -> int:
        """Starts one with a configuration of ours, one worker; the worker's id, which does the work.

        @DIR@, @NAME@, @PORT@ and the keys of `values` between @ are filled in.
        """
        text = template.read_text()
        for key, value in {"DIR": self.dir, "NAME": name, "PORT": port, **values}.items():
            text = text.replace(f"@{key}@", str(value))
        if os.geteuid() == 0:
            text = "user root;\n" + text
        path = self.dir / f"{name}.conf"
        path.write_text(text)
        process = self.start(name, ["nginx", "-c", path, "-p", self.dir, "-e", self.dir / f"{name}-error.log"], core)
        self.wait_port(port)
        while not (workers := children(process.pid)):  # it listens before it forks
            self.wait_port(port)
            time.sleep(0.02)
        self.pids.append(workers[0])
        return workers[0]

    # --- the tunnel ---
    def token(self, kind: str, *arguments) -> str:
        done = subprocess.run([self.program, "jwt", kind, "--private-key-file", self.dir / "gimlet.pem", "--duration", "12h",
                               *arguments], capture_output=True, text=True, check=True)
        return done.stdout

    def client_headers(self) -> dict:
        """The fields with which a client may call every service; the same token for all tunnels of this stage."""
        if not hasattr(self, "_client_token"):
            self._client_token = self.token("client", "--subject", "perf", "--services", "*")
        return {"Authorization": f"Bearer {self._client_token}"}

    def tunnel(self, name: str = "gimlet", server=(), agent=(), **options) -> TunnelSubject:
        """gimlet server and gimlet agent, with every service of the stage.

        server, agent: further arguments. Options: io, rings (1), core (the proxies'; None: all), legs (PlainLegs),
        under ({"server" or "agent": words to run it under}).
        """
        io, rings, core = options.get("io", self.io), options.get("rings", 1), options.get("core", self.proxy_core)
        legs, under = options.get("legs") or PlainLegs(), options.get("under", {})
        port, *counter_ports = free_ports(3)
        runtime = ["--rings", rings, "--io", io, "--log-level", "WARN", "--max-concurrent-requests", "0"]
        headers, words = self.client_headers(), []
        for service in self.services:
            file = self.dir / f"{service}.token"
            if not file.exists():
                file.write_text(self.token("agent", "--subject", f"perf-{service}", "--service", service))
            words += ["--service", f"{service}={legs.target(self, service)},token-file={file}{legs.target_options(self)}"]
        one = self.start(f"{name}-server",
                         [*under.get("server", ()), self.program, "server", "--listen-address", "127.0.0.1", *legs.listen(self, port),
                          "--metrics-port", counter_ports[0], "--token-public-key-file", self.dir / "gimlet.pub",
                          *runtime, *server], core)
        self.wait_port(port)
        two = self.start(f"{name}-agent", [*under.get("agent", ()), self.program, "agent", *legs.dial(self, port),
                                           "--metrics-port", counter_ports[1], *words, *runtime, *agent], core)
        subject = TunnelSubject(name, [one.pid, two.pid], {service: (f"{legs.SCHEME}://127.0.0.1:{port}/services/{service}", headers)
                                                           for service in self.services}, counter_ports)
        for service in self.services:
            self.wait_answer(subject, service)
        return subject
