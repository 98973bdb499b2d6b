"""1 GiB down and up, through one connection and through eight at once."""
from lab.drive import transfer

TITLE = "1 GiB down and up, one and eight at once"
ABOUT = """curl downloads a sparse file from nginx, and uploads one into a sink; eight at once are eight GiB. Per second means GiB.
Both nginx stream bodies as Gimlet does; otherwise their disk would be measured."""
ORDER = 40
PLOT = {"bars": True}
LIMITS = {"nginx": 1, "nginx-64k": 3}  # and below every tunnel


def run(lab):
    rounds = max(1, lab.rounds // 2)
    with lab.stage(sink=True) as stage:
        ours = stage.tunnel()
        subjects = [ours, *lab.peers(stage, large=True)]
        for way in ("down", "up"):
            for at_once in (1,) if lab.brief else (1, 8):
                lab.compare(f"{way}, {at_once} at once" if at_once > 1 else way, subjects,
                            lambda stage, subject, _, w=way, n=at_once: transfer(stage, subject, w, n),
                            unit="GiB", rounds=rounds if at_once == 1 else 1, stage=stage)
    for row in [row for row in lab.result["rows"] if "ratio" in row]:
        limit = LIMITS.get(row["subject"], 1 if row["kind"] in ("http", "tcp") else None)
        if limit:
            lab.judge(f"{row['case']}: CPU per GiB, in {row['subject']}'s", row["ratio"]["cpu"][0], limit)
