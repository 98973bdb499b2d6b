"""The manifests: what Kubernetes would find wrong only when it is too late, and what it never would."""
import re
import shutil
import subprocess
import time

import pytest
import yaml

from lib import artefacts
from lib.artefacts import DEPLOY

KUBE = DEPLOY / "kubernetes"
VERSIONS = {"Namespace": "v1", "Service": "v1", "Deployment": "apps/v1", "DaemonSet": "apps/v1",
            "PodDisruptionBudget": "policy/v1", "PodMonitor": "monitoring.coreos.com/v1", "Ingress": "networking.k8s.io/v1"}
OBJECTS = [document for path in ("base/namespace.yaml", "base/server.yaml", "base/agent.yaml", "podmonitor.yaml",
                                                      "ingress.yaml")
           for document in artefacts.documents(f"kubernetes/{path}")]
WORKLOADS = [one for one in OBJECTS if one["kind"] in ("Deployment", "DaemonSet")]
KUSTOMIZATION = artefacts.documents("kubernetes/base/kustomization.yaml")[0]


def of(kind, name=None):
    return next(one for one in OBJECTS if one["kind"] == kind and name in (None, one["metadata"]["name"]))


def pod(workload):
    return workload["spec"]["template"]


def container(workload):
    containers = pod(workload)["spec"]["containers"]
    assert len(containers) == 1
    return containers[0]


def covers(selector, labels):
    return selector.items() <= labels.items()


def test_kinds_have_their_versions():
    assert [(one["kind"], one["apiVersion"]) for one in OBJECTS] == \
        [(one["kind"], VERSIONS[one["kind"]]) for one in OBJECTS]
    names = [(one["kind"], one["metadata"]["name"]) for one in OBJECTS]
    assert len(names) == len(set(names))


def test_every_file_is_used():
    assert set(KUSTOMIZATION["resources"]) == {path.name for path in (KUBE / "base").glob("*.yaml")} - {"kustomization.yaml"}


def test_one_namespace():
    name = of("Namespace")["metadata"]["name"]
    assert KUSTOMIZATION["namespace"] == name == of("PodMonitor")["metadata"]["namespace"]
    overlay = artefacts.documents("kubernetes/io-uring/kustomization.yaml")[0]
    assert overlay["namespace"] == name
    url = next(e["value"] for e in container(of("DaemonSet"))["env"] if e["name"] == "GIMLET_AGENT_SERVER_URL")
    assert re.fullmatch(r"ws://([\w-]+)\.([\w-]+)\.svc/agent", url).groups() == (of("Service")["metadata"]["name"], name)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda one: one["kind"])
def test_selectors_find_the_pods(workload):
    labels = pod(workload)["metadata"]["labels"]
    assert covers(workload["spec"]["selector"]["matchLabels"], labels)
    other = next(one for one in WORKLOADS if one is not workload)
    assert not covers(workload["spec"]["selector"]["matchLabels"], pod(other)["metadata"]["labels"])
    assert covers(of("PodMonitor")["spec"]["selector"]["matchLabels"], labels)
    for spread in pod(workload)["spec"].get("topologySpreadConstraints", []):
        assert covers(spread["labelSelector"]["matchLabels"], labels)


def test_service_and_budget_select_servers_alone():
    server, agent = (pod(of(kind))["metadata"]["labels"] for kind in ("Deployment", "DaemonSet"))
    for selector in (of("Service")["spec"]["selector"], of("PodDisruptionBudget")["spec"]["selector"]["matchLabels"]):
        assert covers(selector, server) and not covers(selector, agent)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda one: one["kind"])
