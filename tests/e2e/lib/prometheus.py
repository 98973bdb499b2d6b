"""Prometheus' own programs, and its text format read strictly enough for tests."""
import re
import shutil
import subprocess

_SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)')
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')


class Page:
    """Families {name: type} and samples {(name, frozenset of labels): value}."""

    def __init__(self, text: str):
        self.types, self.samples = {}, {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                assert name not in self.types, f"{name} stands there twice"
                self.types[name] = kind
            elif not line.startswith("#"):
                self._take(line)

    def _take(self, line: str):
        match = _SAMPLE.fullmatch(line)
        assert match, line
        labels, rest = {}, match[2] or ""
        while rest:
            label = _LABEL.match(rest)
            assert label, line
            labels[label[1]] = label[2]
            rest = rest[label.end():]
        key = (match[1], frozenset(labels.items()))
        assert key not in self.samples, f"twice: {line}"
        self.samples[key] = float(match[3])

    def all(self, name: str, **labels) -> "dict[frozenset, float]":
        wanted = set(labels.items())
        return {key[1]: value for key, value in self.samples.items() if key[0] == name and wanted <= key[1]}

    def one(self, name: str, **labels) -> float:
        """The value of the only such sample."""
        found = self.all(name, **labels)
        assert len(found) == 1, (name, labels, found)
        return next(iter(found.values()))

    def sum(self, name: str, **labels) -> float:
        return sum(self.all(name, **labels).values())

    def values(self, name: str, label: str) -> "set[str]":
        return {dict(key)[label] for key in self.all(name) if label in dict(key)}


def lint(text: str) -> "list[str]":
    """What `promtool check metrics` complains about; it must be able to read the text."""
    program = shutil.which("promtool")
    assert program, "promtool is not installed"
    done = subprocess.run([program, "check", "metrics"], input=text.encode(), capture_output=True, timeout=30, check=False)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode in (0, 3), said
    return said.splitlines()
