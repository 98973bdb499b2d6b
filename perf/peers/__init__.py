"""Peers: what Gimlet is measured beside. One file is one peer; its name is the file's, with - for _.

A file that begins with _ is shared by several. An adapter has:

  KIND          "hop" (a reverse proxy: one process between client and backend), "http" (a tunnel that
                understands HTTP) or "tcp" (a tunnel that carries bytes)
  LARGE         True: a variant of another peer's for large bodies, and measured with those alone. May be left out
  ADVICE        one or two sentences for the report: how it is configured, and whose recommendation that is
  available()   None, or the reason why it cannot be measured here. May install it, pinned, into cache(); _tools.py says
                where else a program is looked for
  version()     one short line
  start(stage, name)
                starts its processes with stage.start(…, stage.proxy_core), for every service in stage.services
                ({service: backend's port}); returns the Subject. The frame waits until every service answers and
                ends the processes; nothing else is to be cleaned up
"""
import importlib
import os
import pathlib
import pkgutil


def cache() -> pathlib.Path:
    """Where peers are installed: outside the tree."""
    path = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "gimlet-perf"
    path.mkdir(parents=True, exist_ok=True)
    return path


def adapters() -> dict:
    """{name: module}, hops first."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            found[module.name.replace("_", "-")] = importlib.import_module(f"peers.{module.name}")
    order = ("hop", "http", "tcp")
    return dict(sorted(found.items(), key=lambda item: (order.index(item[1].KIND), item[0])))
