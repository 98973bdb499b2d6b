"""io_uring beside epoll."""
from lab.drive import transfer, wrk
from lab.lab import counted
from scenarios.small import case

TITLE = "io_uring beside epoll"
ABOUT = "The same program on its two back-ends, both of its processes. The ratio is io_uring's cost in epoll's."
ORDER = 150
PLOT = {"bars": True}


def run(lab):
    with lab.stage(sink=True) as stage:
        subjects = [stage.tunnel("io_uring", io="uring"), stage.tunnel("epoll", io="epoll")]
        for connections in (1, 64, 256):
            lab.compare(case(connections), subjects,
                        counted(lambda stage, subject, _, n=connections: wrk(stage, subject, n, lab.seconds), "enters"),
                        warm=lambda stage, subject, _, n=connections: wrk(stage, subject, n, 1), stage=stage)
        for way in ("down", "up"):
            lab.compare(f"1 GiB {way}", subjects, lambda stage, subject, _, w=way: transfer(stage, subject, w), unit="GiB",
                        rounds=max(1, lab.rounds // 2), stage=stage)
