"""The programs by their names of 0.0.x: gimlet-server and gimlet-agent, flags as Go's flag package reads them."""
import json
import os
import pathlib
import re
import subprocess

import pytest
import requests

from lib.process import SANITIZER_ENV
from lib.settings import GIMLET, IO_FLAGS, LANES, RINGS, free_port, wait_until

# (flag without dashes, variables in order, default, an unusual value that is good)
SERVER = [
    ("http-port", ["GIMLET_SERVER_HTTP_PORT"], "8081"), ("metrics-port", ["GIMLET_SERVER_METRICS_PORT"], "9091"),
    ("health-port", ["GIMLET_SERVER_HEALTH_PORT"], "8082"), ("server-id", ["GIMLET_SERVER_SERVER_ID"], "one"),
    ("token-public-key-file", ["GIMLET_SERVER_TOKEN_PUBLIC_KEY_FILE"], "/nothing"),
    ("token-public-key-dir", ["GIMLET_SERVER_TOKEN_PUBLIC_KEY_DIR"], "/nothing"),
    ("token-public-key", ["GIMLET_SERVER_TOKEN_PUBLIC_KEY"], "nothing"), ("token-issuer", ["GIMLET_SERVER_TOKEN_ISSUER"], "acme"),
    ("idle-timeout", ["GIMLET_SERVER_IDLE_TIMEOUT"], "1h0m0.5s"), ("shutdown-timeout", ["GIMLET_SERVER_SHUTDOWN_TIMEOUT"], "-3"),
    ("response-buffer-size", ["GIMLET_SERVER_RESPONSE_BUFFER_SIZE"], "-1"),
    ("max-concurrent-requests", ["GIMLET_SERVER_MAX_CONCURRENT_REQUESTS"], "-1"),
    ("log-level", ["GIMLET_SERVER_LOG_LEVEL", "GIMLET_LOG_LEVEL"], "warning"),
    ("log-format", ["GIMLET_SERVER_LOG_FORMAT", "GIMLET_LOG_FORMAT"], "console"),
]
AGENT = [
    ("server-url", ["GIMLET_AGENT_SERVER_URL"], "wss://gateway/agent"), ("target-url", ["GIMLET_AGENT_TARGET_URL"], "host:80"),
    ("token-file", ["GIMLET_AGENT_TOKEN_FILE"], "/nothing"), ("token", ["GIMLET_AGENT_TOKEN"], "x"),
    ("connection-check-interval", ["GIMLET_AGENT_CONNECTION_CHECK_INTERVAL"], "1500ms"),
    ("shutdown-timeout", ["GIMLET_AGENT_SHUTDOWN_TIMEOUT"], "8760h"),
    ("max-concurrent-requests", ["GIMLET_AGENT_MAX_CONCURRENT_REQUESTS"], "0"),
    ("request-buffer-size", ["GIMLET_AGENT_REQUEST_BUFFER_SIZE"], "0"),
    ("log-level", ["GIMLET_AGENT_LOG_LEVEL", "GIMLET_LOG_LEVEL"], "DEBUG"),
    ("log-format", ["GIMLET_AGENT_LOG_FORMAT", "GIMLET_LOG_FORMAT"], "json"),
]
OPTIONS = [("gimlet-server", *row) for row in SERVER] + [("gimlet-agent", *row) for row in AGENT]
# Makes any start fail at once, by name, after all flags have been read: an option that is ours alone.
STOPPER = ["--ring-memory=1"]


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """Links of our own making, so that the executable's folder does not matter."""
    folder = tmp_path_factory.mktemp("names")
    for name in ("gimlet-server", "gimlet-agent", "gimlet-agent.bak"):
        (folder / name).symlink_to(os.path.abspath(GIMLET))
    return folder


def start(path, *arguments, env=None):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIMLET_")}
    return subprocess.run([str(path), *map(str, arguments)], capture_output=True, text=True, timeout=15, check=False,
                          env={**clean, **SANITIZER_ENV, **(env or {})}, stdin=subprocess.DEVNULL)


def reads(path, *arguments, env=None):
    """All flags and variables are understood, up to the one that stops the start."""
    done = start(path, *arguments, *STOPPER, env=env)
    assert done.returncode == 2 and "--ring-memory" in done.stderr and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("program,options", [("gimlet-server", SERVER), ("gimlet-agent", AGENT)])
