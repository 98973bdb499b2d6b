#!/usr/bin/python3
"""House style as a test: reads the C sources as text and reports what breaks a rule.

Usage: tidy.py [--self-test] [TREE]

Each rule is one function from a tree of sources to findings. With --self-test every rule must
also fire on its own bad sample below, at the line that is marked there, and stay silent on the
good one: a rule that cannot fail proves nothing. The last line is "N passed, N failed, N skipped",
counting rules and samples.

The reader is no C parser. It blanks comments, literals and preprocessor lines and then follows
braces and parentheses, which is exact on code that clang-format has laid out; code inside macros
is not seen. Nesting counts the blocks of if/for/while/switch/do (and of for-each macros).
"""
import os
import re
import sys
from typing import Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

FILE_LINES_MAX = 800
FUNCTION_LINES_MAX = 70
PARAMETERS_MAX = 5
NESTING_MAX = 3
HEADER_LINES_MAX = 15

# Who may include whom: the direct edges of the design's section 7; reach is transitive.
INCLUDES = {
    "base": [],
    "http": ["base"], "ws": ["base"], "frame": ["base"], "auth": ["base"], "config": ["base"],
    "stream": ["http", "ws", "frame", "auth", "config"],
    "codec": ["stream"],
    "ring": ["base"], "tls": ["base"],
    "net": ["ring", "tls"],
    "link": ["codec", "net"],
    "control": ["link"], "client": ["link", "control"],
    "server": ["client", "control"], "agent": ["client", "control"],
    "cli": ["server", "agent"],
    "main": ["cli"],
}
DATA_PATH = {"http", "ws", "frame", "stream", "codec"}
PRIVATE_HEADERS = {
    "liburing.h": {"ring"},
    "linux/io_uring.h": {"ring"},
    "sys/epoll.h": {"ring", "control"},
}
BANNED_CALLS = ["sprintf", "vsprintf", "strcpy", "strcat", "gets", "strtok", "alloca", "setjmp", "longjmp"]
ALLOCATION_CALLS = ["malloc", "calloc", "realloc", "reallocarray", "free", "strdup", "strndup",
                    "aligned_alloc", "posix_memalign"]
CONTROL_WORDS = {"if", "for", "while", "switch"}


class Finding(NamedTuple):
    path: str
    line: int
    text: str


class Function(NamedTuple):
    name: str
    line: int
    lines: int
    parameters: int
    deepest: int
    deepest_line: int


class Source:
    """A C file: its raw lines, and the same text with everything but code blanked out."""

    def __init__(self, path: str, text: str):
        self.path = path
        self.raw = text
        self.lines = text.splitlines()
        self.uncommented = blank(text, literals=False)
        self.code = blank_preprocessor(blank(text, literals=True))

    @property
    def module(self) -> Optional[str]:
        """The folder under src/, 'main' for a file directly in it, None outside."""
        parts = self.path.split("/")
        if parts[0] != "src":
            return None
        return parts[1] if len(parts) > 2 else "main"

    def line_of(self, offset: int) -> int:
        return self.raw.count("\n", 0, offset) + 1


Tree = Dict[str, str]


def sources(tree: Tree) -> Iterator[Source]:
    for path in sorted(tree):
        if path.endswith((".c", ".h")):
            yield Source(path, tree[path])


def product_sources(tree: Tree) -> Iterator[Source]:
    return (source for source in sources(tree) if source.module)


# --- reading C -------------------------------------------------------------------------------

TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def spaces(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


def blank(text: str, literals: bool) -> str:
    """Comments, and with `literals` the inside of strings and characters, become spaces."""

    def replace(match: "re.Match[str]") -> str:
        token = match.group(0)
        if token[0] == "/":
            return spaces(token)
        return token[0] + spaces(token[1:-1]) + token[-1] if literals else token

    return TOKEN.sub(replace, text)


def blank_preprocessor(text: str) -> str:
    return re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lambda match: spaces(match.group(0)), text, flags=re.M)


