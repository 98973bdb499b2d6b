"""Scenarios: what is measured. One file is one scenario; its name is the file's, with - for _.

A file that begins with _ is shared by several. A scenario has:

  TITLE      one line
  ABOUT      what it does and how it is to be read, for the report (Markdown)
  ORDER      its place in the report, a number
  PLOT       None, or how its rows are drawn: {"x": label}: lines over the rows' x, costs per unit;
             {"bars": True}: a group of bars for each case
  COLUMNS    {key of a measurement: label}: columns of their own in the report. May be left out
  render(result, before)
             Markdown instead of the table of rows; `before` is results/NAME-before.json, or None. May be left out
  run(lab)   measures: see lab.lab.Lab
"""
import importlib
import pkgutil


def scenarios() -> dict:
    """{name: module} in the order of the report."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            found[module.name.replace("_", "-")] = importlib.import_module(f"scenarios.{module.name}")
    return dict(sorted(found.items(), key=lambda item: (item[1].ORDER, item[0])))
