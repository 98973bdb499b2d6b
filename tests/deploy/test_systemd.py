"""The units, read by systemd itself, and their system call filter in force."""
import configparser
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from lib import artefacts, seccomp
from lib.artefacts import DEPLOY

UNITS = DEPLOY / "systemd"
needs_analyze = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")
ROLES = ("server", "agent")


def unit(role):
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str
    parser.read(UNITS / f"gimlet-{role}.service")
    return parser


def installed(folder, role, program, drop_ins):
    """The unit as a user installs it, but for a program that is here."""
    text = (UNITS / f"gimlet-{role}.service").read_text()
    path = os.path.join(folder, f"gimlet-{role}")
    if not os.path.exists(path):
        os.symlink(program, path)
    text = re.sub(r"^ExecStart=/usr/bin/gimlet-", f"ExecStart={folder}/gimlet-", text, flags=re.M)
    (folder / f"gimlet-{role}.service").write_text(text)
    for drop_in in drop_ins:
        place = folder / f"gimlet-{role}.service.d"
        place.mkdir(exist_ok=True)
        shutil.copy(UNITS / drop_in, place)


def analyze(*words, path):
    return subprocess.run(["systemd-analyze", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=30, env={**os.environ, "SYSTEMD_UNIT_PATH": f"{path}:"})


@needs_analyze
@pytest.mark.parametrize("role, drop_ins", [
    ("server", []), ("server", ["server-credentials.conf"]), ("server", ["server-low-ports.conf"]),
    ("agent", []), ("agent", ["agent-credentials.conf"])])
def test_unit_is_valid(tmp_path, program, role, drop_ins):
    installed(tmp_path, role, program, drop_ins)
    run = analyze("verify", "--man=no", f"gimlet-{role}.service", path=tmp_path)
    ours = [line for line in run.stdout.splitlines() if "gimlet" in line]
    assert run.returncode == 0 and not ours, run.stdout


@needs_analyze
def test_a_mistake_is_seen(tmp_path, program):
    installed(tmp_path, "server", program, [])
    path = tmp_path / "gimlet-server.service"
    path.write_text(path.read_text().replace("LimitNOFILE=", "LimitNOFILES="))
    assert "LimitNOFILES" in analyze("verify", "--man=no", "gimlet-server.service", path=tmp_path).stdout


@needs_analyze
@pytest.mark.parametrize("role", ROLES)
def test_exposure_is_low(tmp_path, program, role):
    installed(tmp_path, role, program, [])
    run = analyze("security", "--offline=true", "--threshold=20", "--no-pager", f"gimlet-{role}.service", path=tmp_path)
    assert run.returncode == 0, run.stdout[-300:]


@pytest.mark.parametrize("role", ROLES)
def test_program_and_files_are_named(role):
    service = unit(role)["Service"]
    assert service["ExecStart"] == f"/usr/bin/gimlet-{role}"
    assert service["EnvironmentFile"] == f"/etc/gimlet/{role}.env"
    assert f"/etc/gimlet/{role}.env" in (artefacts.ROOT / "README.md").read_text()
    assert service["User"] == re.search(r"^u (\w+) ", (UNITS / "gimlet.sysusers").read_text(), re.M)[1]


def test_credentials_are_used_where_they_are_put():
    for role in ROLES:
        text = (UNITS / f"{role}-credentials.conf").read_text()
        loaded = set(re.findall(r"^LoadCredential=([^:]+):", text, re.M))
        used = set(re.findall(r"^Environment=\w+=%d/(.*)$", text, re.M))
        assert loaded and loaded == used


@pytest.mark.skipif(not shutil.which("systemd-sysusers"), reason="systemd-sysusers is not here")
def test_the_account_is_made(tmp_path):
    (tmp_path / "etc").mkdir()
    run = subprocess.run(["systemd-sysusers", f"--root={tmp_path}", str(UNITS / "gimlet.sysusers")],
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20)
    if run.returncode != 0 and os.geteuid() != 0:
        pytest.skip("accounts want root")
    assert run.returncode == 0, run.stdout
    name, _, number, _, _, home, shell = (tmp_path / "etc/passwd").read_text().strip().split(":")
    assert (name, home, shell) == ("gimlet", "/nonexistent", "/usr/sbin/nologin") and number != "0"


def groups_of_calls():
    """{"@group": the calls in it} of this systemd."""
    page = subprocess.run(["systemd-analyze", "syscall-filter", "--no-pager"], stdout=subprocess.PIPE, text=True, check=True).stdout
    found = {}
    for block in re.split(r"\n(?=@)", page):
        name, *lines = block.splitlines()
        found[name] = {line.strip() for line in lines if line.startswith("    ") and "#" not in line}
    return found


def expand(groups, word):
    if not word.startswith("@"):
        return {word}
    return set().union(*(expand(groups, name) for name in groups[word]))


def filter_of(role, groups):
    """The unit's SystemCallFilter= as a profile."""
    allowed, forbidden = set(), set()
    text = (UNITS / f"gimlet-{role}.service").read_text()
    for line in re.findall(r"^SystemCallFilter=(.*)$", text, re.M):
        into = forbidden if line.startswith("~") else allowed
        into |= set().union(*(expand(groups, word) for word in line.lstrip("~").split()))
    rules = [{"names": sorted(allowed - forbidden), "action": "SCMP_ACT_ALLOW"}]
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}


@needs_analyze
@pytest.mark.skipif(seccomp.library() is None, reason="libseccomp2 is not here")
def test_filter_lets_the_tunnel_work(tmp_path, program, tunnel):
    profile = tmp_path / "filter.json"
    groups = groups_of_calls()
    assert "io_uring_setup" in expand(groups, "@system-service")
    profile.write_text(json.dumps(filter_of("server", groups)))
    assert filter_of("server", groups) == filter_of("agent", groups)
    assert tunnel([sys.executable, seccomp.__file__, str(profile), "--", program]) == "io_uring"
