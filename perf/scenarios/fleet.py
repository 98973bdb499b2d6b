"""Many services, many agents: the cost of a request must not know of them."""
import json
import time
import urllib.request

from cryptography.hazmat.primitives.serialization import load_pem_private_key
import jwt

from lab.gauge import cpu_seconds, resident_bytes
from lab.stage import TunnelSubject, free_ports
from scenarios._load import Generators

TITLE = "Many services and many agents: one is busy, or all are"
ABOUT = """Beside a tunnel with one service, in turns, one with many: **services** are spread over agent processes of at most 60, **agents** are
processes with one service each. *One busy*: all requests go to one service. The agents that idle are then left out, as they would be on other
machines; what they cost the server is in, and a note says what they spend (the server says `--peers 1`: nobody looks for others). *All*: the next
request goes to the next service, and everybody counts;
a link that carries one request at a time has nothing to send together with it. 64 kept connections; the ratio is that of CPU per request, many in
one."""
ORDER = 58
PLOT = {"x": "services"}
SERVICES, AGENTS = (100, 1000, 10_000), (10, 100, 1000)
PER_PROCESS = 60  # an agent takes 64 --service
TOGETHER = 10  # agents that start at the same time
START_SECONDS, IDLE_SECONDS = 300, 4
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
                                                "--peers", 1, "--metrics-port", counters[0], "--token-public-key-file", stage.dir / "gimlet.pub",
                                                *self.runtime], stage.proxy_core)
        stage.wait_port(self.port)
        self.tokens()
        self.agents = []
        for index in range(processes):
            self.agents.append(self.agent(index, range(index, services, processes)))
            if len(self.agents) % TOGETHER == 0 or len(self.agents) == processes:
                self.wait(sum(len(range(one, services, processes)) for one in range(len(self.agents))))
        url = f"http://127.0.0.1:{self.port}/services/s{{}}"
        self.all = TunnelSubject(name, [server.pid, *self.agents], {"model": (url, headers)}, counters)
        self.one = TunnelSubject(name, [server.pid, self.agents[0]], {"model": (url.replace("{}", "0"), headers)}, counters)

    def tokens(self):
        """A token for each service, signed here: a process for each would take minutes."""
        folder = self.stage.dir / "tokens"
        folder.mkdir(exist_ok=True)
        sample = self.stage.token("agent", "--subject", "perf-s0", "--service", "s0").strip()
        claims = jwt.decode(sample, options={"verify_signature": False})
        head, key = jwt.get_unverified_header(sample), load_pem_private_key(self.key.read_bytes(), None)
        for index in range(self.services):
            path = folder / f"s{index}"
            if not path.exists():
                mine = {name: value if value != "s0" else f"s{index}" for name, value in claims.items()}
                path.write_text(jwt.encode({**mine, "sub": f"perf-s{index}"}, key, algorithm="RS256", headers=head))

    def agent(self, index: int, services) -> int:
        words = []
        for service in services:
            words += ["--service", f"s{service}=http://127.0.0.1:{self.backend},token-file=tokens/s{service}"]
        process = self.stage.start(f"{self.name}-agent-{index}", [self.stage.program, "agent", "--server-url", f"ws://127.0.0.1:{self.port}/agent",
                                                                  *words, *self.runtime], self.stage.proxy_core)
        return process.pid

    def wait(self, services: int):
        """Until so many are up. All at once would be a storm of handshakes, in which agents lose patience and begin anew."""
        deadline, found = time.monotonic() + START_SECONDS, 0
        while found < services:
            self.stage.check_alive()
            if time.monotonic() > deadline:
                raise SystemExit(f"perf: {found} of {self.services} services are up:\n{self.stage.log(self.name + '-agent-0')}")
            time.sleep(0.2)
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=START_SECONDS) as answer:
                found = len(json.load(answer)["agents"])

    def idle_share(self) -> "tuple[float, float]":
        """What the server, and all agents together, spend while nobody asks: shares of a core."""
        def read():
            return [sum(cpu_seconds(pid) for pid in pids) for pids in (self.all.pids[:1], self.agents)]
        before = read()
        time.sleep(IDLE_SECONDS)
        server, agents = ((after - one) / IDLE_SECONDS for after, one in zip(read(), before))
        return server, agents


def run(lab):
    for what, counts in (("services", SERVICES), ("agents", AGENTS)):
        for count in counts:
            compare(lab, what, count)


def compare(lab, what: str, count: int):
    with lab.stage(web=False) as stage:
        generators = Generators(stage)
        port = generators.backend()
        processes = count if what == "agents" else -(-count // PER_PROCESS)
        print(f"  starting {count:,} {what}…", flush=True)
        many, alone = Fleet(stage, f"{count:,} {what}", port, count, processes), Fleet(stage, "one", port, 1, 1)
        server, agents = many.idle_share()
        lab.note(f"{count:,} {what}: the server has {resident_bytes(many.all.pids[0]) / 2**20:.0f} MiB and idles at {server:.1%} of a core;"
                 f" {processes:,} agents have {resident_bytes(many.agents[0]) / 2**20:.0f} MiB each and idle at {agents:.1%} together")

        def measure(_, subject, clock):
            busy = count if subject is many.all else 1
            argv = generators.argv("requests", subject, "model", "/small")
            return generators.measure([*argv, "--connections", 64, "--seconds", max(1, round(lab.seconds)), "--services", busy,
                                       "--warm", 500 + busy // 10], clock)

        for name, subject in (("one busy", many.one), ("all", many.all)):
            lab.compare(f"{count:,} {what}, {name}", [subject, alone.one], measure, stage=stage, x=count, warm=measure)
        lab.judge(f"{count:,} {what}, one busy: CPU per request, in one alone",
                  lab.ratio(f"{count:,} {what}, one busy", "one"), FLAT)
