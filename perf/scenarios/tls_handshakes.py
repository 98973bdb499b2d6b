"""A new TLS connection for every request."""
import json
import pathlib
import sys

from lab.drive import load
from lab.stage import Broken
from scenarios._tls import tls_stage

TITLE = "A new TLS connection for every small request"
ABOUT = """Full handshakes and resumed ones (each caller offers the session before; what is not of the kind asked for counts as failed).
Eight callers need most of a core for themselves, so the rate is bounded by them: the CPU time is the result."""
ORDER = 130
PLOT = None
CALLERS = 8
CALLER = pathlib.Path(__file__).with_name("_handshakes.py")


def handshakes(stage, subject, kind: str, seconds: float) -> dict:
    url, headers = subject.request("web", "/small")
    done = load(stage, [sys.executable, CALLER, kind, url, CALLERS, seconds, headers["Authorization"]])
    if done.returncode != 0:
        raise Broken(f"{CALLER.name} failed: {done.stdout}{done.stderr}")
    found = json.loads(done.stdout)
    if error := found.pop("error"):
        print(f"  {subject.name}, {kind} handshakes: {error}", file=sys.stderr)
    return found


def run(lab):
    with tls_stage(lab, plain=False) as (stage, subjects):
        for kind in ("full", "resumed"):
            lab.compare(kind, subjects, lambda stage, subject, _, k=kind: handshakes(stage, subject, k, lab.seconds),
                        unit="connection", rounds=max(1, lab.rounds // 2), stage=stage)
        lab.note("Connections per second of the proxies' CPU time: " + "; ".join(
            f"{kind} " + ", ".join(f"{subject.name} {1 / lab.row(kind, subject.name)['cpu']:,.0f}" for subject in subjects)
            for kind in ("full", "resumed")))
