"""Fixtures of the tests of deploy/: the program, what it says about itself, and the artefacts."""
import os
import pathlib
import re
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from lib import artefacts  # noqa: E402  (the path must be set first)

PROGRAM = os.path.abspath(os.environ.get("GIMLET_BIN", artefacts.ROOT / "build/gimlet"))


class Help:
    """Flags, variables and defaults of one subcommand, from its --help-markdown."""

    ROW = re.compile(r"^\| `--([a-z0-9-]+)[^`]*` \| ([^|]*) \| ([^|]*) \|", re.M)

    def __init__(self, program, subcommand):
        page = subprocess.run([program, subcommand, "--help-markdown"], stdout=subprocess.PIPE, text=True,
                              timeout=20, check=True).stdout
        rows = self.ROW.findall(page)
        self.flags = {flag for flag, _, _ in rows}
        self.variables = {name for _, names, _ in rows for name in re.findall(r"GIMLET_[A-Z0-9_]+", names)}
        self.defaults = {flag: default.strip() for flag, _, default in rows}


@pytest.fixture(scope="session")
def program():
    assert os.access(PROGRAM, os.X_OK), f"{PROGRAM} is not there: build first, or set GIMLET_BIN"
    return PROGRAM


@pytest.fixture(scope="session")
def help_of(program):
    return {name: Help(program, name) for name in ("server", "agent")}


@pytest.fixture
def start(tmp_path):
    """start(name, *words): a process with a log, which is returned; ended after the test."""
    processes = []

    def run(name, *words):
        with open(tmp_path / f"{name}.log", "w", encoding="utf-8") as log:
            processes.append(subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, cwd=tmp_path))
        return tmp_path / f"{name}.log"

    yield run
    for process in reversed(processes):
        process.terminate()
        process.wait(20)


@pytest.fixture
def tunnel(tmp_path, start):
    """tunnel(command): a request through server and agent started by it; returns what they run on."""
    return lambda command: artefacts.round_trip(tmp_path, PROGRAM, command, start)
