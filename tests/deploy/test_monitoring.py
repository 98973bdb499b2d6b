"""Prometheus' configuration and alerts by promtool, Grafana's files by hand: there is no Grafana in Debian."""
import json
import re
import shutil
import subprocess

import pytest
import yaml

from lib import artefacts
from lib.artefacts import DEPLOY, ROOT

needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not here")
BOARD = json.loads((DEPLOY / "grafana/dashboards/overview.json").read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
PAGE = """# TYPE gimlet_a_total counter
gimlet_a_total{server_id="s",service="x"} 1
# TYPE gimlet_b gauge
gimlet_b{server_id="s"} 1
"""


def promtool(*words):
    run = subprocess.run(["promtool", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30)
    assert run.returncode == 0, run.stdout
    return run.stdout


@needs_promtool
def test_configuration_and_rules():
    promtool("check", "config", str(DEPLOY / "prometheus/prometheus.yml"))
    assert "SUCCESS" in promtool("check", "rules", str(DEPLOY / "prometheus/alerts.yml"))


@needs_promtool
def test_alerts_fire_when_they_should():
    promtool("test", "rules", str(ROOT / "tests/deploy/alerts.test.yml"))


def test_every_alert_is_tested():
    tested = re.findall(r"alertname: (\w+)", (ROOT / "tests/deploy/alerts.test.yml").read_text())
    assert {name.removeprefix("alert ") for name, _ in artefacts.alert_expressions()} == set(tested)


@needs_promtool
def test_expressions_of_the_dashboard_parse(tmp_path):
    rules = [{"record": f"panel:{n}", "expr": text} for n, (_, text) in enumerate(artefacts.panel_expressions())]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", "--no-lint-fatal", str(path))


def test_panels_of_version_0_0_x_are_there():
    titles = {panel["title"] for panel in PANELS}
    assert BOARD["uid"] == "gimlet-overview" and BOARD["title"] == "Gimlet Overview"
    assert {"Mesh Topology", "Agent Connections", "Active Requests", "Server Rate Limit Rejections",
            "Agent Rate Limit Rejections", "Agent Request Channel Buffer", "Server Response Channel Buffer", "Memory",
            "CPU"} <= titles


def test_panels_do_not_overlap():
    taken = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
    numbers = [panel["id"] for panel in BOARD["panels"]]
    assert len(numbers) == len(set(numbers))


def test_legends_use_labels_that_the_expression_keeps():
    for panel in PANELS:
        for target in panel["targets"]:
            used = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
            kept = re.findall(r"\bby \(([^)]*)\)", target["expr"])
            if kept:
                assert used <= set(re.split(r"[ ,]+", kept[0])), f"{panel['title']}: {target['legendFormat']}"


def test_topology_has_the_fields_of_a_node_graph():
    targets = {target["refId"]: target for target in PANELS[0]["targets"]}
    assert PANELS[0]["type"] == "nodeGraph" and set(targets) == {"nodes", "edges"}
    for name, fields in (("nodes", ("id", "title")), ("edges", ("id", "source", "target"))):
        assert targets[name]["format"] == "table" and targets[name]["instant"] is True
        assert all(f'"{field}"' in targets[name]["expr"] for field in fields)


def test_one_datasource_everywhere():
    known = {one["uid"] for one in artefacts.documents("grafana/provisioning/datasources/prometheus.yml")[0]["datasources"]}
    used = {target["datasource"]["uid"] for panel in PANELS for target in [*panel["targets"], panel]}
    assert used == known


def test_grafana_finds_the_dashboard():
    path = artefacts.documents("grafana/provisioning/dashboards/gimlet.yml")[0]["providers"][0]["options"]["path"]
    grafana = artefacts.compose()["services"]["grafana"]
    mounts = dict(volume.split(":")[:2] for volume in grafana["volumes"])
    assert mounts["../grafana/dashboards"] == path
    assert mounts["../grafana/provisioning"] == "/etc/grafana/provisioning"
    assert grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == f"{path}/overview.json"
    assert (DEPLOY / "grafana/dashboards/overview.json").is_file()


@pytest.mark.parametrize("expression, fits", [
    ("sum by (service) (rate(gimlet_a_total[1m]))", True),
    ("max(gimlet_b)", True),
    ("rate(gimlet_b[1m])", False),
    ("deriv(gimlet_a_total[1m])", False),
    ("sum(gimlet_c)", False),
    ('gimlet_a_total{limit_type="x"}', False),
    ("sum by (limit_type) (gimlet_a_total)", False)])
def test_a_misfit_is_seen(expression, fits):
    assert (list(artefacts.misfits(expression, PAGE)) == []) == fits
