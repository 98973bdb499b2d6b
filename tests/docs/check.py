#!/usr/bin/env python3
"""Is README.md true? Its option tables, paths, flags, variables, reasons and links, and its tour.

  tests/docs/check.py [--no-tour] PROGRAM     PROGRAM: a built gimlet
  tests/docs/check.py --write PROGRAM         writes the option tables into README.md
  tests/docs/check.py --self-test PROGRAM     first: does each check find a README that is not true?

The tour is pasted into one bash, block by block, in a new folder and with other ports; an HTML
comment behind a block says what it must show (expect) or must not show (refuse). The last line
is "N passed, N failed, N skipped". Python's standard library only.
"""
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
README = ROOT / "README.md"
SUBCOMMANDS = ("server", "agent", "jwt agent", "jwt client", "jwt inspect", "jwt export-public-key")
TOUR_SECONDS = 180
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")


class Readme:
    """The page, taken apart: fenced blocks, code spans, tables."""

    def __init__(self, text):
        self.text = text
        self.fences = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
        self.prose = re.sub(r"<!-- begin: .*?<!-- end -->", "", prose, flags=re.S)
        self.spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", self.prose)]
        self.headings = re.findall(r"^#+ (.*)$", prose, re.M)

    def commands(self):
        """Simple commands of the shell blocks, as lists of words."""
        for language, block in self.fences:
            if language != "sh":
                continue
            block = re.sub(r"<<'EOF'\n.*?^EOF$", "", block, flags=re.M | re.S).replace("\\\n", " ")
            for line in block.splitlines():
                yield from split_commands(line)


def split_commands(line):
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = []
    for token in lexer:
        if token and set(token) <= set("();<>|&"):
            if token[0] not in "<>":
                yield words
                words = []
        else:
            words.append(token)
    yield words


class Program:
    """What the built program says about itself."""

    def __init__(self, path):
        self.path = path
        self.help = {name: self.say(*name.split(), "--help") for name in SUBCOMMANDS}
        self.flags = {name: set(FLAG.findall(text)) for name, text in self.help.items()}
        self.all_flags = set().union(*self.flags.values())
        self.variables = set(re.findall(r"\bGIMLET_[A-Z_]+", " ".join(self.help.values())))

    def say(self, *arguments):
        run = subprocess.run([self.path, *arguments], stdout=subprocess.PIPE, text=True, timeout=20, check=True)
        return run.stdout

    def table(self, command):
        words = command.split()
        assert words[0] == "gimlet", command
        return self.say(*words[1:])


# --- the tables ---------------------------------------------------------------------------------

MARKED = re.compile(r"(<!-- begin: (gimlet [^>]*?) -->\n)(.*?)(<!-- end -->)", re.S)


def with_tables(text, program):
    return MARKED.sub(lambda m: f"{m[1]}{program.table(m[2])}{m[4]}", text)


def check_tables(readme, program):
    commands = []
    for found in MARKED.finditer(readme.text):
        commands.append(found[2])
        same = found[3] == program.table(found[2])
        yield f"table of {found[2]}", "" if same else "differs; run tests/docs/check.py --write PROGRAM"
    for wanted in ("gimlet server --help-markdown", "gimlet agent --help-markdown"):
        yield f"{wanted} has its place", "" if wanted in commands else "no such marker"


# --- names --------------------------------------------------------------------------------------

PLACES = ("src/", "tests/", "deploy/", "perf/", "subprojects/", ".ci/", "./")
MADE = ("build/", "subprojects/packagecache/")  # not part of the repository


def paths_of(readme):
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", readme.text) if "://" not in link]
    words = [word for span in readme.spans for word in span.split()]
    words += [word for command in readme.commands() for word in command]
    places = [word.rstrip(",.:;") for word in words if word.startswith(PLACES)]
    return sorted({path for path in links + places if not path.startswith(MADE)})


def check_paths(readme, _program):
    for path in paths_of(readme):
        yield f"path {path}", "" if (ROOT / path).exists() else "does not exist"
    for name in re.findall(r"\]\(#([^)]+)\)", readme.text):
        anchors = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in readme.headings]
        yield f"link #{name}", "" if name in anchors else "leads to no heading"


def flags_known(words, program):
    """Flags of one command that its program does not have. Programs that are not ours are not judged."""
    flags = [flag for word in words for flag in FLAG.findall(word) if word.startswith("--")]
    name = words[0]
    if pathlib.PurePath(name).name == "gimlet":
        subcommand = " ".join(word for word in words[1:3] if re.fullmatch(r"[a-z][a-z-]*", word))
        known = program.flags.get(subcommand, program.flags.get(subcommand.split(" ")[0], set()))
        return [flag for flag in flags if flag not in known]
    script = ROOT / name
    if "/" in name and script.is_file():
        text = script.read_text()
        return [flag for flag in flags if flag not in text and flag.strip("-") not in text]
    return []


