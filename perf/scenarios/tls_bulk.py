"""1 GiB with TLS on every leg."""
from lab.drive import transfer
from scenarios._tls import tls_stage

TITLE = "1 GiB down and up with TLS on every leg"
ABOUT = """Three TLS connections on the way of a byte through us (client, link, backend), two through nginx. The sink of uploads is
Python's `ssl`, one core shared with curl: the rate is theirs, the CPU time is the proxies'."""
ORDER = 120
PLOT = {"bars": True}
LEGS = {"gimlet": 3, "nginx": 2, "nginx-64k": 2}
PLAIN_FLOOR = 0.7  # of our own plaintext's throughput per CPU second


def run(lab):
    with tls_stage(lab, sink=True, wide=True) as (stage, subjects):
        for way in ("down", "up"):
            lab.compare(way, subjects, lambda stage, subject, _, w=way: transfer(stage, subject, w), unit="GiB",
                        rounds=max(1, lab.rounds // 2), stage=stage)
            cost = {subject.name: lab.row(way, subject.name)["cpu"] for subject in subjects}
            lab.judge(f"{way}: CPU per GiB, in our own plaintext's", lab.ratio(way, "gimlet, plain"), 1 / PLAIN_FLOOR)
            legs = {name: cost[name] / count for name, count in LEGS.items()}
            lab.note(f"{way}, CPU s per GiB and TLS connection: " + ", ".join(f"{name} {value:.2f}" for name, value in legs.items()))