def match_back(code: str, close: int) -> int:
    """The offset of the '(' that belongs to the ')' at `close`, or -1."""
    depth = 0
    for at in range(close, -1, -1):
        if code[at] == ")":
            depth += 1
        elif code[at] == "(":
            depth -= 1
            if depth == 0:
                return at
    return -1


def last_word(text: str) -> str:
    match = re.search(r"([A-Za-z_]\w*)\s*$", text)
    return match.group(1) if match else ""


def opens_block(code: str, brace: int) -> bool:
    """Whether the '{' inside a function begins a controlled block, not an initialiser."""
    before = code[:brace].rstrip()
    if not before.endswith(")"):
        return last_word(before) in {"else", "do"}
    word = last_word(code[:match_back(code, len(before) - 1)].rstrip())
    return word != "" and word not in {"return", "sizeof", "typeof", "case"}


def count_parameters(declarator: str) -> int:
    """The parameters of the first `name(…)` in a declarator that is not an attribute."""
    for match in re.finditer(r"([A-Za-z_]\w*)\s*\(", declarator):
        depth, commas, at = 0, 0, match.end() - 1
        while at < len(declarator):
            char = declarator[at]
            depth += (char == "(") - (char == ")")
            commas += char == "," and depth == 1
            if depth == 0:
                break
            at += 1
        if match.group(1) in {"__attribute__", "_Alignas", "typeof", "__typeof__"}:
            continue
        inside = declarator[match.end():at].strip()
        return 0 if inside in {"", "void"} else commas + 1
    return 0


def function_name(declarator: str) -> str:
    for match in re.finditer(r"([A-Za-z_]\w*)\s*\(", declarator):
        if match.group(1) not in {"__attribute__", "_Alignas", "typeof", "__typeof__"}:
            return match.group(1)
    return "?"


def functions(source: Source) -> Iterator[Function]:
    code, at, start = source.code, 0, 0
    while at < len(code):
        char = code[at]
        if char in ";}":
            start = at + 1
        elif char == "{":
            declarator = code[start:at]
            # `)` before the brace, possibly with an attribute word between; no initialiser.
            is_function = "(" in declarator and "=" not in re.sub(r"\([^()]*\)", "", declarator) \
                and not re.match(r"\s*(?:typedef\s+)?(?:struct|union|enum)\s+\w*\s*$", declarator)
            end, deepest, deepest_at = walk_block(code, at)
            if is_function:
                first = start + len(declarator) - len(declarator.lstrip())
                yield Function(function_name(declarator), source.line_of(first),
                               source.line_of(end) - source.line_of(first) + 1,
                               count_parameters(declarator), deepest, source.line_of(deepest_at))
            at = end
            if is_function or not re.match(r"\s*[\w\s,*\[\]=({]*;", code[end + 1:end + 200]):
                start = end + 1
        at += 1


def walk_block(code: str, brace: int) -> Tuple[int, int, int]:
    """From a '{' to its '}': the end's offset, the deepest nesting and where that is."""
    stack: List[bool] = []
    nesting, deepest, deepest_at, at = 0, 0, brace, brace
    while at < len(code):
        if code[at] == "{":
            counts = bool(stack) and opens_block(code, at)
            stack.append(counts)
            nesting += counts
            if nesting > deepest:
                deepest, deepest_at = nesting, at
        elif code[at] == "}":
            nesting -= stack.pop()
            if not stack:
                return at, deepest, deepest_at
        at += 1
    return len(code) - 1, deepest, deepest_at


# --- rules -----------------------------------------------------------------------------------


def rule_file_length(tree: Tree) -> Iterator[Finding]:
    for source in sources(tree):
        if len(source.lines) > FILE_LINES_MAX:
            yield Finding(source.path, len(source.lines), f"{len(source.lines)} lines, at most {FILE_LINES_MAX}")