def test_every_flag_in_every_spelling(names, program, options):
    for spelling in ("-{}={}", "--{}={}", "-{} {}", "--{} {}"):
        words = []
        for flag, _, value in options:
            head, _, tail = spelling.partition(" ")
            words += [head.format(flag, value)] + ([tail.format(value)] if tail else [])
        reads(names / program, *words)
    reads(names / program, *[word for flag, _, _ in options for word in (f"-{flag}", "")])


@pytest.mark.parametrize("program,options", [("gimlet-server", SERVER), ("gimlet-agent", AGENT)])
def test_every_variable(names, program, options):
    reads(names / program, env={name: value for _, variables, value in options for name in variables})


@pytest.mark.parametrize("program,flag,variables,_value", OPTIONS, ids=lambda v: v if isinstance(v, str) else "")
def test_every_option_is_explained(names, program, flag, variables, _value):
    page = help_page(names, program)
    assert re.search(rf"^  --{flag} ", page, re.M)
    for name in variables:
        assert f"${name}" in page


_pages = {}


def help_page(names, program):
    if program not in _pages:
        done = start(names / program, "-h")
        assert done.returncode == 0 and done.stdout == ""
        _pages[program] = done.stderr
    return _pages[program]


@pytest.mark.parametrize("program", ["gimlet-server", "gimlet-agent"])
def test_usage(names, program):
    for flag in ("-h", "-help", "--help"):
        done = start(names / program, flag)
        assert done.returncode == 0 and done.stdout == "" and done.stderr.startswith(f"Usage: {program} ")
    for words in (["--nonsense", "1"], ["-shutdown-timeout"], ["--version"]):
        done = start(names / program, *words)
        first, rest = done.stderr.split("\n", 1)
        assert done.returncode == 2 and done.stdout == "" and words[0].strip("-") in first and rest.startswith(f"Usage: {program} ")


@pytest.mark.parametrize("program,words", [
    ("gimlet-server", ["--idle-timeout", "2d"]), ("gimlet-server", ["--http-port=http"]), ("gimlet-server", ["--response-buffer-size=many"]),
    ("gimlet-server", ["--log-level=loud"]), ("gimlet-agent", ["--server-url", "http://x"]), ("gimlet-agent", ["-request-buffer-size", "1.5"]),
    ("gimlet-agent", ["--max-concurrent-requests", "-1"])])
def test_what_cannot_be_understood_is_refused_by_name(names, program, words):
    done = start(names / program, *words)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"{program}: --{words[0].strip('-').split('=')[0]}: ")


def test_a_misspelt_variable_is_refused_by_name(names):
    for program, name, meant in (("gimlet-server", "GIMLET_SERVER_IDLE_TIMOUT", "GIMLET_SERVER_IDLE_TIMEOUT"),
                                 ("gimlet-agent", "GIMLET_AGENT_TARGET_URI", "GIMLET_AGENT_TARGET_URL")):
        done = start(names / program, env={name: "1"})
        assert done.returncode == 2 and name in done.stderr and meant in done.stderr and done.stderr.count("\n") == 1


def test_what_kubernetes_makes_for_a_service_is_left_alone(names):
    """Pods beside a Service gimlet-server or gimlet-agent, with ports named http, https, health and metrics."""
    for program in ("gimlet-server", "gimlet-agent"):
        prefix = program.upper().replace("-", "_")
        made = {"SERVICE_HOST": "10.0.0.1", "SERVICE_PORT": "80", "PORT": "tcp://10.0.0.1:80", "PORT_80_TCP": "tcp://10.0.0.1:80",
                "PORT_80_TCP_PROTO": "tcp", "PORT_80_TCP_PORT": "80", "PORT_80_TCP_ADDR": "10.0.0.1",
                **{f"SERVICE_PORT_{name}": "80" for name in ("HTTP", "HTTPS", "HEALTH", "METRICS")}}
        reads(names / program, env={f"{prefix}_{name}": value for name, value in made.items()})


def test_a_password_in_a_url_is_refused_and_not_repeated(names):
    for program, flag, value in (("gimlet-agent", "--target-url", "http://u:hush@h/"), ("gimlet-agent", "--server-url", "ws://u:hush@h/agent"),
                                 ("gimlet-agent", "--service", "web=http://u:hush@h"), ("gimlet-agent", "--target-url", "ftp://u:hush@h")):
        done = start(names / program, "--token", "x", flag, value)
        assert done.returncode == 2 and flag in done.stderr and "h" in done.stderr and "hush" not in done.stderr + done.stdout, done
    key = start(names / "gimlet-server", "--token-jwks", "https://u:hush@h/keys")
    assert key.returncode == 1 and "--token-jwks" in key.stdout and "hush" not in key.stdout + key.stderr, key


