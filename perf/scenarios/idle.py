"""Memory per idle client connection."""
import resource
import time

from lab.gauge import resident_bytes
from scenarios._load import Generators

TITLE = "Idle client connections: resident memory of the process that holds them"
ABOUT = """Growth of the server's `VmRSS` over kept connections that have had one answer each and wait, after 1,000 that are not counted
and have asked twenty times: receive buffers are written to for the first time by whoever comes first. Their addresses are 127.0.0.1, .2 and so on, since
one has 28,000 ports. Every fiftieth must still answer. 50,000 are wanted; a process may hold as many descriptors as its hard limit allows, and the
notes say where that was the end. CPU is for opening one and its first answer."""
ORDER = 56
PLOT = None
WANTED, FIRST, ROUNDS, SPARE, CEILING = 50_000, 1000, 20, 300, 256


def run(lab):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    count = WANTED if limit == resource.RLIM_INFINITY else min(WANTED, limit - SPARE - FIRST)
    count = count // 10 if lab.seconds <= 1 else count
    if count < WANTED:
        lab.note(f"{count:,} connections instead of {WANTED:,}: a process may hold {limit:,} descriptors here (ulimit -Hn)"
                 + (", and the run is a quick one" if lab.seconds <= 1 else ""))
    for io in ("uring", "epoll") if lab.io == "auto" else (lab.io,):
        with lab.stage(web=False) as stage:
            generators = Generators(stage)
            generators.backend()
            case = f"{count:,}, {io}"
            lab.compare(case, [stage.tunnel(io=io)], lambda _, subject, clock: hold(generators, subject, clock, count),
                        unit="connection", rounds=1, stage=stage)
            lab.judge(f"{case}: memory of a connection", lab.row(case, "gimlet")["bytes_each"], CEILING, "B")


def hold(generators, subject, clock, count: int) -> dict:
    pid = subject.pids[0]
    with generators.hold(subject, "model", "/small") as tell:
        tell(f"open {FIRST}")
        warm = sum(tell("ask 1")["failed"] for _ in range(ROUNDS))
        time.sleep(1)
        before = resident_bytes(pid)
        clock.restart()
        opened = tell(f"open {FIRST + count}")
        clock.stop()
        time.sleep(2)
        after = resident_bytes(pid)
        failed = warm + tell("ask 50")["failed"]
    units = opened["held"] - FIRST
    return {"units": units, "seconds": clock.spent["span"], "failed": failed, "bytes_each": round((after - before) / max(units, 1))}