def test_ports_are_those_the_program_listens_on(workload):
    """Named ports exist, and what a variable tells the program is what is probed and scraped."""
    one = container(workload)
    ports = {port["name"]: port["containerPort"] for port in one["ports"]}
    told = {e["name"].split("_", 2)[2].removesuffix("_PORT").lower(): int(e["value"]) for e in one["env"]
            if e["name"].endswith("_PORT")}
    assert told == ports
    probed = [one[probe]["httpGet"]["port"] for probe in ("readinessProbe", "livenessProbe") if probe in one]
    monitored = [endpoint["port"] for endpoint in of("PodMonitor")["spec"]["podMetricsEndpoints"]]
    offered = [port["targetPort"] for port in of("Service")["spec"]["ports"]] if workload["kind"] == "Deployment" else []
    assert set(probed + monitored + offered) <= set(ports)
    assert "metrics" not in offered


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda one: one["kind"])
def test_mounts_volumes_and_paths(workload):
    one = container(workload)
    volumes = {volume["name"] for volume in pod(workload)["spec"]["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in one["volumeMounts"]}
    assert set(mounts) == volumes
    paths = [e["value"] for e in one["env"] if e["name"].endswith(("_FILE", "_DIR"))]
    assert paths and all(any(path == mount or path.startswith(f"{mount}/") for mount in mounts.values()) for path in paths)
    assert not any("subPath" in mount for mount in one["volumeMounts"]), "a file of its own never changes"


def test_keys_and_token_are_those_that_the_commands_make():
    commands = (KUBE / "base/kustomization.yaml").read_text()
    namespace = of("Namespace")["metadata"]["name"]
    keys = pod(of("Deployment"))["spec"]["volumes"][0]["configMap"]["name"]
    assert f"kubectl -n {namespace} create configmap {keys} --from-file=gimlet.pub" in commands
    secret = pod(of("DaemonSet"))["spec"]["volumes"][0]["secret"]
    key, path = secret["items"][0]["key"], secret["items"][0]["path"]
    assert f"create secret generic {secret['secretName']} --from-file={key}=agent.token" in commands
    file = next(e["value"] for e in container(of("DaemonSet"))["env"] if e["name"] == "GIMLET_AGENT_TOKEN_FILE")
    assert file.endswith(f"/{path}")


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda one: one["kind"])
def test_variables_that_refer_to_others(workload):
    names = []
    for entry in container(workload)["env"]:
        for other in re.findall(r"\$\((\w+)\)", entry.get("value", "")):
            assert other in names, f"{other} must stand before {entry['name']}"
        assert all(isinstance(entry.get("value", ""), str) for _ in "x"), f"{entry['name']}: not in quotes"
        names.append(entry["name"])
    assert len(names) == len(set(names))


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda one: one["kind"])
def test_restricted_standard(workload):
    assert of("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    spec, own = pod(workload)["spec"], container(workload)["securityContext"]
    assert spec["automountServiceAccountToken"] is False and "serviceAccountName" not in spec
    assert spec["enableServiceLinks"] is False
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert own["allowPrivilegeEscalation"] is False and own["capabilities"] == {"drop": ["ALL"]}
    assert own["readOnlyRootFilesystem"] is True
    assert not any(key in spec for key in ("hostNetwork", "hostPID", "hostIPC"))
    assert {next(iter(set(volume) - {"name"})) for volume in spec["volumes"]} <= {"configMap", "secret"}


def test_ingress_leads_to_the_service():
    spec, service = of("Ingress")["spec"], of("Service")
    assert of("Ingress")["metadata"]["namespace"] == of("Namespace")["metadata"]["name"]
    rule, = spec["rules"]
    backend = rule["http"]["paths"][0]["backend"]["service"]
    assert backend["name"] == service["metadata"]["name"]
    assert backend["port"]["name"] in [port["name"] for port in service["spec"]["ports"]]
    assert spec["tls"][0]["hosts"] == [rule["host"]]
    assert all(isinstance(value, str) for value in of("Ingress")["metadata"]["annotations"].values())


def size(text):
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi|)", text).groups()
    return int(number) * {"": 1, "Mi": 1 << 20, "Gi": 1 << 30}[unit]


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda one: one["kind"])
def test_memory_covers_the_rings(workload):
    """A ring for each core of the limit, 64 MiB each, and 16 MiB beside: with less the kernel kills what works."""
    limits = container(workload)["resources"]["limits"]
    assert size(limits["memory"]) >= int(limits["cpu"]) * (64 << 20) + (16 << 20)


