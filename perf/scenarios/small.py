"""Small keep-alive requests, by connections: the budget of CPU per request."""
from lab.drive import wrk
from lab.lab import counted

TITLE = "Small requests on kept connections (GET, 12 bytes)"
ABOUT = """wrk asks for 12 bytes over and over, on 1 to 1,024 kept connections. CPU per request is what the proxies spend: server and
agent together for a tunnel, the worker for a hop."""
ORDER = 10
PLOT = {"x": "connections"}
CONNECTIONS = (1, 16, 64, 256, 1024)
BRIEF = (1, 64, 256)
COUNTED = ("enters", "allocations", "copies_large")  # per request, of each process


def case(connections: int) -> str:
    return f"{connections} connection{'s' if connections > 1 else ''}"


def run(lab):
    with lab.stage() as stage:
        ours = stage.tunnel()
        subjects = [ours, *lab.peers(stage)]
        for connections in BRIEF if lab.brief else CONNECTIONS:
            lab.compare(case(connections), subjects,
                        counted(lambda stage, subject, _, n=connections: wrk(stage, subject, n, lab.seconds), *COUNTED),
                        warm=lambda stage, subject, _, n=connections: wrk(stage, subject, n, 1), stage=stage, x=connections)
        where = ours.io()
    judge(lab, subjects)
    for connections in (64, 256):
        row = lab.row(case(connections), "gimlet")
        lab.note(f"{row['case']}, on {where}, per request: system calls server {row['server enters']:.2f}, agent {row['agent enters']:.2f};"
                 f" large copies {row['server copies_large'] + row['agent copies_large']:.4f}; allocations"
                 f" {row['server allocations'] + row['agent allocations']:.4f}, where each round's new connections are"
                 f" {connections * lab.rounds / row['units']:.4f}")



def judge(lab, subjects):
    """The budgets: CPU at 64 and 256 connections beside a hop and the best tunnels, latency at one, requests/s."""
    for connections in (64, 256):
        name = case(connections)
        lab.judge(f"{name}: CPU per request, in nginx hops", lab.ratio(name, "nginx"), 0.85)
        for kind, limit, words in (("tcp", 0.65, "in the best opaque tunnel's"), ("http", 0.1, "in the best HTTP tunnel's")):
            found = [lab.ratio(name, subject.name) for subject in subjects if subject.kind == kind]
            lab.judge(f"{name}: CPU per request, {words}", max(found, default=None), limit)
    lab.judge("1 connection: p50, in nginx hops", lab.ratio(case(1), "nginx", "p50_us"), 2.2)
    lab.judge_rates()