def is_command(words):
    return len(words) > 0 and (words[0] == "gimlet" or "/" in words[0] and (ROOT / words[0]).is_file())


def check_flags(readme, program):
    for words in [*readme.commands(), *(span.split() for span in readme.spans)]:
        if is_command(words) and any(word.startswith("--") for word in words):
            unknown = flags_known(words, program)
            yield f"flags of {' '.join(words)[:60]}", f"unknown: {' '.join(unknown)}" if unknown else ""
    scripts = "".join((ROOT / path).read_text() for path in ("tests/run.sh", "deploy/demo.sh", "deploy/packages.sh"))
    for flag in sorted({FLAG.match(span)[0] for span in readme.spans if FLAG.match(span)}):
        foreign = flag in ("--security-opt", "--cacert")
        known = foreign or flag in program.all_flags or flag in scripts
        yield f"flag {flag}", "" if known else "neither gimlet nor a script has it"
    for variable in sorted(set(re.findall(r"\bGIMLET_[A-Z_]+", readme.prose))):
        yield f"variable {variable}", "" if variable in program.variables else "unknown to gimlet"


def check_meson(readme, _program):
    declared = set(re.findall(r"^option\('(\w+)'", (ROOT / "meson_options.txt").read_text(), re.M))
    used = set(re.findall(r"-D(\w+)=", readme.text))
    for option in sorted(used):
        known = option in declared or option in ("b_lto", "b_sanitize", "buildtype")
        yield f"meson option {option}", "" if known else "not in meson_options.txt"
    for option in sorted(declared - used):
        yield f"meson option {option}", "is not in README.md"


def check_reasons(readme, _program):
    table = (ROOT / "src/frame/reason.h").read_text()
    rows = re.findall(r"X\(\w+, \d+, \"(\w+)\", (\d+),", table)
    reasons = {name: status for name, status in rows}
    shown = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", readme.text, re.M)
    yield "reasons are listed", "" if len(shown) >= 10 else f"only {len(shown)} rows found"
    for status, name in shown:
        actual = reasons.get(name)
        yield f"reason {name}", "" if actual == status else f"README says {status}, reason.h {actual}"


def check_counters(readme, _program):
    known = set(re.findall(r"X\(\w+, (\w+),\s+(?:COUNTER|GAUGE)", (ROOT / "src/base/counter.h").read_text()))
    known.add("io_backend")
    grep = re.search(r"debug/counters \| grep -E '\^\(([^)]*)\)", readme.text)
    for name in grep[1].split("|") if grep else ["(none)"]:
        yield f"counter {name}", "" if name in known else "no such counter"


def check_tree(readme, _program):
    listed = set(re.findall(r"^\| `(src/\w+/)` \|", readme.text, re.M))
    there = {f"src/{path.name}/" for path in (ROOT / "src").iterdir() if path.is_dir() and any(path.glob("*.c"))}
    yield "source tree", "" if listed == there else f"differs: {sorted(listed ^ there)}"


# --- the tour -----------------------------------------------------------------------------------

