"""The Dockerfile and what the build sees, without a builder. replay.py runs its steps for real, in a
Debian below a folder; that takes minutes and is not part of the suite."""
import re
import subprocess

from lib import dockerfile
from lib.artefacts import DEPLOY, ROOT

STAGES = dockerfile.stages(dockerfile.DOCKERFILE.read_text())
BUILD, IMAGE = (stage[1] for stage in STAGES)


def words_of(stage, instruction):
    return [rest for word, rest in stage if word == instruction]


def test_base_images():
    assert [base for base, _ in STAGES] == ["debian:12-slim", "scratch"]


def test_context_holds_what_is_copied_and_no_secret():
    files = dockerfile.context(dockerfile.ignore_rules())
    for rest in words_of(BUILD, "COPY"):
        *sources, target = rest.split()
        assert list(dockerfile.copied(sources, target, files)), rest
    assert "src/main.c" in files and "subprojects/wolfssl.wrap" in files
    rules = dockerfile.ignore_rules()
    for path in ("deploy/compose/secrets/gimlet.pem", "gimlet.pem", "agent.token", ".git/config", "build/gimlet",
                 "subprojects/wolfssl-5.7.2/COPYING", "subprojects/ring-0.17.14/LICENSE", "tests/run.sh", ".env"):
        assert not dockerfile.is_sent(path, rules), path


def test_scripts_that_are_run_were_copied_before():
    there = set()
    files = dockerfile.context(dockerfile.ignore_rules())
    for word, rest in BUILD:
        if word == "COPY":
            *sources, target = rest.split()
            there |= {path for path, _ in dockerfile.copied(sources, target, files)}
        for script in re.findall(r"\b(?:deploy|subprojects)/[\w.-]+\.sh", rest if word == "RUN" else ""):
            assert script in there, f"RUN {rest}: {script} is not there yet"


def test_meson_options_exist():
    declared = set(re.findall(r"^option\('(\w+)'", (ROOT / "meson_options.txt").read_text(), re.M))
    used = {name for rest in words_of(BUILD, "RUN") for name in re.findall(r"-D(\w+)=", rest)}
    assert used and used <= declared
    assert "static" in used


def test_whole_source_is_copied():
    """Whatever meson reads at setup is in the build: a folder that it visits and nobody copied breaks it."""
    text = (ROOT / "meson.build").read_text()
    visited = set(re.findall(r"^subdir\('([^']+)'\)", text, re.M)) | {"src"}
    copied = {source for rest in words_of(BUILD, "COPY") for source in rest.split()[:-1]}
    assert {folder.split("/")[0] for folder in visited if not folder.startswith("tests")} <= copied


def test_entry_point_is_what_meson_installs():
    entry = re.search(r'"([^"]+)"', words_of(IMAGE, "ENTRYPOINT")[0])[1]
    assert entry == "/usr/bin/gimlet" and any("--prefix=/usr " in rest for rest in words_of(BUILD, "RUN"))
    text = (ROOT / "meson.build").read_text()
    for name in ("gimlet-server", "gimlet-agent"):
        assert name in text, "deploy/systemd starts it by this name"


def test_command_is_one(program):
    command = re.search(r'"([^"]+)"', words_of(IMAGE, "CMD")[0])[1]
    assert subprocess.run([program, command], stdout=subprocess.PIPE, check=True, timeout=20).stdout


def test_exposed_ports_are_the_defaults(help_of):
    exposed = words_of(IMAGE, "EXPOSE")[0].split()
    assert exposed == [help_of["server"].defaults["http-port"], help_of["server"].defaults["metrics-port"]]


def test_roots_are_where_the_program_looks():
    looked = re.findall(r'"(/etc/[^"]+)"', (ROOT / "src/tls/context.c").read_text())
    placed = [path for rest in words_of(BUILD, "RUN") for path in re.findall(r"/image(/etc/ssl/\S+)", rest)]
    assert placed and set(placed) <= set(looked)


def test_fly_uses_this_file():
    assert "--dockerfile deploy/docker/Dockerfile" in (DEPLOY / "fly/fly.toml").read_text()
