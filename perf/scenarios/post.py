"""Small uploads on kept connections."""
from lab.drive import wrk
from scenarios.small import case

TITLE = "1 KiB POSTs on kept connections"
ABOUT = "The same, with a body of 1 KiB up."
ORDER = 20
PLOT = {"x": "connections"}
CONNECTIONS = (1, 64, 256)


def run(lab):
    with lab.stage() as stage:
        subjects = [stage.tunnel(), *lab.peers(stage)]
        for connections in CONNECTIONS:
            lab.compare(case(connections), subjects,
                        lambda stage, subject, _, n=connections: wrk(stage, subject, n, lab.seconds, "post"),
                        warm=lambda stage, subject, _, n=connections: wrk(stage, subject, n, 1, "post"), stage=stage, x=connections)
    lab.judge_rates()
