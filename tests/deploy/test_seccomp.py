"""The seccomp profile in force: io_uring with it, epoll where the three calls are left out, nothing else."""
import errno
import json
import os
import shutil
import subprocess
import sys

import pytest

from lib import artefacts, seccomp
from lib.artefacts import DEPLOY

PROFILE = DEPLOY / "seccomp/gimlet.json"
URING = "io_uring_setup,io_uring_enter,io_uring_register"
pytestmark = pytest.mark.skipif(seccomp.library() is None, reason="libseccomp2 is not here")


def under(program, *options):
    return [sys.executable, seccomp.__file__, str(PROFILE), *options, "--", program]


def test_every_call_exists():
    profile = json.loads(PROFILE.read_text())
    assert seccomp.unknown_names(profile) == []
    names = [name for rule in profile["syscalls"] for name in rule["names"] if "args" not in rule]
    assert len(names) == len(set(names)), "named twice"


def test_io_uring_with_the_profile(program, tunnel):
    assert tunnel(under(program)) == "io_uring"


def test_epoll_without_its_calls(program, tunnel):
    assert tunnel(under(program, "--without", URING)) == "epoll"


@pytest.mark.parametrize("call", ["os.open_tree", "os.unshare_user", "socket.AF_NETLINK", "ptrace"])
def test_what_it_forbids(call):
    code = {"os.open_tree": "libc.syscall(428, -100, b'/', 0)", "os.unshare_user": "libc.unshare(0x10000000)",
            "socket.AF_NETLINK": "libc.socket(16, 3, 0)", "ptrace": "libc.ptrace(0, 0, 0, 0)"}[call]
    script = f"import ctypes; libc = ctypes.CDLL(None, use_errno=True); r = {code}; print(r, ctypes.get_errno())"
    run = subprocess.run([*under(sys.executable), "-c", script], stdout=subprocess.PIPE, text=True, timeout=20, check=True)
    assert run.stdout.split() == ["-1", str(errno.EPERM)]


def bundle(folder, program, arguments):
    """A container as the manifests ask for it: no rights, nothing writable, our profile."""
    root = folder / "root"
    for name in ("proc", "dev", "usr"):
        (root / name).mkdir(parents=True)
    for name in ("lib", "lib64"):
        if os.path.islink(f"/{name}"):
            (root / name).symlink_to(os.readlink(f"/{name}"))
    (root / "gimlet").touch()
    bind = {"type": "bind", "options": ["rbind", "ro"]}
    config = {
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 65532, "gid": 65532}, "args": arguments, "cwd": "/", "noNewPrivileges": True,
                    "capabilities": {}},
        "root": {"path": "root", "readonly": True},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
                   {"destination": "/usr", "source": "/usr", **bind},
                   {"destination": "/gimlet", "source": os.path.realpath(program), **bind}],
        "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")],
                  "seccomp": {key: value for key, value in json.loads(PROFILE.read_text()).items()}},
    }
    (folder / "config.json").write_text(json.dumps(config))


def contain(folder, name, program, arguments):
    bundle(folder, program, arguments)
    return subprocess.run(["runc", "--root", str(folder / "state"), "run", "--bundle", str(folder), name],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20, stdin=subprocess.DEVNULL)


@pytest.mark.skipif(not shutil.which("runc"), reason="runc is not here")
def test_a_container_runtime_takes_it(tmp_path, program):
    """What only shows in a runtime: that it can still start a program once the profile is in force."""
    if os.geteuid() != 0:
        pytest.skip("containers want root here")
    run = contain(tmp_path, f"gimlet-test-{os.getpid()}", program, ["/gimlet", "version"])
    if "cgroup" in run.stdout and run.returncode != 0:
        pytest.skip(f"no containers here: {run.stdout[:200]}")
    assert run.returncode == 0 and run.stdout.startswith("gimlet "), run.stdout


def test_manifests_name_it():
    services = [service for service in artefacts.compose()["services"].values() if service["image"].startswith("gimlet:")]
    for service in services:
        path = next(option.split(":", 1)[1] for option in service["security_opt"] if option.startswith("seccomp"))
        assert (DEPLOY / "compose" / path).resolve() == PROFILE
    overlay = (DEPLOY / "kubernetes/io-uring/kustomization.yaml").read_text()
    assert f"localhostProfile: {PROFILE.name}" in overlay
    assert f"install -D -m 644 deploy/seccomp/{PROFILE.name} /var/lib/kubelet/seccomp/{PROFILE.name}" in overlay