def rule_header_comment(tree: Tree) -> Iterator[Finding]:
    for source in sources(tree):
        if not source.raw.startswith(("/*", "//")):
            yield Finding(source.path, 1, "does not start by saying what it is")
            continue
        # Until the first line that is not part of the opening comment.
        first_code = next((n for n, line in enumerate(source.uncommented.splitlines()) if line.strip()), 0)
        comment = TOKEN.match(source.raw)
        length = comment.group(0).count("\n") + 1 if source.raw.startswith("/*") else first_code
        if length > HEADER_LINES_MAX + 2:  # the two lines of the comment's own marks
            yield Finding(source.path, 1, f"opening comment of {length} lines, at most {HEADER_LINES_MAX} of text")


def rule_function_length(tree: Tree) -> Iterator[Finding]:
    for source in product_sources(tree):
        for function in functions(source):
            if function.lines > FUNCTION_LINES_MAX:
                yield Finding(source.path, function.line,
                              f"{function.name} has {function.lines} lines, at most {FUNCTION_LINES_MAX}")


def rule_parameters(tree: Tree) -> Iterator[Finding]:
    for source in product_sources(tree):
        for function in functions(source):
            if function.parameters > PARAMETERS_MAX:
                yield Finding(source.path, function.line,
                              f"{function.name} has {function.parameters} parameters, at most {PARAMETERS_MAX}")


def rule_nesting(tree: Tree) -> Iterator[Finding]:
    for source in product_sources(tree):
        for function in functions(source):
            if function.deepest > NESTING_MAX:
                yield Finding(source.path, function.deepest_line,
                              f"{function.name} nests {function.deepest} deep, at most {NESTING_MAX}")


def reach(module: str) -> Set[str]:
    seen, todo = {module}, [module]
    while todo:
        for lower in INCLUDES.get(todo.pop(), []):
            if lower not in seen:
                seen.add(lower)
                todo.append(lower)
    return seen


def includes(source: Source) -> Iterator[Tuple[int, str, str]]:
    for match in re.finditer(r'^[ \t]*#[ \t]*include[ \t]+(["<])([^">]+)[">]', source.uncommented, re.M):
        yield source.line_of(match.start()), match.group(1), match.group(2)


def rule_include_direction(tree: Tree) -> Iterator[Finding]:
    for source in product_sources(tree):
        if source.module not in INCLUDES:
            yield Finding(source.path, 1, f"src/{source.module} has no place in the include order (tidy.py INCLUDES)")
            continue
        allowed = reach(source.module)
        for line, mark, path in includes(source):
            if mark != '"':
                continue
            target = path.split("/")[0] if "/" in path else None
            if target is None:
                yield Finding(source.path, line, f'"{path}": name the folder, as in "base/slice.h"')
            elif target not in allowed:
                yield Finding(source.path, line, f"src/{source.module} may not include src/{target}")


def rule_private_headers(tree: Tree) -> Iterator[Finding]:
    for source in product_sources(tree):
        for line, _, path in includes(source):
            if path in PRIVATE_HEADERS and source.module not in PRIVATE_HEADERS[path]:
                homes = " and ".join("src/" + home for home in sorted(PRIVATE_HEADERS[path]))
                yield Finding(source.path, line, f"{path} belongs to {homes} alone")


def calls(source: Source, names: List[str]) -> Iterator[Tuple[int, str]]:
    """Calls by name: not members, not longer names, not other functions' declarations."""
    for match in re.finditer(r"(?<![\w.>])(%s)\s*\(" % "|".join(names), source.code):
        yield source.line_of(match.start()), match.group(1)


def rule_banned_calls(tree: Tree) -> Iterator[Finding]:
    for source in sources(tree):
        for line, name in calls(source, BANNED_CALLS):
            yield Finding(source.path, line, f"{name} is not used here")


def rule_data_path_allocation(tree: Tree) -> Iterator[Finding]:
    for source in product_sources(tree):
        if source.module in DATA_PATH:
            for line, name in calls(source, ALLOCATION_CALLS):
                yield Finding(source.path, line, f"{name} in src/{source.module}: memory is passed in")


