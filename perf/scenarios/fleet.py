"""Many services, many agents: the cost of a request must not know of them."""
import json
import time
import urllib.request

import jwt

from lab.gauge import resident_bytes
from lab.stage import TunnelSubject, free_ports
from scenarios._load import Generators

TITLE = "Many services and many agents: one is busy, or all are"
ABOUT = """Beside a tunnel with one service, in turns, one with many. *One busy*: all requests go to one service among N; *all*: the next request
goes to the next service. For **services**, N are spread over four agent processes (a process has only so many descriptors), and all of them count,
also for what they do while they idle. For **agents**, each is a process with one service: with one busy, the idle ones' own time is left out, as
they would be on other machines (what they cost the server is in); with all busy everybody counts. 64 kept connections; the ratio is that of
CPU per request, many in one."""
ORDER = 58
PLOT = {"x": "services"}
SERVICES, AGENTS, PROCESSES = (100, 1000, 10_000), (10, 100, 1000), 4
FLAT = 1.15


class Fleet:
    """A server and its agents, one service of the name s0, s1 … for each token."""

    def __init__(self, stage, name: str, port: int, services: int, processes: int):
        self.stage, self.name, self.backend, self.services = stage, name, port, services
        self.key = stage.dir / "gimlet.pem"
        self.port, *counters = free_ports(3)
        self.runtime = ["--rings", 1, "--io", stage.io, "--log-level", "WARN", "--max-concurrent-requests", 0]
        headers = stage.client_headers()
        server = stage.start(f"{name}-server", [stage.program, "server", "--listen-address", "127.0.0.1", "--http-port", self.port,
                                                "--metrics-port", counters[0], "--token-public-key-file", stage.dir / "gimlet.pub",
                                                *self.runtime], stage.proxy_core)
        stage.wait_port(self.port)
        self.tokens()
        self.agents = [self.agent(index, range(index, services, processes)) for index in range(processes)]
        self.wait()
        url = f"http://127.0.0.1:{self.port}/services/s{{}}"
        self.all = TunnelSubject(name, [server.pid, *self.agents], {"model": (url, headers)}, counters)
        self.one = TunnelSubject(name, [server.pid, self.agents[0]], {"model": (url.replace("{}", "0"), headers)}, counters)

    def tokens(self):
        """A token for each service, signed here: a process for each would take minutes."""
        folder = self.stage.dir / "tokens"
        folder.mkdir(exist_ok=True)
        sample = self.stage.token("agent", "--subject", "perf-s0", "--service", "s0").strip()
        claims = jwt.decode(sample, options={"verify_signature": False})
        kid, key = jwt.get_unverified_header(sample), jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256).prepare_key(self.key.read_bytes())
        for index in range(self.services):
            path = folder / f"s{index}"
            if not path.exists():
                mine = {name: value if value != "s0" else f"s{index}" for name, value in claims.items()}
                path.write_text(jwt.encode({**mine, "sub": f"perf-s{index}"}, key, algorithm="RS256", headers=kid))

    def agent(self, index: int, services) -> int:
        words = []
        for service in services:
            words += ["--service", f"s{service}=http://127.0.0.1:{self.backend},token-file=tokens/s{service}"]
        process = self.stage.start(f"{self.name}-agent-{index}", [self.stage.program, "agent", "--server-url", f"ws://127.0.0.1:{self.port}/agent",
                                                                  *words, *self.runtime], self.stage.proxy_core)
        return process.pid

    def wait(self):
        deadline, found = time.monotonic() + 120, 0
        while found < self.services:
            self.stage.check_alive()
            if time.monotonic() > deadline:
                raise SystemExit(f"perf: {found} of {self.services} services are up:\n{self.stage.log(self.name + '-agent-0')}")
            time.sleep(0.5)
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=20) as answer:
                found = len(json.load(answer)["agents"])


def run(lab):
    for what, counts in (("services", SERVICES), ("agents", AGENTS)):
        for count in counts:
            compare(lab, what, count)


def compare(lab, what: str, count: int):
    with lab.stage(web=False) as stage:
        generators = Generators(stage)
        port = generators.backend()
        processes = count if what == "agents" else PROCESSES
        print(f"  starting {count:,} {what}…", flush=True)
        many, alone = Fleet(stage, f"{count:,} {what}", port, count, processes), Fleet(stage, "one", port, 1, 1)
        idle = many.all if what == "services" else many.one
        idle = TunnelSubject(idle.name, idle.pids, many.one.routes, idle.counter_ports)
        resident = resident_bytes(many.all.pids[0])
        lab.note(f"{count:,} {what}: the server has {resident / 2**20:.0f} MiB, an agent process {resident_bytes(many.agents[0]) / 2**20:.0f} MiB")

        def measure(_, subject, clock):
            busy = count if subject is many.all else 1
            argv = generators.argv("requests", subject, "model", "/small")
            return generators.measure([*argv, "--connections", 64, "--seconds", max(1, round(lab.seconds)), "--services", busy,
                                       "--warm", 500 + busy // 10], clock)

        for name, subject in (("one busy", idle), ("all", many.all)):
            lab.compare(f"{count:,} {what}, {name}", [subject, alone.one], measure, stage=stage, x=count, warm=measure)
        lab.judge(f"{count:,} {what}, one busy: CPU per request, in one alone",
                  lab.ratio(f"{count:,} {what}, one busy", "one"), FLAT)
