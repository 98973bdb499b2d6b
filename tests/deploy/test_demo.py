"""demo.sh as its user runs it: once, and with the commands that it prints."""
import os
import pathlib
import re
import signal
import subprocess
import time

from lib.artefacts import DEPLOY

# Somebody's own Gimlet, which must not get into the demo.
OTHERS = {"GIMLET_JWT_KMS_KEY_ARN": "arn:x", "GIMLET_LOG_FORMAT": "console", "GIMLET_SERVER_HTTP_PORT": "1", "GIMLET_AGENT_SERVICE": "x=y"}


def environment(program, folder):
    return {**os.environ, **OTHERS, "GIMLET_BIN": program, "TMPDIR": str(folder)}


def test_one_round_trip(program, tmp_path):
    run = subprocess.run([DEPLOY / "demo.sh", "--once"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
                         env=environment(program, tmp_path))
    assert run.returncode == 0 and "Hello from the private side!" in run.stdout, run.stdout
    assert not list(tmp_path.iterdir()), "what it makes it removes"


def test_what_it_says_to_try(program, tmp_path):
    out = tmp_path / "out"
    with out.open("w", encoding="utf-8") as log:
        # What a shell runs in the background ignores SIGINT, and so do its children: not so at a terminal.
        demo = subprocess.Popen([DEPLOY / "demo.sh"], stdout=log, stderr=subprocess.STDOUT, env=environment(program, tmp_path),
                                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    try:
        end = time.monotonic() + 60
        while "Ctrl-C ends" not in out.read_text():
            assert demo.poll() is None and time.monotonic() < end, out.read_text()
            time.sleep(0.05)
        page = out.read_text()
        token = re.search(r"^ +(export TOKEN=.*)$", page, re.M)[1]
        wanted = {"/hello": "Hello from", "/whoami": '"method"', "/events": "data: [DONE]", "/post": '"bytes": 9', "/health": '"demo":1'}
        commands = [re.split(r" {2,}", line)[0] for line in re.findall(r"^ +(curl .*)$", page, re.M)]
        assert len(commands) == len(wanted) + 1
        for command in commands:
            answer = subprocess.run(["bash", "-c", f"{token}; {command}"], stdout=subprocess.PIPE, text=True, timeout=30, check=True).stdout
            path = command.rpartition("/")[2]
            words = wanted[f"/{path}"] if "TOKEN" in command or path == "health" else "Missing Authorization"
            assert words in answer, f"{command}: {answer}"
        work = pathlib.Path(re.search(r"Logs: (\S+)/\*\.log", page)[1])
        assert work.is_dir()
        demo.send_signal(signal.SIGINT)
        assert demo.wait(30) == 0 and not work.exists()
    finally:
        demo.kill()
        demo.wait()
