"""What loads a subject: wrk for small requests, curl for large bodies. All on the load's core.

Each function is a measurement: drive(stage, subject, …) -> {"units", "seconds", "failed", …}. Units are
requests, or GiB. Whatever else it returns (p50_us, p99_us) is kept per round.
"""
import json
import subprocess
import sys
import time

from lab.stage import GIB, HERE, Broken


def pinned(stage, argv: list) -> "list[str]":
    core = stage.load_core
    return [*([] if core is None else ["taskset", "-c", str(core)]), *map(str, argv)]


def load(stage, argv: list, timeout=300) -> subprocess.CompletedProcess:
    """Runs a load generator to its end."""
    return subprocess.run(pinned(stage, argv), capture_output=True, text=True, check=False, timeout=timeout, env=stage.environment)


def wrk(stage, subject, connections: int, seconds: float, *options, path="/small") -> dict:
    """Small requests to the service web. Options: words for wrk.lua (post, new, tokens FILE)."""
    url, _ = subject.request("web", path)
    done = load(stage, ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s", "--latency",
                        "-s", HERE / "wrk.lua", *subject.header_arguments("web"), url, "--", *options])
    line = [x for x in done.stdout.splitlines() if x.startswith("@@")]
    if not line:
        raise Broken(f"wrk failed: {done.stdout}{done.stderr}")
    found = json.loads(line[0][2:])
    errors = {key: found.pop(key) for key in ("connect", "read", "write", "status", "timeout")}
    if any(errors.values()):
        print(f"  {subject.name}, {connections} connections: {errors}", file=sys.stderr)
    return {**found, "failed": sum(errors.values())}


def transfer(stage, subject, way: str, at_once: int = 1) -> dict:
    """1 GiB `way` ("down" from web, "up" to sink) through each of `at_once` connections."""
    url, _ = subject.request(*(("web", "/large") if way == "down" else ("sink", "/up")))
    service = "web" if way == "down" else "sink"
    argv = ["curl", "-sS", "--noproxy", "*", "-o", "/dev/null", "-w", "%{http_code} %{size_download} %{size_upload}",
            *subject.header_arguments(service), *stage.curl_options]
    argv += [url] if way == "down" else ["-H", "Expect:", "-T", stage.dir / "www" / "large", url]
    began = time.monotonic()
    runs = [subprocess.Popen(pinned(stage, argv), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             env=stage.environment) for _ in range(at_once)]
    outputs = [run.communicate(timeout=600)[0] for run in runs]
    seconds, failed = time.monotonic() - began, 0
    for run, output in zip(runs, outputs):
        words = output.split()
        if run.returncode != 0 or words[0] != "200" or int(words[1 if way == "down" else 2]) != GIB:
            print(f"  {subject.name}, 1 GiB {way}: {output}", file=sys.stderr)
            failed += 1
    return {"units": at_once, "seconds": seconds, "failed": failed}
