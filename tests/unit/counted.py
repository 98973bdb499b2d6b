#!/usr/bin/python3
"""Runs `meson test` in a build directory and counts single tests, not executables.

Usage: counted.py BUILD_DIR [MESON-TEST-OPTION...]
The last line is "N passed, N failed, N skipped".
"""
import os
import subprocess
import sys
import xml.etree.ElementTree

SANITIZERS = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1:abort_on_error=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1:abort_on_error=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}


def main() -> int:
    build_dir, options = sys.argv[1], sys.argv[2:]
    environment = {**SANITIZERS, **os.environ}
    report = os.path.join(build_dir, "meson-logs", "testlog.junit.xml")
    if os.path.exists(report):
        os.remove(report)
    command = ["meson", "test", "-C", build_dir, "--no-rebuild", "--print-errorlogs",
               "--num-processes", "2", *options]
    status = subprocess.run(command, env=environment, check=False).returncode
    if not os.path.exists(report):
        if status == 0:  # Meson's word for "no test has this name or suite"
            print("skip: there are no such tests")
        print(f"0 passed, {int(status != 0)} failed, {int(status == 0)} skipped")
        return status

    # Meson's JUnit report has one <testcase> per TAP line, and one suite per executable.
    passed = failed = skipped = 0
    for suite in xml.etree.ElementTree.parse(report).getroot().iter("testsuite"):
        cases = list(suite.iter("testcase"))
        suite_failed = sum(1 for c in cases if c.find("failure") is not None or c.find("error") is not None)
        suite_skipped = sum(1 for c in cases if c.find("skipped") is not None)
        for case in cases:
            if case.find("skipped") is not None:
                print(f"skip {suite.get('name')} {case.get('name')}: {case.find('skipped').get('message') or ''}")
        passed += len(cases) - suite_failed - suite_skipped
        failed += suite_failed
        skipped += suite_skipped
    if status != 0 and failed == 0:
        failed = 1  # a crash between tests, or a timeout, leaves no failed line
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
