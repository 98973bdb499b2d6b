"""The report's drawings: CPU per unit, by matplotlib, as SVG that changes only when a figure does."""
import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402
from matplotlib.ticker import ScalarFormatter  # noqa: E402

from lab.lab import SCALES  # noqa: E402

matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "gimlet", "font.size": 9, "font.family": "sans-serif",
                            "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True})
OURS, OTHERS = "#c8102e", ("#1f4e79", "#6baed6", "#31a354", "#756bb1", "#e6a117", "#8c6d31", "#636363", "#d6619e", "#17a2a2")


def draw(scenario, result: dict, path) -> bool:
    """CPU per unit of every subject: lines over x, or bars for each case. False when there is nothing to draw."""
    rows = [row for row in result["rows"] if row["cpu"] > 0]
    if not rows:
        return False
    subjects = list(dict.fromkeys(row["subject"] for row in rows))
    colours = dict(zip(subjects, (OURS, *OTHERS * 3)))
    units = list(dict.fromkeys(row["unit"] for row in rows))
    figure, panels = pyplot.subplots(1, len(units), figsize=(8.4, 3.6), squeeze=False)
    for axes, unit in zip(panels[0], units):
        ours = [row for row in rows if row["unit"] == unit]
        (lines if "x" in scenario.PLOT else bars)(axes, ours, subjects, colours, scenario.PLOT.get("x"))
        costs = [row["cpu"] for row in ours]
        if max(costs) > 12 * min(costs):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(ScalarFormatter())
        else:
            axes.set_ylim(bottom=0)
        axes.set_ylabel(f"CPU {SCALES[unit][1]} per {unit}")
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    panels[0][-1].legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    return True


def lines(axes, rows, subjects, colours, label):
    for subject in subjects:
        points = sorted((row["x"], row["cpu"] * SCALES[row["unit"]][0]) for row in rows if row["subject"] == subject and "x" in row)
        if points:
            axes.plot(*zip(*points), marker="o", markersize=3.5, label=subject, color=colours[subject],
                      linewidth=2.2 if subject == subjects[0] else 1.2)
    xs = sorted({row["x"] for row in rows if "x" in row})
    axes.set_xscale("log")
    axes.set_xticks(xs)
    axes.set_xticklabels([f"{x:,}" for x in xs])
    axes.minorticks_off()
    axes.set_xlabel(label)


def bars(axes, rows, subjects, colours, _):
    cases = list(dict.fromkeys(row["case"] for row in rows))
    width = 0.8 / len(subjects)
    for index, subject in enumerate(subjects):
        found = [(cases.index(row["case"]) + index * width, row["cpu"] * SCALES[row["unit"]][0]) for row in rows
                 if row["subject"] == subject]
        if found:
            axes.bar(*zip(*found), width=width * 0.92, label=subject, color=colours[subject])
    axes.set_xticks([index + 0.4 - width / 2 for index in range(len(cases))])
    axes.set_xticklabels(cases, fontsize=8)