@pytest.mark.parametrize("name", ["x" * 256, "a\nb", "\udcff"])
def test_a_server_id_that_no_agent_would_take(names, name):
    done = start(names / "gimlet-server", "--server-id", name)
    assert done.returncode == 2 and "--server-id" in done.stderr


def test_what_is_missing_is_one_line_and_exit_code_one(names):
    for program, flags in (("gimlet-server", ["--token-public-key-file", "--token-public-key-dir", "--token-public-key"]),
                           ("gimlet-agent", ["--token-file", "--token", "GIMLET_AGENT_TOKEN_FILE", "GIMLET_AGENT_TOKEN"])):
        done = start(names / program, "ignored", "--nonsense")
        assert done.returncode == 1 and done.stdout == ""
        assert done.stderr.startswith("Configuration error: ") and done.stderr.count("\n") == 1
        for flag in flags:
            assert flag in done.stderr
    done = start(names / "gimlet-agent", "--token-file", "/nothing")
    assert done.returncode == 1 and done.stderr == "" and json.loads(done.stdout.splitlines()[-1])["level"] == "fatal"


def test_another_name_is_no_old_name(names):
    done = start(names / "gimlet-agent.bak", "--token", "x")
    assert done.returncode == 2 and "unknown command" in done.stderr


def test_the_build_makes_the_links():
    beside = pathlib.Path(GIMLET).parent
    for name in ("gimlet-server", "gimlet-agent"):
        assert os.path.samefile(beside / name, GIMLET)


@pytest.mark.plain("the tunnel is of plain text, as those of 0.0.x are")
def test_a_tunnel_of_old_names(names, workshop):
    """As a fleet of 0.0.x is started: variables for some, flags in Go's spelling for others, a shared metrics port."""
    port, metrics = free_port(), free_port()
    key, backend = workshop.keys.public, workshop.backend()
    flags = [*IO_FLAGS, "-rings", str(RINGS), "-lanes", str(LANES), "-listen-address", "127.0.0.1"]
    server = workshop.process("server", [names / "gimlet-server", "-http-port", str(port), f"--metrics-port={metrics}", *flags,
                                         "-response-buffer-size", "-1", "ignored", "-http-port", "1"],
                              env={"GIMLET_SERVER_TOKEN_PUBLIC_KEY_FILE": str(key), "GIMLET_SERVER_SERVER_ID": "elder"})
    started = server.wait_log("server started")[0]
    assert started["httpPort"] == port and started["serverID"] == "elder"
    said = [line for line in server.log() if "response-buffer-size" in line["message"]]
    assert len(said) == 1 and said[0]["responseBufferSize"] == "-1"

    other = free_port()
    second = workshop.process("server", [names / "gimlet-server", "-http-port", str(other), f"--metrics-port={metrics}", *flags,
                                         "-token-public-key-file", str(key)])
    second.wait_log("server started")
    refused = [line for line in second.log() if line["level"] == "error"]
    assert len(refused) == 1 and refused[0]["port"] == metrics, "as before: said, and no more than that"
    assert second.stop() == 0

    token = workshop.keys.agent("svc", "elder-agent")
    agent = workshop.process("agent", [names / "gimlet-agent", *IO_FLAGS, "-rings", str(RINGS)], env={
        "GIMLET_AGENT_SERVER_URL": f"ws://127.0.0.1:{port}/agent", "GIMLET_AGENT_TOKEN": f"  {token}\n",
        "GIMLET_AGENT_TARGET_URL": f"127.0.0.1:{backend.port}", "GIMLET_AGENT_REQUEST_BUFFER_SIZE": "7",
        "GIMLET_AGENT_CONNECTION_CHECK_INTERVAL": "0"})  # with that, and with the -1 above, 0.0.6 panicked
    agent.wait_log("agent started")
    assert [line["requestBufferSize"] for line in agent.log() if "request-buffer-size" in line["message"]] == ["7"]
    wait_until(lambda: requests.get(f"http://127.0.0.1:{port}/health", timeout=10).json()["agents"].get("svc") == 1, "the agent serves")
    answer = requests.get(f"http://127.0.0.1:{port}/services/svc/echo", timeout=10,
                          headers={"Authorization": f"Bearer {workshop.keys.client()}"})
    assert answer.status_code == 200
    assert agent.stop() == 0 and server.stop() == 0
