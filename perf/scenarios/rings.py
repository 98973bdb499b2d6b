"""One ring beside two: local traffic, and requests that cross from one ring to the other."""
from lab.drive import wrk
from lab.lab import counted

TITLE = "One ring beside two"
ABOUT = """The ratio is the first line's cost in the other's, and CPU time is the result: on two cores there is no room of their own for two rings,
so the rate says nothing. Two placements: on *one core*, where the load has the other one, both rings share the proxies' core: what splitting the
work costs by itself (smaller batches). On *all cores* everything may run everywhere, load and backend included: wake-ups between cores come to it.

*Two, local*: each agent keeps a link to each ring, and a request leaves by the link of the ring that took its client. *Two, one link*: the server
asks for one link (`--lanes 1`), so that requests of clients on the other ring cross, there and back. Which ring takes a client is the kernel's
lot (SO_REUSEPORT), so the share that crosses is counted, not chosen; the cost of a request that crosses is what it would be if all the excess over
one ring were theirs: 1 + (ratio − 1) ÷ share."""
ORDER = 140
PLOT = None
CONNECTIONS = (64, 256)
COUNTED = ("crossings", "wakes_sent", "requests")


def run(lab):
    with lab.stage() as stage:
        for where, core, load_core in (("one core", stage.proxy_core, stage.load_core), ("all cores", None, None)):
            two = stage.tunnel("two, local", rings=2, core=core)
            single = stage.tunnel("two, one link", server=["--lanes", "1"], rings=2, core=core)
            one = stage.tunnel("one", rings=1, core=core)
            stage.load_core = load_core  # of the load alone: the backend stays where it is
            for connections in CONNECTIONS:
                name = f"{connections}, {where}"
                measure = counted(lambda stage, subject, _, n=connections: wrk(stage, subject, n, lab.seconds), *COUNTED)
                lab.compare(name, [two, one], measure, warm=measure, stage=stage)
                lab.compare(f"{name}, crossing", [single, one], measure, warm=measure, stage=stage)
                judge(lab, name)


def judge(lab, name: str):
    row = lab.row(f"{name}, crossing", "two, one link")
    share = row["server crossings"]
    lab.judge(f"{name}: two rings, local, in one's", lab.ratio(name, "one"), 1.05)
    if share > 0.05:
        wakes = row["server wakes_sent"] / share * 1000
        lab.note(f"{name}: {share:.0%} of the requests crossed; {wakes:.0f} wake-ups of the server's rings per 1,000 crossings")
        lab.judge(f"{name}: a request that crosses, in one ring's", 1 + (lab.ratio(f"{name}, crossing", "one") - 1) / share, 1.25)
        lab.judge(f"{name}: wake-ups per 1,000 crossings", wakes, 200, "")
