"""A real process: its log, its memory, its end. Cleaned up by its own id, never by name."""
import itertools
import json
import os
import pathlib
import signal
import subprocess

from lib.settings import PATIENCE, wait_until

_number = itertools.count(1)
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")

SANITIZER_ENV = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1:exitcode=99",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "LSAN_OPTIONS": "exitcode=98",
}
_SANITIZER_WORDS = ("ERROR: AddressSanitizer", "runtime error:", "ERROR: LeakSanitizer",
                    "AddressSanitizer:DEADLYSIGNAL")


class Process:
    """Starts argv with stdout and stderr in files of `directory`."""

    alive: "list[Process]" = []

    def __init__(self, name: str, argv, directory: pathlib.Path, env=None):
        self.name = f"{name}-{next(_number)}"
        self.out = directory / f"{self.name}.out"
        self.err = directory / f"{self.name}.err"
        self.argv = [str(a) for a in argv]
        clean = {k: v for k, v in os.environ.items() if not k.startswith("GIMLET_") and not k.lower().endswith("_proxy")}
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.popen = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                          env={**clean, **SANITIZER_ENV, **(env or {})})
        self.expected_end = False
        self._forgotten = 0
        Process.alive.append(self)

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def is_alive(self) -> bool:
        return self.popen.poll() is None

    # --- log ---
    def text(self) -> str:
        return self.out.read_text(errors="replace") + self.err.read_text(errors="replace")

    def forget_log(self):
        """What it has logged so far is left out by log() from now on."""
        self._forgotten = self.out.read_bytes().count(b"\n")

    def log(self, message: "str | None" = None) -> "list[dict]":
        """Its JSON log lines, or those whose message is `message`. A last line may be half written."""
        lines = []
        for line in self.out.read_text(errors="replace").split("\n")[self._forgotten:]:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if message is None or entry.get("message") == message:
                lines.append(entry)
        return lines

    def wait_log(self, message: str, count: int = 1, timeout: float = PATIENCE) -> "list[dict]":
        def enough():
            lines = self.log(message)
            if len(lines) < count:
                assert self.is_alive, f"{self.name} ended ({self.popen.returncode}):\n{self.tail()}"
            return lines if len(lines) >= count else None
        return wait_until(enough, f"{self.name} logs {message!r} {count} times", timeout)

    def tail(self, lines: int = 40) -> str:
        out = self.out.read_text(errors="replace").splitlines()[-lines:]
        err = self.err.read_text(errors="replace").splitlines()[-4 * lines:]
        return "\n".join([f"--- {self.name} (pid {self.pid}, {self._state()})"] + out
                         + (["--- stderr"] + err if err else []))

    def _state(self) -> str:
        code = self.popen.poll()
        return "running" if code is None else f"exit code {code}"

    # --- figures ---
    def _status(self, key: str) -> int:
        with open(f"/proc/{self.pid}/status") as status:
            for line in status:
                if line.startswith(key + ":"):
                    return int(line.split()[1])
        raise KeyError(key)

    def rss_bytes(self) -> int:
        return self._status("VmRSS") * 1024

    def rss_exact_bytes(self) -> int:
        """Counted by the page: VmRSS may be some hundred KiB behind, for each processor keeps a share of it."""
        with open(f"/proc/{self.pid}/smaps_rollup") as rollup:
            return next(int(line.split()[1]) for line in rollup if line.startswith("Rss:")) * 1024

    def rss_peak_bytes(self) -> int:
        return self._status("VmHWM") * 1024

    def reset_rss_peak(self):
        with open(f"/proc/{self.pid}/clear_refs", "w") as refs:
            refs.write("5")

    def cpu_seconds(self) -> float:
        with open(f"/proc/{self.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    # --- end ---
    def signal(self, number: int):
        os.kill(self.pid, number)

    def freeze(self):
        self.signal(signal.SIGSTOP)

    def thaw(self):
        self.signal(signal.SIGCONT)

    def kill(self):
        """SIGKILL: the end that gives no notice."""
        self.expected_end = True
        if self.is_alive:
            self.signal(signal.SIGKILL)
        self.popen.wait(PATIENCE)
        self._gone()

    def wait(self, timeout: float = PATIENCE) -> int:
        """Its exit code, once it has ended by itself."""
        self.expected_end = True
        try:
            code = self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} does not end within {timeout} s\n{self.tail()}") from None
        self._gone()
        self.check_sanitizers()
        return code

    def stop(self, timeout: float = PATIENCE) -> int:
        """SIGTERM, then its exit code."""
        if self.is_alive:
            self.expected_end = True
            self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def dispose(self):
        """Ends it whatever state it is in: SIGTERM, a second one for what will not drain, and SIGKILL as a failure."""
        if self.is_alive:
            self.expected_end = True
            self.signal(signal.SIGCONT)
            for patience in (1.0, PATIENCE):
                self.signal(signal.SIGTERM)
                try:
                    self.popen.wait(patience)
                    break
                except subprocess.TimeoutExpired:
                    continue
            if self.is_alive:
                text = self.tail()
                self.kill()
                raise AssertionError(f"{self.name} ignores two SIGTERM\n{text}")
        self._gone()
        self.check_sanitizers()

    def _gone(self):
        if self in Process.alive:
            Process.alive.remove(self)

    def check_sanitizers(self):
        text = self.err.read_text(errors="replace")
        assert not any(word in text for word in _SANITIZER_WORDS), f"{self.name}: a sanitizer speaks\n{text[-6000:]}"
        assert "assertion" not in text.lower(), f"{self.name}: an assertion failed\n{text[-3000:]}"

    def check_alive(self):
        if not self.expected_end:
            assert self.is_alive, f"{self.name} died (code {self.popen.returncode})\n{self.tail()}"
