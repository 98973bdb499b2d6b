"""README, "Coming from Gimlet 0.0.x": every row names the tests that stand behind it, and they exist."""
import re

from lib.artefacts import ROOT

SECTION = re.search(r"^## Coming from Gimlet 0\.0\.x\n(.*?)^## ", (ROOT / "README.md").read_text(), re.M | re.S)[1]
HEADERS = ("| what |", "| 0.0.x |", "|---")
ROWS = [line for line in SECTION.splitlines() if line.startswith("| ") and not line.startswith(HEADERS)]


def known_tests():
    pages = [*ROOT.glob("tests/e2e/test_*.py"), *ROOT.glob("tests/deploy/test_*.py")]
    return {name for path in pages for name in re.findall(r"def (test_\w+)\(", path.read_text())}


def test_every_row_has_its_tests():
    assert len(ROWS) >= 30
    known = known_tests()
    for row in ROWS:
        comment = re.search(r"<!-- ([\w ]+) --> \|$", row)
        assert comment, f"no test: {row}"
        missing = set(comment[1].split()) - known
        assert not missing, f"{missing} of: {row}"
