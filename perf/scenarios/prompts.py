"""Model serving: long prompts up, streamed answers down."""
from lab.stage import Subject
from scenarios._load import Generators

TITLE = "Long prompts up (128 KiB), streamed answers down"
ABOUT = """256 clients, each: a POST of 128 KiB, an answer of 20 events at 20 a second, and again. A unit is an event, prompt included. `first`
is the time from the request to its answer's first event; p50 and p99 are those of events, as in *streams*."""
ORDER = 52
PLOT = None
CLIENTS, BODY, EVENTS = 256, 128 << 10, 20


def run(lab):
    repeat = max(2, round(2 * lab.seconds))
    with lab.stage(web=False) as stage:
        generators = Generators(stage)
        port = generators.backend()
        ours = stage.tunnel()
        direct = Subject("direct", [], {"model": (f"http://127.0.0.1:{port}", {})}, "direct")

        def measure(_, subject, clock):
            argv = generators.argv("streams", subject, "model", f"/stream?events={EVENTS}&rate=20&bytes=250")
            return generators.measure([*argv, "--streams", CLIENTS, "--events", EVENTS, "--repeat", repeat, "--body", BODY], clock)

        lab.compare("256 clients", [ours, direct, *lab.peers(stage)], measure, unit="event", rounds=max(1, lab.rounds // 2), stage=stage)
    for row in lab.result["rows"]:
        lab.note(f"{row['subject']}: first event after p50 {row['first_p50_us'] / 1e3:.2f} ms, p99 {row['first_p99_us'] / 1e3:.2f} ms")
        if row["kind"] in ("http", "tcp"):
            lab.judge(f"CPU per event, prompt included, in {row['subject']}'s", row["ratio"]["cpu"][0], 1)