def rule_explicit_atomics(tree: Tree) -> Iterator[Finding]:
    bare = ["atomic_load", "atomic_store", "atomic_exchange", "atomic_compare_exchange_strong",
            "atomic_compare_exchange_weak", "atomic_fetch_add", "atomic_fetch_sub", "atomic_fetch_or",
            "atomic_fetch_and", "atomic_fetch_xor", "atomic_flag_test_and_set", "atomic_flag_clear",
            r"__sync_\w+"]
    for source in sources(tree):
        for line, name in calls(source, bare):
            yield Finding(source.path, line, f"{name} without a memory order: use …_explicit")


def rule_orphans(tree: Tree) -> Iterator[Finding]:
    for source in sources(tree):
        if not source.path.endswith(".c"):
            continue
        folder, name = os.path.split(source.path)
        named = False
        while not named:
            build = tree.get(os.path.join(folder, "meson.build"), "")
            relative = os.path.relpath(source.path, folder or ".")
            named = re.search(r"'%s'" % re.escape(relative), build) is not None
            if not folder:
                break
            folder = os.path.dirname(folder)
        if not named:
            yield Finding(source.path, 1, f"{name} is in no meson.build")


def rule_unfinished(tree: Tree) -> Iterator[Finding]:
    for source in sources(tree):
        for number, line in enumerate(source.lines, 1):
            if re.search(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b", line):
                yield Finding(source.path, number, "admits to being unfinished")


RULES = [rule_file_length, rule_header_comment, rule_function_length, rule_parameters, rule_nesting,
         rule_include_direction, rule_private_headers, rule_banned_calls, rule_data_path_allocation,
         rule_explicit_atomics, rule_orphans, rule_unfinished]


# --- samples ---------------------------------------------------------------------------------

GOOD = {
    "src/net/meson.build": "net_lib = static_library('gm_net', files('good.c'))",
    "src/net/good.c": '''/*
 * A file that breaks no rule, though it says sprintf( and malloc( in its comments.
 */
#include "base/slice.h"
#include "ring/ring.h"
#include <stdatomic.h>

#define gm_bad_macro(x)     \\
    {                       \\
        strcpy(x, x);       \\
    }

static const struct gm_row table[] = {{1, "strtok("}, {2, "{"}};

struct gm_box {
    int (*free)(int a, int b, int c, int d, int e, int f);
};

__attribute__((format(printf, 1, 2))) int gm_net_walk(int a, int (*b)(int, int), int c, int d, int e)
{
    for (int i = 0; i < a; i++) {
        if (b(i, c)) {
            while (d-- > e) {
                box->free((struct gm_box){.free = (int[]){1, 2}}, '{');
            }
        } else if (a) {
            snprintf_like(&(struct gm_box){0});
        }
    }
    return atomic_load_explicit(&table, memory_order_relaxed);
}
''',
}

OPENING = "/* A sample. */\n"
MANY_LINES = "    x++;\n" * FUNCTION_LINES_MAX


def sample(path: str, body: str) -> Tree:
    folder, name = os.path.split(path)
    return {path: OPENING + body, os.path.join(folder, "meson.build"): f"files('{name}')"}


# rule -> trees on which it must fire, each with the line of its only finding
BAD: Dict[str, List[Tuple[Tree, int]]] = {
    "rule_file_length": [(sample("src/base/a.c", "int x;\n" * FILE_LINES_MAX), FILE_LINES_MAX + 1)],
    "rule_header_comment": [
        ({"src/base/a.h": "#include <stdint.h>\n"}, 1),
        ({"src/base/a.h": "/*\n" + " * words\n" * (HEADER_LINES_MAX + 1) + " */\nint x;\n"}, 1)],
    "rule_function_length": [
        (sample("src/base/a.c", "int x;\n\nint f(void)\n{\n" + MANY_LINES + "}\n"), 4),
        (sample("src/base/a.c", "struct s { int x; } s;\nstatic int f(struct s *s)\n{\n" + MANY_LINES + "}\n"), 3)],
    "rule_parameters": [
        (sample("src/base/a.h", "static inline int f(int a, int b, int c,\n"
                                "                    int (*d)(int, int), int e, int g)\n{\n    return 0;\n}\n"), 2)],
    "rule_nesting": [
        (sample("src/base/a.c", "int f(int a)\n{\n    if (a) {\n        for (;;) {\n            switch (a) {\n"
                                "            case 1:\n                while (a) {\n                    a--;\n"
                                "                }\n            }\n        }\n    }\n    return a;\n}\n"), 8)],
    "rule_include_direction": [
        (sample("src/http/a.c", '#include "base/slice.h"\n#include "ring/ring.h"\n'), 3),
        (sample("src/ws/a.c", '#include "frame/frame.h"\n'), 2),
        (sample("src/agent/a.c", '#include "server/server.h"\n'), 2),
        (sample("src/base/a.c", '#include "slice.h"\n'), 2),
        (sample("src/misc/a.c", "int x;\n"), 1)],
    "rule_private_headers": [
        (sample("src/net/a.c", "#include <liburing.h>\n"), 2),
        (sample("src/server/a.c", "int x;\n#include <sys/epoll.h>\n"), 3)],
    "rule_banned_calls": [
        (sample("src/base/a.c", f"int f(char *a)\n{{\n    return !{name}(a, a);\n}}\n"), 4) for name in BANNED_CALLS],
    "rule_data_path_allocation": [
        (sample("src/codec/a.c", f"void f(void *p)\n{{\n    {name} (p);\n}}\n"), 4) for name in ALLOCATION_CALLS],
    "rule_explicit_atomics": [
        (sample("src/ring/a.c", "int f(_Atomic int *p)\n{\n    return atomic_fetch_add(p, 1);\n}\n"), 4),
        (sample("src/ring/a.c", "void f(int *p)\n{\n    __sync_synchronize();\n}\n"), 4)],
    "rule_orphans": [({"src/base/a.c": OPENING, "src/base/meson.build": "files('aa.c')"}, 1)],
    "rule_unfinished": [(sample("src/base/a.c", "int x; /* TO" "DO: y */\n"), 2)],
}


def self_test() -> Tuple[int, int]:
    passed = failed = 0
    for rule in RULES:
        wrong = [str(finding) for finding in rule(GOOD)]
        for tree, line in BAD[rule.__name__]:
            found = [finding.line for finding in rule(tree)]
            if found != [line]:
                wrong.append(f"bad sample: findings at lines {found}, not at [{line}]")
        passed += not wrong
        failed += bool(wrong)
        for text in wrong:
            print(f"FAIL self-test {rule.__name__}: {text}")
    return passed, failed


# --- the tree --------------------------------------------------------------------------------


def read_tree(root: str) -> Tree:
    tree: Tree = {}
    for top in ("src", "tests", "perf"):
        for folder, folders, names in os.walk(os.path.join(root, top)):
            folders[:] = [name for name in folders if not name.startswith((".", "build"))]
            for name in names:
                if name.endswith((".c", ".h")) or name == "meson.build":
                    path = os.path.join(folder, name)
                    with open(path, encoding="utf-8") as file:
                        tree[os.path.relpath(path, root)] = file.read()
    with open(os.path.join(root, "meson.build"), encoding="utf-8") as file:
        tree["meson.build"] = file.read()
    return tree


def main() -> int:
    arguments = [argument for argument in sys.argv[1:] if argument != "--self-test"]
    passed, failed = self_test() if "--self-test" in sys.argv else (0, 0)
    tree = read_tree(arguments[0] if arguments else ".")
    for rule in RULES:
        findings = list(rule(tree))
        for finding in findings:
            print(f"{finding.path}:{finding.line}: {rule.__name__[5:].replace('_', ' ')}: {finding.text}")
        passed += not findings
        failed += bool(findings)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
