"""What the scenarios share: processes on their cores, and whose CPU time was spent on what.

A Stage owns every process that it starts and ends them all in close(). Proxies, whose cost is the
result, run on one core; backend and load on another. Times are in seconds, sizes in bytes.
"""
import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
TICK = os.sysconf("SC_CLK_TCK")
GIB = 1 << 30
CONNECTIONS = (1, 64, 256)


class Subject:
    """What is measured: its name, its address, and the processes whose time is its cost."""

    def __init__(self, name, port, pids, scheme="http"):
        self.name, self.port, self.pids, self.scheme = name, port, pids, scheme

    def cpu(self) -> float:
        return sum(cpu_seconds(pid) for pid in self.pids)

    def url(self, path: str) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}{path}"


def cpu_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def busy_seconds(core=None) -> float:
    """Seconds that a core, or all of them together, have not been idle."""
    name = "cpu" if core is None else f"cpu{core}"
    with open("/proc/stat") as stat:
        fields = next([int(x) for x in line.split()[1:9]] for line in stat if line.split()[0] == name)
    return (sum(fields) - fields[3] - fields[4]) / TICK


def children_seconds() -> float:
    """CPU time of the load generators that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def children(pid: int) -> "list[int]":
    with open(f"/proc/{pid}/task/{pid}/children") as list_:
        return [int(child) for child in list_.read().split()]


def free_ports(count: int) -> "list[int]":
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def spread(values) -> str:
    return f"{min(values):.2f}–{max(values):.2f}" if len(values) > 1 else ""


class Clock:
    """One measured span: the subject's time, the machine's, the load's, and what belongs to none of them."""

    def __init__(self, stage: "Stage", subject: Subject):
        self.stage, self.subject = stage, subject
        self.began = self.read()

    def read(self) -> dict:
        return {"at": time.monotonic(), "cpu": self.subject.cpu(), "busy": busy_seconds(), "load": children_seconds(),
                "ours": self.stage.cpu(), "load_core": busy_seconds(self.stage.load_core),
                "proxy_core": busy_seconds(self.stage.proxy_core)}

    def stop(self) -> dict:
        ended = self.read()
        spent = {key: ended[key] - self.began[key] for key in ended}
        span = spent["at"]
        return {"cpu": spent["cpu"], "busy": spent["busy"], "load_cpu": spent["load"] / span,
                "load_core": spent["load_core"] / span, "proxy_core": spent["proxy_core"] / span,
                "foreign": max(0.0, spent["busy"] - spent["ours"] - spent["load"]) / span}


