#!/usr/bin/python3
"""Gimlet with TLS on every leg, beside one nginx hop with TLS on both its legs, and beside itself in plaintext.

Same backend, same requests, in turns. See README.md.
Usage: tls.py GIMLET [--seconds N] [--rounds N] [--quick] [--io BACKEND] [--only PART]
"""
import argparse
import json
import os
import pathlib
import socket
import ssl
import statistics
import subprocess
import sys
import time
import urllib.request

from stage import CONNECTIONS, GIB, HERE, Clock, Stage, Subject, free_ports, spread

# Issue 3: CPU per small request of server + agent, in nginx hops, at 64 connections; throughput per CPU second of bulk
# transfers, in our own plaintext's; memory of the server per idle TLS connection.
CEILING, CEILING_AT = 1.2, 64
BULK_FLOOR = 0.7
IDLE_CEILING = 6 << 10
SUITE = "TLS_AES_128_GCM_SHA256"
# TLS connections on the way of a byte: client, link, backend; client, upstream.
LEGS = {"gimlet": 3, "nginx": 2, "nginx, 64 KiB buffers": 2}
BUFFERS = "proxy_buffer_size 64k; proxy_buffers 16 64k; proxy_busy_buffers_size 128k; client_body_buffer_size 64k;"
IDLE_CONNECTIONS, IDLE_FIRST = 2000, 250
HANDSHAKE_PROCESSES = 8
PARTS = ("idle", "small", "bulk", "handshakes")


