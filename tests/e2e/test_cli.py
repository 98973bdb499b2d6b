"""The command line: help, refusals by name, exit codes, environment, logs."""
import time
import json
import os
import pathlib
import re
import subprocess

import pytest

from lib.process import SANITIZER_ENV
from lib.settings import GIMLET, IO, IO_FLAGS, IO_NAME, free_port, wait_until


def gimlet(*arguments, env=None, timeout=15):
    """Runs it to its end; a start that should have been refused and is not fails the test."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIMLET_")}
    try:
        return subprocess.run([GIMLET, *map(str, arguments)], capture_output=True, text=True, timeout=timeout, check=False,
                              env={**clean, **SANITIZER_ENV, **(env or {})}, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as running:
        raise AssertionError(f"gimlet {' '.join(map(str, arguments))} starts and runs:\n{running.stdout}") from None


def all_options(program):
    done = gimlet(program, "--help")
    return [name for name in re.findall(r"^ +--([a-z0-9-]+)", done.stdout + done.stderr, re.M) if not name.startswith("help")]


@pytest.mark.parametrize("arguments", [["--help"], ["server", "--help"], ["agent", "--help"], ["server", "-h"], ["jwt", "agent", "--help"]])
def test_help_is_help(arguments):
    done = gimlet(*arguments)
    assert done.returncode == 0
    assert "gimlet" in (done.stdout + done.stderr).lower()


def test_no_command_is_a_usage_error():
    done = gimlet()
    assert done.returncode == 2 and "server" in done.stdout + done.stderr


def test_an_unknown_command_is_refused_by_name():
    done = gimlet("sever")
    assert done.returncode == 2 and "sever" in done.stderr


@pytest.mark.parametrize("program", ["server", "agent"])
def test_every_option_has_a_help_text_and_a_variable(program):
    done = gimlet(program, "--help")
    text = done.stdout + done.stderr
    options = all_options(program)
    assert len(options) > 12
    for option in options:
        assert f"GIMLET_{program.upper()}_{option.upper().replace('-', '_')}" in text, option


@pytest.mark.parametrize("program", ["server", "agent"])
def test_an_unknown_option_is_refused_by_name(program):
    done = gimlet(program, "--http-prot", "8080")
    assert done.returncode == 2
    assert "--http-prot" in done.stderr
    assert done.stdout == ""


def test_a_near_miss_is_suggested():
    assert "--http-port" in gimlet("server", "--http-prot", "8080").stderr


BAD_VALUES = [
    ("server", "--http-port", "eighty"), ("server", "--http-port", "65536"), ("server", "--http-port", "-1"),
    ("server", "--idle-timeout", "abc"), ("server", "--idle-timeout", "10 parsecs"), ("server", "--header-timeout", "-3"),
    ("server", "--rings", "many"), ("server", "--rings", "-1"), ("server", "--io", "kqueue"), ("server", "--log-level", "loud"),
    ("server", "--log-format", "xml"), ("server", "--ring-memory", "1KiB"), ("server", "--header-bytes", "10"),
    ("server", "--listen-address", "nowhere"), ("server", "--stream-limit", "0"), ("server", "--max-concurrent-requests", "x"),
    ("agent", "--server-url", "http://x/agent"), ("agent", "--target-url", "https://"), ("agent", "--target-url", "ftp://x"),
    ("agent", "--target-url", "unix:relative"), ("agent", "--service", "noequals"), ("agent", "--service", "a/b=http://x"),
    ("agent", "--connect-timeout", "0"), ("agent", "--reconnect-max", "soon"), ("agent", "--max-concurrent-requests", "-1"),
]


@pytest.mark.parametrize("program,option,value", BAD_VALUES)
def test_an_unusable_value_is_refused_by_name(keys, program, option, value):
    base = ["--token-public-key-file", keys.public] if program == "server" else ["--token", "x"]
    done = gimlet(program, *base, option, value)
    assert done.returncode in (1, 2), done
    assert option in done.stderr, done.stderr


@pytest.mark.parametrize("program,option,value", [v for v in BAD_VALUES if v[1] in ("--http-port", "--idle-timeout", "--io", "--service")])
def test_an_unusable_variable_is_refused_by_name(keys, program, option, value):
    name = f"GIMLET_{program.upper()}_{option[2:].upper().replace('-', '_')}"
    base = ["--token-public-key-file", keys.public] if program == "server" else ["--token", "x"]
    done = gimlet(program, *base, env={name: value})
    assert done.returncode in (1, 2) and name in done.stderr, done.stderr


def test_a_server_needs_a_key():
    done = gimlet("server")
    assert done.returncode == 1
    assert "Configuration error: " in done.stderr and done.stderr.count("\n") == 1
    for flag in ("--token-public-key-file", "--token-public-key-dir", "--token-public-key"):
        assert flag in done.stderr


def test_an_agent_needs_a_token():
    done = gimlet("agent")
    assert done.returncode == 1
    assert "Configuration error: " in done.stderr and done.stderr.count("\n") == 1
    for name in ("--token-file", "--token", "GIMLET_AGENT_TOKEN_FILE", "GIMLET_AGENT_TOKEN"):
        assert name in done.stderr


@pytest.mark.parametrize("content", [b"", b"not a key", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_an_unusable_key_is_fatal_in_the_log(tmp_path, content):
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    done = gimlet("server", "--http-port", 0, "--metrics-port", 0, "--token-public-key-file", path)
    assert done.returncode == 1
    last = [json.loads(line) for line in done.stdout.splitlines() if '"fatal"' in line][0]
    assert str(path) in json.dumps(last)


def test_a_missing_key_file_is_named(tmp_path):
    done = gimlet("server", "--token-public-key-file", tmp_path / "nothing.pem")
    assert done.returncode == 1 and "nothing.pem" in done.stdout + done.stderr


def test_a_missing_token_file_is_fatal_in_the_log(tmp_path):
    done = gimlet("agent", "--token-file", tmp_path / "nothing.token")
    assert done.returncode == 1 and done.stderr == ""
    fatal = [json.loads(line) for line in done.stdout.splitlines() if '"fatal"' in line]
    assert len(fatal) == 1 and fatal[0]["file"].endswith("nothing.token")


def test_a_port_that_is_taken_is_said(workshop):
    server = workshop.server()
    done = gimlet("server", "--listen-address", "127.0.0.1", "--http-port", server.port, "--metrics-port", "off", "--token-public-key-file",
                  workshop.keys.public, "--io", "epoll")
    # Two servers of one user may share a port by SO_REUSEPORT only if both ask for it; ours must not steal from each other.
    assert done.returncode == 1, "two servers share a port"
    assert str(server.port) in done.stdout


def test_targets_and_services_exclude_each_other():
    done = gimlet("agent", "--token", "x", "--target-url", "http://a", "--service", "a=http://b")
    assert done.returncode == 2 and "--service" in done.stderr and "--target-url" in done.stderr


def test_a_service_named_twice():
    done = gimlet("agent", "--service", "a=http://b,token-file=/x", "--service", "a=http://c,token-file=/y")
    assert done.returncode == 2 and "twice" in done.stderr


def test_positional_arguments_are_refused_or_ignored_but_said():
    done = gimlet("server", "surplus")
    assert done.returncode in (1, 2) and done.stderr


def test_an_unknown_kernel_feature_is_refused_by_name(keys):
    done = gimlet("server", "--http-port", 0, "--metrics-port", "off", "--io", "uring", "--io-disable", "warp-drive",
                  "--token-public-key-file", keys.public)
    assert done.returncode == 1 and "warp-drive" in done.stdout + done.stderr


# --- a server's own words -------------------------------------------------------------------------

def test_every_log_line_is_json_and_has_its_fields(workshop):
    tunnel = workshop.tunnel()
    tunnel.get("/echo")
    tunnel.get("/drop")
    tunnel.ask("GET", "/echo", "X-Request-Id: \"quoted\\and\x80strange\"")
    with tunnel.wire() as wire:
        wire.send("GET /services/svc/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a.b.c\r\n\r\n").answer()
    assert tunnel.agent.stop() == 0 and tunnel.server.stop() == 0
    for process in tunnel.processes:
        lines = process.out.read_bytes().decode().splitlines()
        assert len(lines) >= 3
        for line in lines:
            entry = json.loads(line)
            assert entry["level"] in ("debug", "info", "warn", "error", "fatal")
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)", entry["time"])
            assert entry["message"]
            keys = [k for k, _ in json.loads(line, object_pairs_hook=lambda pairs: pairs)]
            assert len(keys) == len(set(keys)), f"a key stands twice: {line}"
        assert process.err.read_text() == "", "logs go to stdout"
    for entry in tunnel.server.log():
        assert entry["serverID"]


def test_a_successful_request_logs_nothing(workshop):
    tunnel = workshop.tunnel()
    tunnel.get("/echo")
    # Lines are written by a thread of their own, and further lanes attach: once nothing has come for half a second, that is done.
    before, since = None, time.monotonic()
    while time.monotonic() - since < 0.5:
        if (now := [len(p.log()) for p in tunnel.processes]) != before:
            before, since = now, time.monotonic()
        time.sleep(0.02)
    for _ in range(20):
        tunnel.get("/echo")
    assert [len(p.log()) for p in tunnel.processes] == before


def test_tokens_and_bodies_never_reach_the_log(workshop):
    tunnel = workshop.tunnel("--log-level", "DEBUG", agent_flags=("--log-level", "DEBUG"))
    tunnel.ask("POST", "/echo", body=b"very-private-body")
    with tunnel.wire() as wire:
        wire.send(f"GET {tunnel.path()} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {tunnel.token}x\r\n\r\n").answer()
    for process in tunnel.processes:
        text = process.text()
        assert tunnel.token not in text and "very-private-body" not in text
        assert tunnel.agent.token_files["svc"].read_text().strip() not in text


def test_the_runtime_line_says_what_runs(workshop):
    tunnel = workshop.tunnel()
    for process in tunnel.processes:
        line = process.log("runtime")[0]
        assert line["io"].startswith(IO_NAME)
    assert tunnel.server.log("runtime")[0]["rings"] == tunnel.server.rings
    if IO == "uring-min":
        assert "multishot" not in tunnel.server.log("runtime")[0]["io"].split("without")[0].split("off:")[0]


def test_console_format(workshop):
    server = workshop.server("--log-format", "console")
    wait_until(lambda: "server started" in server.text(), "a console line")
    with pytest.raises(ValueError):
        json.loads(server.text().splitlines()[0])


def test_log_level(workshop):
    server = workshop.server("--log-level", "ERROR")
    assert server.text() == ""


def test_environment_is_read_and_flags_win(workshop, keys):
    ports = [free_port(), free_port()]
    server = workshop.process("server", [GIMLET, "server", "--http-port", ports[0], *IO_FLAGS], env={
        "GIMLET_SERVER_HTTP_PORT": str(ports[1]), "GIMLET_SERVER_TOKEN_PUBLIC_KEY_FILE": str(keys.public),
        "GIMLET_SERVER_LISTEN_ADDRESS": "127.0.0.1", "GIMLET_SERVER_METRICS_PORT": "off", "GIMLET_LOG_LEVEL": "INFO",
        "GIMLET_SERVER_SERVER_ID": "by-environment", "GIMLET_SERVER_RINGS": "1"})
    line = server.wait_log("server started")[0]
    assert line["httpPort"] == ports[0] and line["serverID"] == "by-environment"
    assert server.log("runtime")[0]["rings"] == 1


def test_the_key_may_stand_in_the_environment(workshop, keys):
    server = workshop.process("server", [GIMLET, "server", "--http-port", free_port(), "--metrics-port", "off", *IO_FLAGS], env={
        "GIMLET_SERVER_TOKEN_PUBLIC_KEY": keys.public.read_text()})
    server.wait_log("server started")


def test_a_folder_of_keys(workshop, keys, tmp_path):
    from lib.keys import Keys
    folder = tmp_path / "keys"
    folder.mkdir()
    other = Keys(tmp_path, "other")
    (folder / "a.pem").write_bytes(keys.public.read_bytes())
    (folder / "b.pub").write_bytes(other.public.read_bytes())
    (folder / "ignored.txt").write_text("not a key")
    tunnel = workshop.tunnel("--token-public-key-dir", folder)
    for pair in (keys, other):
        tunnel.token = pair.client()
        assert tunnel.get("/echo").status == 200
    for pair in (keys, other):
        tunnel.token = pair.client(duration="0s")
        assert tunnel.get("/echo").body == b"Token expired\n", "the key that signed it decides, be it the last or not"


def test_another_issuer(workshop, keys):
    tunnel = workshop.server("--token-issuer", "acme")
    from lib.tunnel import Tunnel
    service = Tunnel(tunnel, None, "svc")
    assert service.get("/").status == 401
    service.token = keys.forge(iss="acme")
    assert service.get("/").status == 503


def test_port_zero_takes_a_free_one(workshop, keys):
    server = workshop.process("server", [GIMLET, "server", "--listen-address", "127.0.0.1", "--http-port", 0, "--metrics-port", 0,
                                         "--rings", 2, "--token-public-key-file", keys.public, *IO_FLAGS])
    port = server.wait_log("server started")[0]["httpPort"]
    import requests
    assert port > 0 and requests.get(f"http://127.0.0.1:{port}/health", timeout=10).status_code == 200


def test_a_flooded_log_does_not_stop_the_server(workshop):
    """stdout is a pipe that nobody reads: the rings go on, lines are dropped and counted."""
    read_end, write_end = os.pipe()
    port, metrics = free_port(), free_port()
    popen = subprocess.Popen([GIMLET, "server", "--listen-address", "127.0.0.1", "--http-port", str(port), "--metrics-port", str(metrics),
                              "--log-rate", "0", "--token-public-key-file", str(workshop.keys.public), *IO_FLAGS], stdout=write_end,
                             env={**os.environ, **SANITIZER_ENV})
    try:
        from lib.wire import Wire

        def up():
            try:
                return Wire(port)
            except OSError:
                return None
        with wait_until(up, "the server listens") as wire:
            for _ in range(3000):
                answer = wire.send("GET /services/x/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a.b.c\r\n\r\n").answer()
                assert answer.status == 401
        with Wire(metrics) as wire:
            text = wire.send("GET /debug/counters HTTP/1.1\r\nHost: x\r\n\r\n").answer().body.decode()
        assert int(re.search(r"^log_lines_dropped (\d+)$", text, re.M)[1]) > 0
    finally:
        os.close(write_end)
        popen.terminate()
        popen.kill()
        popen.wait()
        os.close(read_end)


def test_the_log_rate_is_bounded(workshop):
    tunnel = workshop.tunnel("--log-rate", "5")
    with tunnel.wire() as wire:
        for _ in range(300):
            wire.send("GET /services/svc/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a.b.c\r\n\r\n").answer()
    assert len(tunnel.server.log("token refused")) < 60


def test_the_program_stands_alone(tmp_path):
    """It starts from anywhere and needs nothing beside it."""
    done = subprocess.run([GIMLET, "--help"], cwd=tmp_path, env={}, capture_output=True, check=False)
    assert done.returncode == 0 and pathlib.Path(GIMLET).is_file()
