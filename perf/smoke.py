#!/usr/bin/python3
"""Gimlet beside one nginx reverse-proxy hop, same backend, same requests, in turns. See README.md.

Usage: smoke.py GIMLET [--seconds N] [--rounds N] [--quick] [--io BACKEND]
"""
import argparse
import json
import os
import pathlib
import statistics
import sys

from stage import CONNECTIONS, GIB, HERE, Stage, Subject, free_ports, spread

# Issue 2: server and agent together may cost this much of one nginx hop, at 64 connections.
CEILING, CEILING_AT = 1.3, 64


class SmokeStage(Stage):
    """Gimlet and two nginx in front of the same backends, all in plaintext."""

    def build(self):
        backend, proxy, proxy64, sink, server, = free_ports(5)
        self.large_file()
        self.nginx("backend", "nginx-backend.conf", {"BACKEND": backend}, self.load_core)
        self.start("sink", [sys.executable, HERE / "sink.py", sink], self.load_core)
        self.wait_port(sink)
        both = {"BACKEND": backend, "SINK": sink}
        worker = self.nginx("proxy", "nginx-proxy.conf", {**both, "PROXY": proxy}, self.proxy_core)
        worker64 = self.nginx("proxy64", "nginx-proxy-64k.conf", {**both, "PROXY": proxy64}, self.proxy_core)
        self.tokens()
        self.ours = self.tunnel("gimlet", ["--http-port", server],
                                ["--server-url", f"ws://127.0.0.1:{server}/agent",
                                 "--service", f"web=http://127.0.0.1:{backend},token-file={self.dir}/web.token",
                                 "--service", f"sink=http://127.0.0.1:{sink},token-file={self.dir}/sink.token"],
                                Subject("gimlet", server, []))
        self.nginx_default = Subject("nginx", proxy, [worker])
        self.nginx_64k = Subject("nginx, 64 KiB buffers", proxy64, [worker64])


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
    stage = SmokeStage(str(pathlib.Path(given.gimlet).resolve()), given.io)
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