def test_scraped_under_the_names_that_alerts_and_dashboard_go_by():
    """The job of each pod after the operator's relabelling, and two scrapes in the shortest rate."""
    endpoint, = of("PodMonitor")["spec"]["podMetricsEndpoints"]
    rule, = endpoint["relabelings"]
    assert rule["targetLabel"] == "job" and rule["sourceLabels"] == ["__meta_kubernetes_pod_label_app_kubernetes_io_name"]
    jobs = {rule["replacement"].replace("${1}", pod(one)["metadata"]["labels"]["app.kubernetes.io/name"]) for one in WORKLOADS}
    assert jobs == {one["job_name"] for one in artefacts.documents("prometheus/prometheus.yml")[0]["scrape_configs"]}
    for where, text in [*artefacts.panel_expressions(), *artefacts.alert_expressions()]:
        for pattern in re.findall(r'job=~?"([^"]*)"', text):
            assert any(re.fullmatch(pattern, job) for job in jobs), where
        for window in re.findall(r"\[(\d+[smh])\]", text):
            assert artefacts.seconds(window) >= 2 * artefacts.seconds(endpoint["interval"]), where


def test_a_roll_out_never_lacks_a_server():
    strategy = of("Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert strategy == {"maxUnavailable": 0, "maxSurge": 1}
    assert of("Deployment")["spec"]["replicas"] > of("PodDisruptionBudget")["spec"]["maxUnavailable"]


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not here")
def test_kustomize_builds_both():
    def build(folder):
        run = subprocess.run(["kubectl", "kustomize", str(KUBE / folder)], stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True, timeout=60)
        assert run.returncode == 0, run.stdout
        return [document for document in yaml.safe_load_all(run.stdout) if document]
    base, uring = build("base"), build("io-uring")
    assert len(base) == len(uring) == len(OBJECTS) - 2  # the Ingress and the PodMonitor are applied by themselves
    for one in uring:
        if one["kind"] in ("Deployment", "DaemonSet"):
            assert one["spec"]["template"]["spec"]["securityContext"]["seccompProfile"] == \
                {"type": "Localhost", "localhostProfile": "gimlet.json"}


def lay_out(folder, version, files):
    """What the kubelet does with a ConfigMap or Secret: files in a folder of their version, and two links."""
    data = folder / f"..{version}"
    data.mkdir(parents=True)
    for name, text in files.items():
        (data / name).write_text(text)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    (folder / "..next").symlink_to(data.name)
    (folder / "..next").rename(folder / "..data")


def test_keys_of_a_config_map_are_exchanged(tmp_path, program, start):
    keys = {}
    for name in ("old", "new"):
        keys[name] = artefacts.make_token(program, tmp_path / f"{name}.pem", "client", "--subject", "c", "--services", "s")
    public = {name: (tmp_path / f"{name}.pub").read_text() for name in keys}
    lay_out(tmp_path / "keys", "1", {"old.pub": public["old"]})
    server = start("server", program, "server", "--listen-address", "127.0.0.1", "--http-port", "0", "--metrics-port", "off",
                   "--token-public-key-dir", str(tmp_path / "keys"))
    url = f"http://127.0.0.1:{artefacts.wait_for(server, r'httpPort.:([1-9][0-9]*)')[1]}/services/s/"

    def answers():
        return [artefacts.fetch(url, keys[name])[0] for name in ("old", "new")]
    assert answers() == [503, 401]
    lay_out(tmp_path / "keys", "2", {"old.pub": public["old"], "new.pub": public["new"]})
    end = time.monotonic() + 15
    while answers() != [503, 503]:
        assert time.monotonic() < end, server.read_text()
        time.sleep(0.2)