class Stage:
    """All processes: proxies on one core, backend and load on the other."""

    def __init__(self, gimlet: str, io: str):
        self.gimlet, self.io = gimlet, io
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="gimlet-perf."))
        self.dir.chmod(0o755)
        self.processes, self.pids = [], [os.getpid()]
        self.environment = dict(os.environ)
        cores = sorted(os.sched_getaffinity(0))
        self.load_core, self.proxy_core = cores[0], cores[1 % len(cores)]
        self.cores = len(cores)

    # --- processes ---
    def start(self, name, argv, core) -> subprocess.Popen:
        log = open(self.dir / f"{name}.log", "wb")
        process = subprocess.Popen(["taskset", "-c", str(core), *map(str, argv)], stdout=log, stderr=log,
                                   stdin=subprocess.DEVNULL, env=self.environment)
        self.processes.append((name, process))
        self.pids.append(process.pid)
        return process

    def cpu(self) -> float:
        """Time of every process on the stage, this one included."""
        return sum(cpu_seconds(pid) for pid in self.pids)

    def log(self, name: str) -> str:
        return (self.dir / (name + ".log")).read_text(errors="replace")[-2000:]

    def wait_port(self, port: int):
        deadline = time.monotonic() + 20
        while True:
            for name, process in self.processes:
                if process.poll() is not None:
                    raise SystemExit(f"{name} ended:\n{self.log(name)}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            if time.monotonic() > deadline:
                raise SystemExit(f"nothing listens on port {port}")
            time.sleep(0.02)

    def nginx(self, name: str, template: str, values: dict, core) -> int:
        """Starts one; the id of its worker, which does the work."""
        text = (HERE / template).read_text().replace("@DIR@", str(self.dir)).replace("@NAME@", name)
        for key, value in values.items():
            text = text.replace(f"@{key}@", str(value))
        if os.geteuid() == 0:
            text = "user root;\n" + text
        path = self.dir / f"{name}.conf"
        path.write_text(text)
        process = self.start(name, ["nginx", "-c", path, "-p", self.dir, "-e", self.dir / f"{name}-error.log"], core)
        self.wait_port(values.get("PROXY", values["BACKEND"]))
        while not (workers := children(process.pid)):  # it listens before it forks
            self.wait_port(values.get("PROXY", values["BACKEND"]))
            time.sleep(0.02)
        worker = workers[0]
        self.pids.append(worker)
        return worker

    def token(self, kind: str, *arguments) -> str:
        key = self.dir / "gimlet.pem"
        done = subprocess.run([self.gimlet, "jwt", kind, "--private-key-file", key, "--duration", "12h", *arguments],
                              capture_output=True, text=True, check=True)
        return done.stdout

    def tokens(self):
        for service in ("web", "sink"):
            text = self.token("agent", "--subject", f"perf-{service}", "--service", service)
            (self.dir / f"{service}.token").write_text(text)
        self.client_token = self.token("client", "--subject", "perf", "--services", "*")
        self.runtime = ["--rings", "1", "--io", self.io, "--log-level", "WARN", "--max-concurrent-requests", "0"]

    def large_file(self):
        (self.dir / "www").mkdir()
        with open(self.dir / "www" / "large", "wb") as file:
            file.truncate(GIB)

    def tunnel(self, name: str, server_arguments, agent_arguments, subject: Subject, context=None) -> Subject:
        """Starts server and agent of the services web and sink; the subject with their ids."""
        one = self.start(f"{name}-server",
                         [self.gimlet, "server", "--listen-address", "127.0.0.1", "--metrics-port", "off",
                          "--token-public-key-file", self.dir / "gimlet.pub", *server_arguments, *self.runtime],
                         self.proxy_core)
        self.wait_port(subject.port)
        two = self.start(f"{name}-agent", [self.gimlet, "agent", *agent_arguments, *self.runtime], self.proxy_core)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            self.wait_port(subject.port)
            with urllib.request.urlopen(subject.url("/health"), timeout=5, context=context) as answer:
                if json.load(answer)["agents"] == {"web": 1, "sink": 1}:
                    break
            time.sleep(0.05)
        else:
            raise SystemExit(f"the agent does not come up:\n{self.log(name + '-agent')}")
        subject.pids = [one.pid, two.pid]
        return subject

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

    # --- measuring ---
    def load(self, argv, timeout=300) -> subprocess.CompletedProcess:
        return subprocess.run(["taskset", "-c", str(self.load_core), *map(str, argv)], capture_output=True, text=True,
                              check=False, timeout=timeout, env=self.environment)

    def wrk(self, subject: Subject, connections: int, seconds: float) -> dict:
        clock = Clock(self, subject)
        done = self.load(["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency",
                          "-s", HERE / "wrk.lua", "-H", f"Authorization: Bearer {self.client_token}",
                          subject.url("/services/web/small")])
        spent = clock.stop()
        line = [x for x in done.stdout.splitlines() if x.startswith("@@")]
        if not line:
            raise SystemExit(f"wrk failed: {done.stdout}{done.stderr}")
        found = json.loads(line[0][2:])
        found["failed"] = sum(found[k] for k in ("connect", "read", "write", "status", "timeout"))
        return {**found, **spent}

    def transfer(self, subject: Subject, way: str, *options) -> dict:
        url = subject.url("/services/" + ("web/large" if way == "down" else "sink/up"))
        argv = ["curl", "-sS", "--noproxy", "*", "-o", "/dev/null", "-w",
                "%{http_code} %{size_download} %{size_upload} %{time_total}",
                "-H", f"Authorization: Bearer {self.client_token}", *options]
        argv += [url] if way == "down" else ["-H", "Expect:", "-T", self.dir / "www" / "large", url]
        clock = Clock(self, subject)
        done = self.load(argv)
        spent = clock.stop()
        words = done.stdout.split()
        good = done.returncode == 0 and words[0] == "200" and int(words[1 if way == "down" else 2]) == GIB
        if not good:
            print(f"  {subject.name}, 1 GiB {way}: {done.stdout} {done.stderr}", file=sys.stderr)
        return {"seconds": float(words[3]) if len(words) > 3 else 0.0, "failed": 0 if good else 1, **spent}
