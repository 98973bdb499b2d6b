#!/usr/bin/python3
"""Gimlet beside one nginx reverse-proxy hop, same backend, same requests, in turns. See README.md.

Usage: smoke.py GIMLET [--seconds N] [--rounds N] [--quick] [--io BACKEND]
"""
import argparse
import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
TICK = os.sysconf("SC_CLK_TCK")
GIB = 1 << 30
CONNECTIONS = (1, 64, 256)
# Issue 2: server and agent together may cost this much of one nginx hop, at 64 connections.
CEILING, CEILING_AT = 1.3, 64


class Subject:
    """What is measured: its name, its port, and the processes whose time is its cost."""

    def __init__(self, name, port, pids):
        self.name, self.port, self.pids = name, port, pids

    def cpu(self) -> float:
        return sum(cpu_seconds(pid) for pid in self.pids)


def cpu_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def machine_busy() -> float:
    """Seconds that all cores together have not been idle."""
    with open("/proc/stat") as stat:
        fields = [int(x) for x in stat.readline().split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICK


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


class Stage:
    """All processes: proxies on one core, backend and load on the other."""

    def __init__(self, gimlet: str, io: str):
        self.gimlet, self.io = gimlet, io
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="gimlet-perf."))
        self.dir.chmod(0o755)
        self.processes = []
        cores = sorted(os.sched_getaffinity(0))
        self.load_core, self.proxy_core = cores[0], cores[1 % len(cores)]
        self.cores = len(cores)

    def start(self, name, argv, core) -> subprocess.Popen:
        log = open(self.dir / f"{name}.log", "wb")
        process = subprocess.Popen(["taskset", "-c", str(core), *map(str, argv)], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.processes.append((name, process))
        return process

    def wait_port(self, port: int):
        deadline = time.monotonic() + 20
        while True:
            for name, process in self.processes:
                if process.poll() is not None:
                    raise SystemExit(f"{name} ended:\n{(self.dir / (name + '.log')).read_text()[-2000:]}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            if time.monotonic() > deadline:
                raise SystemExit(f"nothing listens on port {port}")
            time.sleep(0.02)

    def nginx(self, name: str, template: str, ports: dict, core) -> int:
        """Starts one; the id of its worker, which does the work."""
        text = (HERE / template).read_text().replace("@DIR@", str(self.dir))
        for key, port in ports.items():
            text = text.replace(f"@{key}@", str(port))
        if os.geteuid() == 0:
            text = "user root;\n" + text
        path = self.dir / f"{name}.conf"
        path.write_text(text)
        process = self.start(name, ["nginx", "-c", path, "-p", self.dir, "-e", self.dir / f"{name}-error.log"], core)
        self.wait_port(ports.get("PROXY", ports["BACKEND"]))
        return children(process.pid)[0]

    def token(self, kind: str, *arguments) -> str:
        key = self.dir / "gimlet.pem"
        done = subprocess.run([self.gimlet, "jwt", kind, "--private-key-file", key, "--duration", "12h", *arguments],
                              capture_output=True, text=True, check=True)
        return done.stdout

    def build(self):
        backend, proxy, proxy64, sink, server, = free_ports(5)
        (self.dir / "www").mkdir()
        with open(self.dir / "www" / "large", "wb") as file:
            file.truncate(GIB)
        self.nginx("backend", "nginx-backend.conf", {"BACKEND": backend}, self.load_core)
        self.start("sink", [sys.executable, HERE / "sink.py", sink], self.load_core)
        self.wait_port(sink)
        both = {"BACKEND": backend, "SINK": sink}
        worker = self.nginx("proxy", "nginx-proxy.conf", {**both, "PROXY": proxy}, self.proxy_core)
        worker64 = self.nginx("proxy64", "nginx-proxy-64k.conf", {**both, "PROXY": proxy64}, self.proxy_core)

        for service in ("web", "sink"):
            (self.dir / f"{service}.token").write_text(self.token("agent", "--subject", f"perf-{service}", "--service", service))
        self.client_token = self.token("client", "--subject", "perf", "--services", "*")
        runtime = ["--rings", "1", "--io", self.io, "--log-level", "WARN", "--max-concurrent-requests", "0"]
        one = self.start("server", [self.gimlet, "server", "--listen-address", "127.0.0.1", "--http-port", server, "--metrics-port", "off",
                                    "--token-public-key-file", self.dir / "gimlet.pub", *runtime], self.proxy_core)
        self.wait_port(server)
        two = self.start("agent", [self.gimlet, "agent", "--server-url", f"ws://127.0.0.1:{server}/agent",
                                   "--service", f"web=http://127.0.0.1:{backend},token-file={self.dir}/web.token",
                                   "--service", f"sink=http://127.0.0.1:{sink},token-file={self.dir}/sink.token", *runtime],
                         self.proxy_core)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            self.wait_port(server)
            with urllib.request.urlopen(f"http://127.0.0.1:{server}/health", timeout=5) as answer:
                if json.load(answer)["agents"] == {"web": 1, "sink": 1}:
                    break
            time.sleep(0.05)
        else:
            raise SystemExit(f"the agent does not come up:\n{(self.dir / 'agent.log').read_text()[-2000:]}")
        self.ours = Subject("gimlet", server, [one.pid, two.pid])
        self.nginx_default = Subject("nginx", proxy, [worker])
        self.nginx_64k = Subject("nginx, 64 KiB buffers", proxy64, [worker64])

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
    def wrk(self, subject: Subject, connections: int, seconds: float) -> dict:
        busy, cpu = machine_busy(), subject.cpu()
        done = subprocess.run(["taskset", "-c", str(self.load_core), "wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", "-s",
                               str(HERE / "wrk.lua"), "-H", f"Authorization: Bearer {self.client_token}",
                               f"http://127.0.0.1:{subject.port}/services/web/small"], capture_output=True, text=True, check=False)
        cpu, busy = subject.cpu() - cpu, machine_busy() - busy
        line = [x for x in done.stdout.splitlines() if x.startswith("@@")]
        if not line:
            raise SystemExit(f"wrk failed: {done.stdout}{done.stderr}")
        found = json.loads(line[0][2:])
        found["failed"] = sum(found[k] for k in ("connect", "read", "write", "status", "timeout"))
        found["cpu"], found["busy"] = cpu, busy
        return found

    def transfer(self, subject: Subject, way: str) -> dict:
        url = f"http://127.0.0.1:{subject.port}/services/" + ("web/large" if way == "down" else "sink/up")
        argv = ["taskset", "-c", str(self.load_core), "curl", "-sS", "--noproxy", "*", "-o", "/dev/null", "-w",
                "%{http_code} %{size_download} %{size_upload} %{time_total}", "-H", f"Authorization: Bearer {self.client_token}"]
        argv += [url] if way == "down" else ["-H", "Expect:", "-T", str(self.dir / "www" / "large"), url]
        busy, cpu = machine_busy(), subject.cpu()
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)
        cpu, busy = subject.cpu() - cpu, machine_busy() - busy
        words = done.stdout.split()
        good = done.returncode == 0 and words[0] == "200" and int(words[1 if way == "down" else 2]) == GIB
        if not good:
            print(f"  {subject.name}, 1 GiB {way}: {done.stdout} {done.stderr}", file=sys.stderr)
        return {"seconds": float(words[3]) if len(words) > 3 else 0.0, "cpu": cpu, "busy": busy, "failed": 0 if good else 1}


def spread(values) -> str:
    return f"{min(values):.2f}–{max(values):.2f}" if len(values) > 1 else ""


def small_requests(stage: Stage, seconds: float, rounds: int) -> "list[dict]":
    print(f"\n  Small requests (12 bytes), {rounds} rounds of {seconds:g} s each, in turns\n")
    print(f"  {'':>5} {'':8} {'requests/s':>11} {'p50':>8} {'p99':>9} {'CPU/request':>12} {'busy':>6} {'failed':>7}   CPU ratio")
    rows = []
    for connections in CONNECTIONS:
        pair = (stage.ours, stage.nginx_default)
        for subject in pair:
            stage.wrk(subject, connections, 1)
        runs = {subject.name: [] for subject in pair}
        for _ in range(rounds):
            for subject in pair:
                runs[subject.name].append(stage.wrk(subject, connections, seconds))
        row = {"connections": connections}
        per = {}
        for subject in pair:
            found = runs[subject.name]
            total = sum(f["requests"] for f in found)
            per[subject.name] = [f["cpu"] / max(f["requests"], 1) * 1e6 for f in found]
            row[subject.name] = {
                "requests_per_s": round(total / sum(f["seconds"] for f in found), 1),
                "cpu_us_per_request": round(sum(f["cpu"] for f in found) / max(total, 1) * 1e6, 3),
                "busy_us_per_request": round(sum(f["busy"] for f in found) / max(total, 1) * 1e6, 3),
                "p50_us": statistics.median(f["p50_us"] for f in found),
                "p99_us": statistics.median(f["p99_us"] for f in found),
                "requests": total,
                "failed": sum(f["failed"] for f in found),
            }
        ratios = [a / b for a, b in zip(per["gimlet"], per["nginx"]) if b > 0]
        row["cpu_ratio"] = round(row["gimlet"]["cpu_us_per_request"] / max(row["nginx"]["cpu_us_per_request"], 1e-9), 3)
        row["requests_ratio"] = round(row["gimlet"]["requests_per_s"] / max(row["nginx"]["requests_per_s"], 1e-9), 3)
        rows.append(row)
        for subject in pair:
            f = row[subject.name]
            tail = f"   {row['cpu_ratio']:.2f}  ({spread(ratios)})" if subject is stage.ours else ""
            print(f"  {connections if subject is stage.ours else '':>5} {subject.name:8} {f['requests_per_s']:>11,.0f} {f['p50_us'] / 1e3:>6.2f}ms"
                  f" {f['p99_us'] / 1e3:>7.2f}ms {f['cpu_us_per_request']:>10.1f}µs {f['busy_us_per_request']:>4.0f}µs {f['failed']:>7}{tail}")
    return rows


def transfers(stage: Stage, rounds: int) -> "list[dict]":
    print(f"\n  1 GiB through one connection, {rounds} rounds, in turns\n")
    print(f"  {'':4}   {'':22} {'MB/s':>7} {'CPU s/GiB':>10} {'failed':>7}   CPU ratio to it")
    rows = []
    trio = (stage.ours, stage.nginx_default, stage.nginx_64k)
    for way in ("down", "up"):
        runs = {subject.name: [] for subject in trio}
        for _ in range(rounds):
            for subject in trio:
                runs[subject.name].append(stage.transfer(subject, way))
        row = {"way": way}
        for subject in trio:
            found = runs[subject.name]
            seconds, cpu = sum(f["seconds"] for f in found), sum(f["cpu"] for f in found)
            row[subject.name] = {"mb_per_s": round(len(found) * GIB / 1e6 / max(seconds, 1e-9), 1), "cpu_s_per_gib": round(cpu / len(found), 3),
                                 "busy_s_per_gib": round(sum(f["busy"] for f in found) / len(found), 3), "failed": sum(f["failed"] for f in found)}
        for subject in trio:
            f = row[subject.name]
            tail = ""
            if subject is not stage.ours:
                f["cpu_ratio"] = round(row["gimlet"]["cpu_s_per_gib"] / max(f["cpu_s_per_gib"], 1e-9), 3)
                tail = f"   {f['cpu_ratio']:.2f}"
            print(f"  {way if subject is stage.ours else '':4}   {subject.name:22} {f['mb_per_s']:>7,.0f} {f['cpu_s_per_gib']:>10.2f} {f['failed']:>7}{tail}")
        rows.append(row)
    return rows


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("gimlet")
    options.add_argument("--seconds", type=float, default=4)
    options.add_argument("--rounds", type=int, default=4)
    options.add_argument("--quick", action="store_true", help="one short round of everything: does it run at all?")
    options.add_argument("--io", default="auto", help="back-end of both programs: auto, uring, epoll")
    given = options.parse_args()
    if given.quick:
        given.seconds, given.rounds = 1, 1
    stage = Stage(str(pathlib.Path(given.gimlet).resolve()), given.io)
    try:
        stage.build()
        note = "" if stage.cores > 1 else "; ONE core: everything shares it, ratios only"
        print(f"  Gimlet (server + agent, one ring each, {given.io}) beside one nginx reverse-proxy hop"
              f"\n  load and backend on core {stage.load_core}, proxies on core {stage.proxy_core}{note}")
        small = small_requests(stage, given.seconds, given.rounds)
        large = transfers(stage, max(1, given.rounds // 2))
    finally:
        stage.close()
    failed = sum(r["gimlet"]["failed"] for r in small + large)
    at = next(r for r in small if r["connections"] == CEILING_AT)
    print(f"\n  At {CEILING_AT} connections: {at['cpu_ratio']:.2f} × one nginx hop (ceiling {CEILING}); failed requests: {failed}")
    print("  Noise: rounds alternate, so that a slow spell of the machine meets both; the range behind a ratio is that of single rounds.")
    print("  A range wider than ±10 % means that the machine did something else: run again.\n")
    print(json.dumps({"scenario": "smoke", "io": given.io, "cores": stage.cores, "kernel": os.uname().release,
                      "seconds": given.seconds, "rounds": given.rounds, "small": small, "large": large,
                      "within_ceiling": at["cpu_ratio"] <= CEILING, "failed": failed}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
