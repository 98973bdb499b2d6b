"""Small requests with TLS on every leg."""
from lab.drive import wrk
from scenarios._tls import tls_stage
from scenarios.small import BRIEF, case

TITLE = "Small requests with TLS on every leg"
ABOUT = """TLS 1.3, AES-128-GCM, X25519 and ECDSA P-256 are pinned for everybody: wrk to `--https-port`, the agent to `wss://`, the agent to
an `https://` backend. A run's own handshakes are within it: at 256 connections they are 2 to 3 % of the CPU time, of all alike."""
ORDER = 110
PLOT = {"x": "connections"}
CEILING, CEILING_AT = 1.2, 64


def run(lab):
    with tls_stage(lab) as (stage, subjects):
        for connections in BRIEF:
            lab.compare(case(connections), subjects, lambda stage, subject, _, n=connections: wrk(stage, subject, n, lab.seconds),
                        warm=lambda stage, subject, _, n=connections: wrk(stage, subject, n, 1), stage=stage, x=connections)
    lab.judge(f"{CEILING_AT} connections: CPU per request, in nginx hops with TLS", lab.ratio(case(CEILING_AT), "nginx"), CEILING)
