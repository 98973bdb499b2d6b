"""Every flag, variable, path and version that deploy/ names is one that exists."""
import re
import subprocess

from lib import artefacts
from lib.artefacts import DEPLOY, ROOT

FLAG = re.compile(r"(?<![\w-])--([a-z][a-z0-9-]+)")
VARIABLE = re.compile(r"\bGIMLET_(?:SERVER|AGENT|JWT|LOG)_[A-Z0-9_]+")


def texts():
    for path in artefacts.files():
        if path.suffix != ".json" or path.parent.name != "dashboards":
            yield path.relative_to(ROOT), path.read_text()


def test_variables_exist(help_of, program):
    known = help_of["server"].variables | help_of["agent"].variables
    unknown = [f"{path}: {name}" for path, text in texts() for name in VARIABLE.findall(text) if name not in known]
    assert not unknown


def test_environment_belongs_to_its_role(help_of):
    """A server's variable that an agent is given is one that nobody reads."""
    unknown = []
    roles = [*artefacts.containers(),
             ("systemd", "server.env", "server", artefacts.environment_file("systemd/server.env"), []),
             ("systemd", "agent.env", "agent", artefacts.environment_file("systemd/agent.env"), [])]
    assert len(roles) >= 9
    for place, name, role, environment, arguments in roles:
        ours = [key for key in environment if key.startswith("GIMLET_")]
        assert ours, f"{place} {name} is told nothing"
        unknown += [f"{place} {name}: {key}" for key in ours if key not in help_of[role].variables]
        unknown += [f"{place} {name}: {word}" for word in arguments if word.lstrip("-") not in help_of[role].flags]
    assert not unknown


def commands():
    """Commands of ours in comments and scripts: (file, role, words)."""
    for path, text in texts():
        joined = re.sub(r"\\\n[# ]*", " ", text)
        for line in joined.splitlines():
            found = re.search(r"\bgimlet (server|agent|jwt (?:agent|client)) (--.*)", line)
            if found:
                yield path, found[1], found[2]


def test_flags_of_commands_exist(help_of, program):
    flags = {role: help_of[role].flags for role in ("server", "agent")}
    for role in ("jwt agent", "jwt client"):
        page = subprocess.run([program, *role.split(), "--help"], stdout=subprocess.PIPE, text=True, check=True).stdout
        flags[role] = set(FLAG.findall(page))
    found = list(commands())
    assert len(found) >= 3
    unknown = [f"{path}: --{flag}" for path, role, words in found for flag in FLAG.findall(words)
               if flag not in flags[role]]
    assert not unknown


def test_options_named_in_comments_exist(help_of):
    """--shutdown-timeout and the like, in backticks or brackets or bare, in what explains an artefact."""
    known = help_of["server"].flags | help_of["agent"].flags
    for path in ("kubernetes/base/server.yaml", "kubernetes/base/agent.yaml", "compose/compose.yaml", "compose/nginx.conf",
                 "systemd/gimlet-server.service", "systemd/gimlet-agent.service"):
        text = (DEPLOY / path).read_text()
        comments = "\n".join(line for line in text.splitlines() if line.lstrip().startswith("#"))
        comments = re.sub(r"^# {2,}.*$", "", comments, flags=re.M)  # commands, other programs' among them
        unknown = [flag for flag in FLAG.findall(comments) if flag not in known]
        assert not unknown, f"{path}: {unknown}"


def test_paths_in_commands_exist():
    """deploy/... paths that a comment, a script or the README tells a user to type."""
    wrong = []
    for path, text in [*texts(), ("README.md", (ROOT / "README.md").read_text())]:
        for name in re.findall(r"(?<![\w/.-])deploy/[\w./-]*\w", text):
            if "/secrets" not in name and not (ROOT / name).exists():
                wrong.append(f"{path}: {name}")
    assert not wrong


def test_one_version_everywhere():
    version = re.search(r"version: '([\d.]+)'", (ROOT / "meson.build").read_text())[1]
    tags = [(str(path), tag) for path, text in texts() for tag in re.findall(r"\bgimlet:(\d[\w.]*)", text)]
    tags += [("kustomization", entry["newTag"]) for entry in
             artefacts.documents("kubernetes/base/kustomization.yaml")[0]["images"]]
    tags += [("Dockerfile", found) for found in
             re.findall(r'image\.version="([^"]+)"', (DEPLOY / "docker/Dockerfile").read_text())]
    assert len(tags) >= 6
    assert {tag for _, tag in tags} == {version}, tags


def test_user_is_one_everywhere():
    text = (DEPLOY / "docker/Dockerfile").read_text()
    user = re.search(r"^USER (\d+):(\d+)$", text, re.M)
    assert user[1] == user[2] != "0"
    assert f"gimlet:x:{user[1]}:{user[2]}:" in text
    for path in ("kubernetes/base/server.yaml", "kubernetes/base/agent.yaml"):
        security = next(d for d in artefacts.documents(path) if "template" in d.get("spec", {}))["spec"]["template"]["spec"]
        assert security["securityContext"]["runAsUser"] == int(user[1])
        assert security["securityContext"]["runAsNonRoot"] is True


def test_nothing_is_cut_by_the_supervisor_first():
    """Whoever would kill the process waits longer than its own --shutdown-timeout."""
    kube = {document["metadata"]["name"]: document["spec"]["template"]["spec"]
            for path in ("server", "agent") for document in artefacts.documents(f"kubernetes/base/{path}.yaml")
            if "template" in document.get("spec", {})}
    for name, pod in kube.items():
        environment = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
        own = artefacts.seconds(next(v for k, v in environment.items() if k.endswith("SHUTDOWN_TIMEOUT")))
        sleep = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert pod["terminationGracePeriodSeconds"] >= own + sleep + 5, name
    for role in ("server", "agent"):
        unit = (DEPLOY / f"systemd/gimlet-{role}.service").read_text()
        own = artefacts.seconds(artefacts.environment_file(f"systemd/{role}.env")[f"GIMLET_{role.upper()}_SHUTDOWN_TIMEOUT"])
        assert artefacts.seconds(re.search(r"^TimeoutStopSec=(.*)$", unit, re.M)[1]) >= own + 5
    for name, service in artefacts.compose()["services"].items():
        if service["image"].startswith("gimlet:"):
            assert artefacts.seconds(service["stop_grace_period"]) >= 35, name  # the default is 30 s


def test_defaults_that_artefacts_rely_on(help_of):
    for role in ("server", "agent"):
        assert help_of[role].defaults["shutdown-timeout"].startswith("30s")
    assert "64MiB" in help_of["server"].defaults["ring-memory"]
