#!/usr/bin/python3
"""Do the generators count right? Each is run against the backend, also one that does wrong.

Usage: check.py BACKEND HOLD REQUESTS STREAMS     (the programs; meson test runs this)
"""
import json
import socket
import subprocess
import sys
import time
import urllib.request

BACKEND, HOLD, REQUESTS, STREAMS = sys.argv[1:]


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def run(*argv, text="", good=True) -> dict:
    """The last line of what it says; it must end with 0 exactly when all was good."""
    done = subprocess.run(list(map(str, argv)), input=text, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == (0 if good else 1), f"{argv}: exit code {done.returncode}: {done.stdout}{done.stderr}"
    return json.loads(done.stdout.splitlines()[-1])


def check_streams(url: str):
    whole = ("--url", f"{url}/stream?events=20&rate=50&bytes=200", "--ramp", 100)
    found = run(STREAMS, *whole, "--streams", 50, "--events", 20)
    assert found["received"] == 1000 and found["lost"] == found["failed"] == 0, found
    assert 0 < found["units"] <= 1000 and 0 < found["p50_us"] <= found["p99_us"] <= found["max_us"], found
    found = run(STREAMS, *whole, "--streams", 5, "--events", 20, "--repeat", 2, "--body", 131072)
    assert found["received"] == 200 and found["lost"] == found["failed"] == 0, found


def check_losses(url: str):
    found = run(STREAMS, "--url", f"{url}/stream?events=5&rate=50&drop=3", "--streams", 4, "--events", 5, good=False)
    assert found["lost"] == 4 and found["received"] == 16, found
    found = run(STREAMS, "--url", f"{url}/stream?events=5&rate=50&drop=4", "--streams", 1, "--events", 5, good=False)
    assert found["lost"] == 1, found  # the last one: nothing comes behind it
    found = run(STREAMS, "--url", f"{url}/nowhere", "--streams", 2, "--events", 5, good=False)
    assert found["failed"] == 2 and found["lost"] == 10, found


def check_requests(url: str):
    found = run(REQUESTS, "--url", f"{url}/small", "--connections", 8, "--seconds", 1, "--warm", 0)
    assert found["units"] > 100 and found["failed"] == 0, found
    found = run(REQUESTS, "--url", f"{url}/small/{{}}", "--connections", 8, "--seconds", 1, "--rate", 200, "--services", 3)
    assert 190 <= found["units"] <= 201, found
    found = run(REQUESTS, "--url", f"{url}/nowhere", "--connections", 2, "--seconds", 1, "--rate", 20, good=False)
    assert found["units"] == 0 and found["failed"] >= 20, found


def check_hold(url: str):
    found = run(HOLD, "--url", f"{url}/small", text="open 100\nopen 700\nask 7\n")
    assert found == {"held": 700, "answered": 100, "failed": 0}, found
    found = run(HOLD, "--url", f"{url}/nowhere", text="open 10\n", good=False)
    assert found["failed"] == 10, found
    found = run(HOLD, "--stalled", "--url", f"{url}/flood?bytes=1000000000", text="open 10\nask 1\n")
    assert found == {"held": 10, "answered": 10, "failed": 0}, found


def main():
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen([BACKEND, str(port)]) as backend:
        try:
            while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
                time.sleep(0.02)
            for check in (check_streams, check_losses, check_requests, check_hold):
                check(url)
            with urllib.request.urlopen(f"{url}/figures", timeout=5) as answer:
                assert json.load(answer)["events"] == 1000 + 200 + 16 + 4
        finally:
            backend.terminate()
    print("all counted right")


if __name__ == "__main__":
    main()
