"""1 GiB down and up through each of eight connections at once."""
from scenarios.bulk import measure

TITLE = "Eight times 1 GiB at once, down and up"
ABOUT = "As bulk, through eight connections at once; costs are still per GiB. One round: eight GiB are long enough to be steady by themselves."
ORDER = 41
PLOT = {"bars": True}


def run(lab):
    measure(lab, at_once=8, rounds=1)
