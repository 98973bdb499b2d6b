"""Slow readers beside fast ones: what the fast ones feel of them."""
import time

from lab.stage import Subject
from scenarios._load import Generators

TITLE = "Fast readers beside 100 stalled ones"
ABOUT = """Small requests on 64 kept connections through the same proxy, in turns with and without 100 clients beside them that have asked for
100 MB each and read no byte of it. *Paced* is 2,000 requests a second, evenly; latency counts from when a request was due. *Unpaced* asks as
fast as it is answered. The row *alone* is the same processes without the stalled ones; the ratio is with in without. The stalled ones' first
bytes have come and their windows are full before anything is measured, and each must still stand afterwards."""
ORDER = 54
PLOT = None
STALLED, FAST, PACE, LIMIT = 100, 64, 2000, 1.2
SETTLE_S = 4  # what the kernel takes for each of them goes on growing for seconds


def run(lab):
    with lab.stage(web=False) as stage:
        generators = Generators(stage)
        generators.backend()
        for subject in (stage.tunnel(), *lab.peers(stage, kinds=("http", "tcp"))):
            compare(lab, generators, subject)


def compare(lab, generators, subject):
    beside = Subject(f"{subject.name}, beside", subject.pids, subject.routes, subject.kind)
    alone = Subject(f"{subject.name}, alone", subject.pids, subject.routes, subject.kind)
    stage, seconds = generators.stage, max(1, round(lab.seconds))
    for name, pace in (("paced", PACE), ("unpaced", 0)):
        argv = [*generators.argv("requests", subject, "model", "/small"), "--connections", FAST, "--seconds", seconds, "--rate", pace]

        def measure(_, one, clock, argv=argv):
            if one is alone:
                return generators.measure(argv, clock)
            with generators.hold(subject, "model", "/flood?bytes=100000000", stalled=True) as tell:
                tell(f"open {STALLED}")
                time.sleep(SETTLE_S)
                found = generators.measure(argv, clock)
                found["failed"] += tell("ask 1")["failed"]
            return found

        case = name if subject.kind == "ours" else f"{name}, {subject.name}"
        lab.compare(case, [beside, alone], measure, stage=stage)
        if subject.kind == "ours":
            lab.judge(f"{name}: p99 of the fast ones beside {STALLED} stalled, in alone", lab.ratio(case, alone.name, "p99_us"), LIMIT)
