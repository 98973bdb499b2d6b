"""Model serving: many token streams at once, and what the way adds to each token."""
from lab.stage import Subject
from scenarios._load import Generators

TITLE = "Token streams: server-sent events, 20 a second on each"
ABOUT = """Each stream is an answer of 250-byte events, 20 a second, chunked. The backend stamps an event with `CLOCK_MONOTONIC` just before it
sends it and the generator looks at the clock when it has it; both are C programs ([load/](load/backend.c)) on one core, so `direct`, without
anything between, is what they cost themselves: *added* is the difference to it. Lost, doubled and late ones are counted: one that is lost
fails the run. Both ends of our tunnel have `--ring-memory 256MiB`: each stream reserves its window, and the 64 MiB that a ring has by itself are
enough for some 1,500. *others* near 100 % says that the load is what is slow."""
ORDER = 50
PLOT = {"x": "streams"}
STREAMS, RATE, BYTES = (200, 1000, 2000), 20, 250
MEMORY = ("--ring-memory", "256MiB")
IDLE_LEAST, ADDED_P99_US = 0.2, 2000


def case(streams: int) -> str:
    return f"{streams:,} streams"


def run(lab):
    seconds = max(4, round(2 * lab.seconds)) + 1
    with lab.stage(web=False) as stage:
        generators = Generators(stage)
        port = generators.backend()
        ours = stage.tunnel(server=MEMORY, agent=MEMORY)
        direct = Subject("direct", [], {"model": (f"http://127.0.0.1:{port}", {})}, "direct")
        subjects = [ours, direct, *lab.peers(stage)]

        def measure(_, subject, clock, streams):
            argv = generators.argv("streams", subject, "model", f"/stream?events={RATE * seconds}&rate={RATE}&bytes={BYTES}")
            return generators.measure([*argv, "--streams", streams, "--events", RATE * seconds, "--ramp", 1000], clock)

        for streams in STREAMS[-1:] if lab.brief else STREAMS:
            lab.compare(case(streams), subjects, lambda stage, subject, clock, n=streams: measure(stage, subject, clock, n),
                        unit="event", rounds=max(1, lab.rounds // 2), stage=stage, x=streams)
    judge(lab)


def judge(lab):
    """At the most streams that leave the machine a fifth of its time, or at the fewest."""
    rows = [row for row in lab.result["rows"] if row["subject"] == "gimlet"]
    calm = [row for row in rows if 1 - (row["proxy_core"] + row["load_core"]) / 2 >= IDLE_LEAST]
    row = (calm or rows[:1])[-1]
    for one in rows:
        direct = lab.row(one["case"], "direct")
        added = ", ".join(f"{key[:-3]} {(one[key] - direct[key]) / 1e3:.2f} ms" for key in ("p50_us", "p99_us", "p999_us"))
        lab.note(f"{one['case']}: added to a token by us {added}; the machine is {1 - (one['proxy_core'] + one['load_core']) / 2:.0%} idle")
    direct = lab.row(row["case"], "direct")
    lab.judge(f"{row['case']}: added p99", row["p99_us"] - direct["p99_us"], ADDED_P99_US, "µs")
    for other in lab.result["rows"]:
        if other["kind"] in ("http", "tcp"):
            lab.judge(f"{other['case']}: CPU per event, in {other['subject']}'s", other["ratio"]["cpu"][0], 1)