class TlsStage(Stage):
    """The tunnel with TLS and without, and two nginx with TLS, in front of the same backends."""

    def certificates(self):
        """A root and one P-256 certificate for all servers. The proxies and backends differ in nothing else."""
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        ca, key = self.dir / "ca.pem", self.dir / "ca.key"
        for argv in (["-subj", "/CN=perf root", "-keyout", key, "-out", ca,
                      "-addext", "keyUsage=critical,keyCertSign"],
                     ["-subj", "/CN=localhost", "-CA", ca, "-CAkey", key, "-addext", "basicConstraints=critical,CA:FALSE",
                      "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                      "-keyout", self.dir / "server.key", "-out", self.dir / "server.pem"]):
            subprocess.run(["openssl", "req", "-x509", *curve, *map(str, argv)], check=True, capture_output=True)
        # For whatever OpenSSL is linked into: load, sink, nginx.
        self.environment["OPENSSL_CONF"] = str(HERE / "openssl.cnf")
        self.context = ssl.create_default_context(cafile=str(ca))

    def build(self):
        os.sched_setaffinity(0, {self.load_core})
        self.certificates()
        backend, backend_tls, sink, sink_tls, proxy, proxy64, plain, tls = free_ports(8)
        self.large_file()
        self.nginx("backend", "nginx-tls-backend.conf", {"BACKEND_TLS": backend_tls, "BACKEND": backend}, self.load_core)
        self.start("sink", [sys.executable, HERE / "sink.py", sink, sink_tls, self.dir / "server.pem",
                            self.dir / "server.key"], self.load_core)
        self.wait_port(sink)
        self.wait_port(sink_tls)
        both = {"BACKEND": backend, "BACKEND_TLS": backend_tls, "SINK_TLS": sink_tls}
        worker = self.nginx("proxy", "nginx-tls-proxy.conf", {**both, "PROXY": proxy, "BUFFERS": ""}, self.proxy_core)
        worker64 = self.nginx("proxy64", "nginx-tls-proxy.conf", {**both, "PROXY": proxy64, "BUFFERS": BUFFERS},
                              self.proxy_core)
        self.nginx_default = Subject("nginx", proxy, [worker], "https")
        self.nginx_64k = Subject("nginx, 64 KiB buffers", proxy64, [worker64], "https")
        self.tokens()
        self.plain = self.tunnel("plain", ["--http-port", plain],
                                 ["--server-url", f"ws://127.0.0.1:{plain}/agent",
                                  *self.services("http", {"web": backend, "sink": sink}, "")],
                                 Subject("gimlet, plain", plain, []))
        trust = f",ca-file={self.dir}/ca.pem"
        self.ours = self.tunnel("tls", ["--http-port", "off", "--https-port", tls, "--tls-cert", self.dir / "server.pem",
                                        "--tls-key", self.dir / "server.key"],
                                ["--server-url", f"wss://127.0.0.1:{tls}/agent", "--ca-file", self.dir / "ca.pem",
                                 *self.services("https", {"web": backend_tls, "sink": sink_tls}, trust)],
                                Subject("gimlet", tls, [], "https"), self.context)
        for subject in (self.ours, self.nginx_default, self.nginx_64k):
            self.check_pinned(subject)

    def services(self, scheme: str, ports: dict, options: str) -> list:
        return [word for name, port in ports.items()
                for word in ("--service", f"{name}={scheme}://127.0.0.1:{port},token-file={self.dir}/{name}.token{options}")]

    def check_pinned(self, subject: Subject):
        """Both legs that can be looked at from outside agree on one version and suite; otherwise nothing is compared.

        The link is between two of our own programs: the server's choice is seen on the client's leg, and that the
        agent offers the suite on the backend's.
        """
        free = {key: value for key, value in self.environment.items() if key != "OPENSSL_CONF"}
        for environment in (self.environment, free):
            done = subprocess.run(["openssl", "s_client", "-brief", "-connect", f"127.0.0.1:{subject.port}",
                                   "-CAfile", self.dir / "ca.pem", "-verify_return_error"], input="", text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=20, env=environment)
            for wanted in ("Protocol version: TLSv1.3", f"Ciphersuite: {SUITE}", "Server Temp Key: X25519",
                           "Signature type: ECDSA", "Verification: OK"):
                if wanted not in done.stdout:
                    raise SystemExit(f"{subject.name}, client's leg: not {wanted!r}:\n{done.stdout}")
        request = urllib.request.Request(subject.url("/services/web/tls"),
                                         headers={"Authorization": f"Bearer {self.client_token}"})
        with urllib.request.urlopen(request, timeout=20, context=self.context) as answer:
            text = answer.read().decode()
        if text != f"TLSv1.3 {SUITE}":
            raise SystemExit(f"{subject.name}, backend's leg: {text!r}, not TLSv1.3 {SUITE}")

    def bulk(self, subject: Subject, way: str) -> dict:
        return self.transfer(subject, way, "--cacert", self.dir / "ca.pem")

    def handshakes(self, subject: Subject, kind: str, seconds: float) -> dict:
        clock = Clock(self, subject)
        done = self.load([sys.executable, HERE / "handshakes.py", kind, subject.port, HANDSHAKE_PROCESSES, seconds,
                          self.client_token])
        spent = clock.stop()
        if done.returncode != 0:
            raise SystemExit(f"handshakes.py failed: {done.stdout}{done.stderr}")
        found = json.loads(done.stdout)
        if found["error"]:
            print(f"  {subject.name}, {kind} handshakes: {found['error']}", file=sys.stderr)
        return {**found, **spent}

    # --- memory ---
    def connect(self, subject: Subject) -> socket.socket:
        plain = socket.create_connection(("127.0.0.1", subject.port), timeout=20)
        return self.context.wrap_socket(plain, server_hostname="127.0.0.1") if subject.scheme == "https" else plain

    def ask(self, subject: Subject, peer: socket.socket) -> bool:
        peer.sendall((f"GET /services/web/small HTTP/1.1\r\nHost: 127.0.0.1:{subject.port}\r\n"
                      f"Authorization: Bearer {self.client_token}\r\n\r\n").encode())
        answer = b""
        while not answer.endswith(b"Hello, world"):
            data = peer.recv(65536)
            if not data:
                return False
            answer += data
        return answer.startswith(b"HTTP/1.1 200 ")

    def idle(self, subject: Subject, count: int) -> dict:
        """Memory of the process that holds them, per connection that has had one answer and waits."""
        held, failed = [], self.wrk(subject, 1, 1)["failed"]  # every receive buffer has been written to
        try:
            for index in range(IDLE_FIRST + count):
                if index == IDLE_FIRST:  # what is allocated once has been
                    time.sleep(1)
                    before = resident(subject.pids[0])
                held.append(self.connect(subject))
                failed += not self.ask(subject, held[-1])
            time.sleep(2)
            after = resident(subject.pids[0])
            for peer in held[::20]:  # still there?
                failed += not self.ask(subject, peer)
        except OSError as error:
            raise SystemExit(f"{subject.name}, idle connection {len(held)}: {error}") from error
        finally:
            for peer in held:
                peer.close()
        return {"connections": count, "bytes": round((after - before) / count), "failed": failed}


def resident(pid: int) -> int:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS:"))


def in_turns(subjects, rounds: int, measure) -> dict:
    runs = {subject.name: [] for subject in subjects}
    for _ in range(rounds):
        for subject in subjects:
            runs[subject.name].append(measure(subject))
    return runs


def requests_row(found: "list[dict]") -> dict:
    total = max(1, sum(f["requests"] for f in found))
    return {
        "requests_per_s": round(total / sum(f["seconds"] for f in found), 1),
        "cpu_us_per_request": round(sum(f["cpu"] for f in found) / total * 1e6, 3),
        "busy_us_per_request": round(sum(f["busy"] for f in found) / total * 1e6, 3),
        "p50_us": statistics.median(f["p50_us"] for f in found),
        "p99_us": statistics.median(f["p99_us"] for f in found),
        "requests": total,
        "failed": sum(f["failed"] for f in found),
        **{key: round(statistics.mean(f[key] for f in found), 3)
           for key in ("load_cpu", "load_core", "proxy_core", "foreign")},
    }


def ratios(runs: dict, upper: str, lower: str) -> "list[float]":
    """CPU per request of the one in the other's, round by round."""
    cost = {name: [f["cpu"] / max(f["requests"], 1) for f in runs[name]] for name in (upper, lower)}
    return [a / b for a, b in zip(cost[upper], cost[lower]) if b > 0]


def print_requests(first, name: str, f: dict, tail: str):
    print(f"  {first:>8} {name:14} {f['requests_per_s']:>10,.0f} {f['p50_us'] / 1e3:>7.2f}ms {f['p99_us'] / 1e3:>7.2f}ms"
          f" {f['cpu_us_per_request']:>9.1f}µs {f['busy_us_per_request']:>5.0f}µs {f['proxy_core']:>6.0%} {f['load_core']:>6.0%}"
          f" {f['load_cpu']:>6.0%} {f['foreign']:>7.0%} {f['failed']:>6}{tail}")


def print_requests_head():
    print(f"  {'':>8} {'':14} {'requests/s':>10} {'p50':>9} {'p99':>9} {'CPU/request':>11} {'busy':>7} {'proxies':>6}"
          f" {'others':>6} {'load':>6} {'foreign':>7} {'failed':>6}   CPU ratio to it")


def compared(first, subjects, runs: dict) -> dict:
    """Prints the rows of one comparison: the first subject, and its ratio to each of the others."""
    ours, row = subjects[0].name, {}
    for subject in subjects:
        f = row[subject.name] = requests_row(runs[subject.name])
        tail = ""
        if subject.name != ours:
            f["cpu_ratio"] = round(row[ours]["cpu_us_per_request"] / max(f["cpu_us_per_request"], 1e-9), 3)
            tail = f"   {f['cpu_ratio']:.2f}  ({spread(ratios(runs, ours, subject.name))})"
        print_requests(first if subject.name == ours else "", subject.name, f, tail)
    return row


def small_requests(stage: TlsStage, seconds: float, rounds: int) -> "list[dict]":
    print(f"\n  Small requests (12 bytes), by connections; {rounds} rounds of {seconds:g} s each, in turns\n")
    print_requests_head()
    rows, trio = [], (stage.ours, stage.nginx_default, stage.plain)
    for connections in CONNECTIONS:
        for subject in trio:
            stage.wrk(subject, connections, 1)
        runs = in_turns(trio, rounds, lambda subject, n=connections: stage.wrk(subject, n, seconds))
        rows.append({"connections": connections, **compared(connections, trio, runs)})
    return rows


def handshakes(stage: TlsStage, seconds: float, rounds: int) -> "list[dict]":
    print(f"\n  A new connection for every small request, {HANDSHAKE_PROCESSES} callers; {rounds} rounds of {seconds:g} s each, in turns\n")
    print_requests_head()
    rows = []
    for kind in ("full", "resumed"):
        pair = (stage.ours, stage.nginx_default)
        runs = in_turns(pair, rounds, lambda subject, k=kind: stage.handshakes(subject, k, seconds))
        rows.append({"kind": kind, **compared(kind, pair, runs)})
    runs = in_turns((stage.plain,), rounds, lambda subject: stage.handshakes(subject, "plain", seconds))
    rows.append({"kind": "plain", **compared("none", (stage.plain,), runs)})
    for row in rows[:2]:
        for subject in pair:
            row[subject.name]["per_cpu_second"] = round(1e6 / max(row[subject.name]["cpu_us_per_request"], 1e-9))
    print("\n  Connections per second of the proxies' CPU time: " + "; ".join(
        f"{row['kind']} " + " and ".join(f"{row[subject.name]['per_cpu_second']:,} ({subject.name})" for subject in pair)
        for row in rows[:2]))
    return rows


def transfers(stage: TlsStage, rounds: int) -> "list[dict]":
    print(f"\n  1 GiB through one connection, {rounds} rounds, in turns\n")
    print(f"  {'':4}   {'':22} {'MB/s':>7} {'CPU s/GiB':>10} {'and TLS leg':>11} {'MB/CPU s':>9} {'proxies':>7} {'others':>6}"
          f" {'foreign':>7} {'failed':>7}   CPU ratio to it")
    rows, four = [], (stage.ours, stage.plain, stage.nginx_default, stage.nginx_64k)
    for way in ("down", "up"):
        runs = in_turns(four, rounds, lambda subject, w=way: stage.bulk(subject, w))
        row = {"way": way}
        for subject in four:
            found = runs[subject.name]
            cpu = sum(f["cpu"] for f in found) / len(found)
            f = row[subject.name] = {
                "mb_per_s": round(len(found) * GIB / 1e6 / max(sum(f["seconds"] for f in found), 1e-9), 1),
                "cpu_s_per_gib": round(cpu, 3), "mb_per_cpu_s": round(GIB / 1e6 / max(cpu, 1e-9), 1),
                "busy_s_per_gib": round(sum(f["busy"] for f in found) / len(found), 3),
                "failed": sum(f["failed"] for f in found),
                **{key: round(statistics.mean(f[key] for f in found), 3) for key in ("load_core", "proxy_core", "foreign")}}
            if subject.name in LEGS:
                f["cpu_s_per_gib_leg"] = round(cpu / LEGS[subject.name], 3)
            tail = ""
            if subject is not stage.ours:
                f["cpu_ratio"] = round(row["gimlet"]["cpu_s_per_gib"] / max(f["cpu_s_per_gib"], 1e-9), 3)
                single = [a["cpu"] / b["cpu"] for a, b in zip(runs["gimlet"], found) if b["cpu"] > 0]
                tail = f"   {f['cpu_ratio']:.2f}  ({spread(single)})"
            leg = f"{f['cpu_s_per_gib_leg']:.2f}" if subject.name in LEGS else ""
            print(f"  {way if subject is stage.ours else '':4}   {subject.name:22} {f['mb_per_s']:>7,.0f} {f['cpu_s_per_gib']:>10.2f} {leg:>11}"
                  f" {f['mb_per_cpu_s']:>9,.0f} {f['proxy_core']:>7.0%} {f['load_core']:>6.0%} {f['foreign']:>7.0%} {f['failed']:>7}{tail}")
        row["of_plain"] = round(row["gimlet, plain"]["cpu_s_per_gib"] / max(row["gimlet"]["cpu_s_per_gib"], 1e-9), 3)
        rows.append(row)
    return rows


def idle_memory(stage: TlsStage, count: int) -> dict:
    print(f"\n  Resident memory of the holder per idle connection, {count:,} of them, each after one answer\n")
    row = {}
    for subject in (stage.ours, stage.plain, stage.nginx_default):
        f = row[subject.name] = stage.idle(subject, count)
        print(f"  {subject.name:14} {f['bytes']:>7,} B   failed: {f['failed']}")
    return row


def verdict(results: dict) -> "tuple[dict, int]":
    """Prints what was asked for beside what was found; the judgements and the number of failures."""
    judged, failed = {}, 0
    for part in ("small", "bulk", "handshakes"):
        for row in results.get(part, []):
            failed += sum(f["failed"] for f in row.values() if isinstance(f, dict))
    failed += sum(f["failed"] for f in results.get("idle", {}).values())
    print()
    if "small" in results:
        at = next(row for row in results["small"] if row["connections"] == CEILING_AT)
        ratio = at["nginx"]["cpu_ratio"]
        judged["small"] = ratio <= CEILING
        print(f"  Small requests at {CEILING_AT} connections: {ratio:.2f} × one nginx hop with TLS (ceiling {CEILING});"
              f" {at['gimlet, plain']['cpu_ratio']:.2f} × our own plaintext")
    for row in results.get("bulk", []):
        judged[f"bulk_{row['way']}"] = row["of_plain"] >= BULK_FLOOR
        per_leg = [row["gimlet"]["cpu_s_per_gib_leg"] / row[name]["cpu_s_per_gib_leg"] for name in LEGS if name != "gimlet"]
        print(f"  1 GiB {row['way']}: {row['of_plain']:.2f} of our own plaintext's throughput per CPU second (floor {BULK_FLOOR});"
              f" per TLS leg {per_leg[0]:.2f} × nginx, {per_leg[1]:.2f} × nginx with 64 KiB buffers")
    if "idle" in results:
        held = results["idle"]["gimlet"]["bytes"]
        judged["idle"] = held <= IDLE_CEILING
        print(f"  Idle TLS connection: {held:,} B (ceiling {IDLE_CEILING:,})")
    for name in (name for name, good in judged.items() if not good):
        print(f"  NOT REACHED: {name}")
    print(f"  Failed: {failed}")
    return judged, failed


def measure(stage: TlsStage, given) -> dict:
    results = {}
    if "idle" in given.parts:  # first: what the others leave free in the heap would be filled unseen
        results["idle"] = idle_memory(stage, IDLE_CONNECTIONS // (10 if given.quick else 1))
    if "small" in given.parts:
        results["small"] = small_requests(stage, given.seconds, given.rounds)
    if "bulk" in given.parts:
        results["bulk"] = transfers(stage, max(1, given.rounds // 2))
    if "handshakes" in given.parts:
        results["handshakes"] = handshakes(stage, given.seconds, max(1, given.rounds // 2))
    return results


def main() -> int:
    options = argparse.ArgumentParser()
    options.add_argument("gimlet")
    options.add_argument("--seconds", type=float, default=4)
    options.add_argument("--rounds", type=int, default=4)
    options.add_argument("--quick", action="store_true", help="one short round of everything: does it run at all?")
    options.add_argument("--io", default="auto", help="back-end of both programs: auto, uring, epoll")
    options.add_argument("--only", dest="parts", action="append", choices=PARTS, help="this part alone; may be repeated")
    given = options.parse_args()
    given.parts = given.parts or PARTS
    if given.quick:
        given.seconds, given.rounds = 1, 1
    stage = TlsStage(str(pathlib.Path(given.gimlet).resolve()), given.io)
    began = os.getloadavg()[0]
    try:
        stage.build()
        note = "" if stage.cores > 1 else "; ONE core: everything shares it, ratios only"
        print(f"  Gimlet (server + agent, one ring each, {given.io}) with TLS on every leg, beside one nginx hop with TLS on both its legs"
              f"\n  TLS 1.3, {SUITE}, X25519, ECDSA P-256; load and backend on core {stage.load_core}, proxies on core {stage.proxy_core}{note}")
        results = measure(stage, given)
    finally:
        stage.close()
    judged, failed = verdict(results)
    print(f"  Noise: load average {began:.1f} at the beginning. Rounds alternate, so that a slow spell of the machine meets all; the range behind a")
    print("  ratio is that of single rounds. One wider than ±10 %, or a foreign share above a few per cent, means: run again.\n")
    print(json.dumps({"scenario": "tls", "io": given.io, "cores": stage.cores, "kernel": os.uname().release,
                      "seconds": given.seconds, "rounds": given.rounds, "load_average": began, **results,
                      "within_ceiling": judged, "failed": failed}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
