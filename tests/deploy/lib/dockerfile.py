"""Reads the few instructions that our Dockerfile uses, and replays its first stage in a folder that
holds a Debian: COPY from what .dockerignore lets through, RUN by chroot. Not a builder: no layers,
no cache, no network of its own.

  replay.py ROOT     ROOT: what `debootstrap --variant=minbase bookworm ROOT` made; wants root's rights
"""
import fnmatch
import pathlib
import re
import shlex
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[3]
DOCKERFILE = ROOT / "deploy/docker/Dockerfile"


def stages(text):
    """[(base image, [(instruction, its words as one string), ...]), ...]"""
    found = []
    text = re.sub(r"^#.*\n", "", text, flags=re.M).replace("\\\n", " ")
    for line in filter(None, map(str.strip, text.splitlines())):
        word, rest = line.split(None, 1)
        if word == "FROM":
            found.append((rest.split()[0], []))
        else:
            found[-1][1].append((word, rest))
    return found


def ignore_rules(path=ROOT / ".dockerignore"):
    lines = [line.strip() for line in path.read_text().splitlines()]
    return [(line.startswith("!"), line.lstrip("!")) for line in lines if line and not line.startswith("#")]


def is_sent(path, rules):
    """Does the build see this file? As Docker decides: the last rule that names it or a folder above it."""
    sent = True
    parts = pathlib.PurePath(path).parts
    for keep, pattern in rules:
        if any(fnmatch.fnmatch("/".join(parts[:n]), pattern) for n in range(1, len(parts) + 1)):
            sent = keep
    return sent


def context(rules):
    """Files that git knows and files in the package cache, as far as the build sees them."""
    known = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                           stdout=subprocess.PIPE, text=True, check=True).stdout.split("\n")
    cache = [str(path.relative_to(ROOT)) for path in ROOT.glob("subprojects/packagecache/*")]
    return [path for path in filter(None, known + cache) if is_sent(path, rules) and (ROOT / path).is_file()]


def copied(sources, target, files):
    """(file, where it goes) for a COPY of the context."""
    for source in sources:
        inside = [path for path in files if path == source or path.startswith(f"{source}/")]
        assert inside, f"COPY {source}: no such file in the context"
        folder = [path for path in inside if path != source]
        for path in inside:
            into = target.endswith("/") or len(sources) > 1
            if folder:
                yield path, f"{target}/{path[len(source) + 1:]}"
            else:
                yield path, f"{target}/{pathlib.PurePath(path).name}" if into else target


def replay(root):
    """Builds the first stage below root; returns the folder that becomes the image."""
    root = pathlib.Path(root).resolve()
    files = context(ignore_rules())
    here = "/"
    for word, rest in stages(DOCKERFILE.read_text())[0][1]:
        print(f"{word} {rest}", flush=True)
        if word == "WORKDIR":
            here = rest
            (root / here.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "COPY":
            *sources, target = rest.split()
            for path, place in copied(sources, target, files):
                place = root / here.lstrip("/") / place
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / path, place)
        elif word == "RUN":
            command = f"cd {shlex.quote(here)} && {rest}"
            subprocess.run(["chroot", str(root), "/bin/sh", "-c", command], check=True, stdin=subprocess.DEVNULL,
                           env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"})
        else:
            raise AssertionError(f"{word}: not one of the instructions that this knows")
    return root / "image"