BLOCK = re.compile(r"<!-- tour: run -->\n```sh\n(.*?)^```\n((?:<!-- (?:expect|refuse): .*? -->\n)*)", re.M | re.S)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [str(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def tour_script(blocks, ports):
    """One bash script: the blocks as they stand but for the ports, and a line between any two."""
    script = ""
    for number, block in enumerate(blocks):
        for old, new in ports.items():
            block = re.sub(rf"\b{old}\b", new, block)
        # The defaults are what the tour relies on; a test cannot have them to itself.
        block = block.replace("gimlet server ", f"gimlet server --http-port {ports['8080']} --metrics-port {ports['9090']} ")
        script += f"{block}\necho '=== end of block {number} ==='\n"
    return script


def run_tour(script, program, folder):
    """What the tour printed, and why it did not end, or ''."""
    tools = os.path.join(folder, "bin")
    os.mkdir(tools)
    os.symlink(os.path.abspath(program.path), os.path.join(tools, "gimlet"))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIMLET_") and "proxy" not in k.lower()}
    environment["PATH"] = f"{tools}:/usr/bin:/bin:/usr/sbin:/sbin"
    output = os.path.join(folder, "output")
    with open(output, "wb") as file:
        bash = subprocess.Popen(["bash", "-c", script], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                                stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            bash.wait(TOUR_SECONDS)
            problem = ""
        except subprocess.TimeoutExpired:
            problem = f"did not end within {TOUR_SECONDS} s"
        try:
            os.killpg(bash.pid, signal.SIGKILL)  # what a broken tour left behind
        except ProcessLookupError:
            pass
        bash.wait()
    return pathlib.Path(output).read_text(errors="replace"), problem


def show(text, folder):
    for line in text.splitlines()[-40:]:
        print(f"    | {line}")
    for log in sorted(pathlib.Path(folder).glob("*.log")):
        for line in log.read_text(errors="replace").splitlines()[-8:]:
            print(f"    {log.name} | {line[:300]}")


def check_tour(readme, program):
    found = BLOCK.findall(readme.text)
    if not found:
        yield "tour", "no block is marked <!-- tour: run -->"
        return
    if not shutil.which("curl", path="/usr/bin:/bin"):
        yield "tour", None
        return
    ports = dict(zip(("8000", "8001", "8080", "8443", "9090"), free_ports(5)))
    with tempfile.TemporaryDirectory(prefix="gimlet-tour.") as folder:
        text, problem = run_tour(tour_script([block for block, _ in found], ports), program, folder)
        yield "tour comes to its end", problem
        parts = re.split(r"^=== end of block \d+ ===\n", text, flags=re.M)
        bad = bool(problem)
        for number, (_, comments) in enumerate(found):
            part = parts[number] if number < len(parts) else ""
            for kind, words in re.findall(r"<!-- (expect|refuse): (.*?) -->", comments):
                for old, new in ports.items():
                    words = re.sub(rf"\b{old}\b", new, words)
                good = (words in part) == (kind == "expect")
                bad = bad or not good
                yield f"tour, block {number + 1}, {kind} {words}", "" if good else "not so"
        if bad:
            show(text, folder)


# --- all of it ----------------------------------------------------------------------------------

CHECKS = (check_tables, check_paths, check_flags, check_meson, check_reasons, check_counters, check_tree)

# A change that makes README.md untrue, and the check that must see it.
SABOTAGE = (
    (check_tables, ("--http-port PORT", "--http-part PORT")),
    (check_paths, ("src/frame/PROTOCOL.md", "src/frame/PROTOCOLS.md")),
    (check_paths, ("(#licence)", "(#license)")),
    (check_flags, ("--log-format console", "--log-shape console")),
    (check_flags, ("gimlet jwt client --subject", "gimlet jwt client --subjects")),
    (check_flags, ("./tests/run.sh  ", "./tests/run.sh --fast ")),
    (check_meson, ("-Dstatic=", "-Dstatics=")),
    (check_reasons, ("| 503 | `agent_unavailable`", "| 502 | `agent_unavailable`")),
    (check_counters, ("|crossings|", "|crossing|")),
    (check_tree, ("| `src/ring/` |", "| `src/rings/` |")),
)


def self_test(text, program):
    for check, (old, new) in SABOTAGE:
        if old not in text:
            yield f"self-test: {old}", "is not in README.md: mend SABOTAGE"
            continue
        problems = [problem for _, problem in check(Readme(text.replace(old, new)), program) if problem]
        yield f"self-test: {new}", "" if problems else f"{check.__name__} did not see it"


def count(results):
    tally = {"passed": 0, "failed": 0, "skipped": 0}
    for name, problem in results:
        if problem is None:
            tally["skipped"] += 1
            print(f"skip {name}: curl is missing")
        elif problem:
            tally["failed"] += 1
            print(f"FAIL {name}: {problem}")
        else:
            tally["passed"] += 1
    return tally


def main():
    options = [word for word in sys.argv[1:] if word.startswith("--")]
    names = [word for word in sys.argv[1:] if not word.startswith("--")]
    if len(names) != 1 or set(options) - {"--no-tour", "--write", "--self-test"}:
        print(__doc__, file=sys.stderr)
        return 2
    if not os.access(names[0], os.X_OK):
        print(f"FAIL {names[0]} is not a program\n0 passed, 1 failed, 0 skipped")
        return 1
    program = Program(os.path.abspath(names[0]))
    text = README.read_text()
    if "--write" in options:
        README.write_text(with_tables(text, program))
        return 0
    checks = CHECKS if "--no-tour" in options else (*CHECKS, check_tour)
    results = [each for check in checks for each in check(Readme(text), program)]
    if "--self-test" in options:
        results += self_test(text, program)
    tally = count(results)
    print(f"{tally['passed']} passed, {tally['failed']} failed, {tally['skipped']} skipped")
    return 1 if tally["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
