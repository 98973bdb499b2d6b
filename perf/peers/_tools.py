"""Where a peer's program comes from.

First what the environment names (GIMLET_PERF_CHISEL=/path/to/chisel), then bin/ in cache(), then PATH.
"""
import os
import re
import shutil
import subprocess

import peers


def variable(program: str) -> str:
    return "GIMLET_PERF_" + program.upper().replace("-", "_")


def find(program: str) -> "str | None":
    named = os.environ.get(variable(program))
    if named:
        return shutil.which(os.path.abspath(named))
    return shutil.which(program, path=str(peers.cache() / "bin")) or shutil.which(program)


def missing(*programs: str) -> "str | None":
    """None, or which of them cannot be found, and where they are looked for."""
    absent = [program for program in programs if not find(program)]
    if not absent:
        return None
    variables = ", ".join(variable(program) for program in absent)
    return f"no {' and '.join(absent)} on PATH or in {peers.cache()}/bin, and {variables} names none"


def version(program: str, argument: str = "--version", behind: str = "") -> str:
    """The first thing that looks like a version behind these words."""
    done = subprocess.run([find(program), argument], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    match = re.search(r"\d+\.\d+(\.\d+)?[\w.+-]*", said.partition(behind)[2] if behind else said)
    return match[0] if match else "of unknown version"
