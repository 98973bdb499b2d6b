"""One ring beside two: local traffic, and requests that cross from one ring to the other."""
from lab.drive import wrk
from lab.lab import counted
from scenarios.small import case

TITLE = "One ring beside two"
ABOUT = """Everything may run on every core here, load and backend included: on two cores there is no other room for two rings, so the rate says
nothing and the CPU time is the result. The ratio is the first line's cost in the other's.

*Two, local*: each agent keeps a link to each ring, and a request leaves by the link of the ring that took its client. *Two, one link*: the server
asks for one link (`--lanes 1`), so that requests of clients on the other ring cross, there and back. Which ring takes a client is the kernel's
lot (SO_REUSEPORT), so the share that crosses is counted, not chosen, and the cost of a request that crosses is computed from it: (cost with one
link − (1 − share) × local cost) ÷ share."""
ORDER = 140
PLOT = None
CONNECTIONS = (64, 256)
COUNTED = ("crossings", "wakes_sent", "requests")


def run(lab):
    with lab.stage() as stage:
        two = stage.tunnel("two, local", rings=2, core=None)
        one = stage.tunnel("one", rings=1, core=None)
        single = stage.tunnel("two, one link", server=["--lanes", "1"], rings=2, core=None)
        lonely = stage.tunnel("one, again", rings=1, core=None)
        with spread_out(stage):
            for connections in CONNECTIONS:
                name = case(connections)
                lab.compare(name, [two, one], counted(measure(lab, connections), *COUNTED), warm=measure(lab, connections),
                            stage=stage)
                lab.compare(f"{name}, crossing", [single, lonely], counted(measure(lab, connections), *COUNTED),
                            warm=measure(lab, connections), stage=stage)
                judge(lab, name, connections)


def measure(lab, connections: int):
    return lambda stage, subject, _: wrk(stage, subject, connections, lab.seconds)


class spread_out:
    """While it lasts, the load runs on all cores."""

    def __init__(self, stage):
        self.stage = stage

    def __enter__(self):
        self.core, self.stage.load_core = self.stage.load_core, None

    def __exit__(self, *_):
        self.stage.load_core = self.core


def judge(lab, name: str, connections: int):
    local = lab.ratio(name, "one")
    half = lab.ratio(f"{name}, crossing", "one, again")
    row = lab.row(f"{name}, crossing", "two, one link")
    share = row["server crossings"]
    lab.judge(f"{name}: two rings, local, in one's", local, 1.05)
    if share > 0.05:
        wakes = row["server wakes_sent"] / share * 1000
        lab.note(f"{name}: {share:.0%} of the requests crossed; {wakes:.0f} wake-ups of the server's rings per 1,000 crossings")
        lab.judge(f"{name}: a request that crosses, in one ring's", (half - (1 - share) * local) / share, 1.25)
        lab.judge(f"{name}: wake-ups per 1,000 crossings", wakes, 200, "")
