"""A new connection for each small request."""
from lab.drive import wrk
from scenarios.small import CONNECTIONS, case

TITLE = "A new connection for each small request"
ABOUT = """wrk sends `Connection: close` and connects anew for each request, with so many under way at once. Through an opaque tunnel each is a
new connection to the backend, too."""
ORDER = 30
PLOT = {"x": "connections at once"}


def run(lab):
    with lab.stage() as stage:
        subjects = [stage.tunnel(), *lab.peers(stage)]
        for connections in CONNECTIONS:
            lab.compare(case(connections), subjects,
                        lambda stage, subject, _, n=connections: wrk(stage, subject, n, lab.seconds, "new"),
                        warm=lambda stage, subject, _, n=connections: wrk(stage, subject, n, 1, "new"), stage=stage, x=connections)
    lab.judge_rates()
