"""1 GiB down and up through one connection."""
from lab.drive import transfer

TITLE = "1 GiB down and up"
ABOUT = """curl downloads a sparse file from nginx, and uploads one into a sink. Per second means GiB. Both nginx stream bodies as Gimlet does;
otherwise their disk would be measured."""
ORDER = 40
PLOT = {"bars": True}
LIMITS = {"nginx": 1, "nginx-64k": 3}  # and below every tunnel


def run(lab):
    measure(lab, at_once=1, rounds=min(lab.rounds, 3))


def measure(lab, at_once: int, rounds: int):
    with lab.stage(sink=True) as stage:
        subjects = [stage.tunnel(), *lab.peers(stage, large=True)]
        for way in ("down", "up"):
            lab.compare(way, subjects, lambda stage, subject, _, w=way: transfer(stage, subject, w, at_once), unit="GiB",
                        rounds=rounds, stage=stage)
    for row in [row for row in lab.result["rows"] if row.get("ratio", {}).get("cpu")]:
        limit = LIMITS.get(row["subject"], 1 if row["kind"] in ("http", "tcp") else None)
        if limit:
            lab.judge(f"{row['case']}: CPU per GiB, in {row['subject']}'s", row["ratio"]["cpu"][0], limit)
    lab.judge_rates()
