"""compose.yaml without Docker: every service as a process in a network namespace of its own, on one
bridge, under its name. What an image would bring is taken from Debian; paths that are mounted are
replaced by those they come from. Needs root and namespaces of its own (run.sh).
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import yaml

from lib import artefacts

NETWORK = "10.77.0"
START = 'ip link set lo up; read go; ip addr add "$0/24" dev eth0; ip link set eth0 up; exec "$@"'


def why_not():
    """Why it cannot run here, or None."""
    if not os.environ.get("GIMLET_DEPLOY_ISOLATED"):
        return "no namespaces here: run by tests/deploy/run.sh, as root"
    if subprocess.run(["ip", "link", "add", "try0", "type", "bridge"], stderr=subprocess.DEVNULL).returncode != 0:
        return "this kernel has no bridges"
    subprocess.run(["ip", "link", "del", "try0"], check=True)
    return None


class Fleet:
    def __init__(self, folder, program):
        self.folder = pathlib.Path(folder)
        self.program = program
        self.deploy = self.folder / "deploy"
        shutil.copytree(artefacts.DEPLOY, self.deploy, ignore=shutil.ignore_patterns("secrets"))
        subprocess.run([self.deploy / "compose/keys.sh"], check=True, env={**os.environ, "GIMLET_BIN": program},
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.token = (self.deploy / "compose/secrets/client.token").read_text()
        self.services = yaml.safe_load((self.deploy / "compose/compose.yaml").read_text())["services"]
        self.addresses = {name: f"{NETWORK}.{10 + n}" for n, name in enumerate(self.services)}
        self.processes = {}
        self.left_out = []

    # --- what a service becomes ---

    def source_of(self, service, text):
        """A word with the paths of a container replaced by those that are mounted there."""
        for volume in service.get("volumes", []):
            source, target = volume.split(":")[:2]
            text = re.sub(rf"(?<![\w/]){re.escape(target)}(?![\w.-])", str((self.deploy / "compose" / source).resolve()), text)
        return text

    def command(self, name, service):
        words = [self.source_of(service, word) for word in service.get("command", [])]
        image = service["image"].split(":")[0]
        if image == "gimlet":
            return [self.program, *words]
        if image == "python":
            return [sys.executable, *words[1:]]
        if image == "nginx" and words:
            return self.nginx(service, words)
        if image == "nginx":
            return [sys.executable, "-m", "http.server", "80", "--directory", str(self.folder)]
        if image == "prom/prometheus" and shutil.which("prometheus"):
            path = self.deploy / "prometheus/prometheus.yml"
            path.write_text(re.sub(r"_interval: \d+s", "_interval: 1s", path.read_text()))
            return ["prometheus", *words, f"--storage.tsdb.path={self.folder}/prometheus"]
        self.left_out.append(name)
        return None

    def nginx(self, service, words):
        """Debian's nginx cannot look names up again in an upstream, nor need it: nothing moves here."""
        target = next(volume.split(":")[1] for volume in service["volumes"])
        text = pathlib.Path(self.source_of(service, target)).read_text()
        text = re.sub(r"^ *resolver .*\n", "", text, flags=re.M).replace(" resolve;", ";")
        text = text.replace("/tmp/nginx.pid", f"{self.folder}/nginx.pid").replace("/dev/stderr", "stderr")
        path = self.folder / "nginx.conf"
        path.write_text(text)
        return [shutil.which("nginx", path="/usr/sbin:/usr/bin"), "-e", "stderr", "-c", str(path), *words[1:]]

    # --- the network ---

    def join(self, name, pid):
        port = f"v{len(self.processes)}"
        own = os.readlink("/proc/self/ns/net")
        end = time.monotonic() + 10
        while os.readlink(f"/proc/{pid}/ns/net") == own:
            assert time.monotonic() < end, f"{name} has no network of its own"
            time.sleep(0.01)
        for words in (["add", port, "type", "veth", "peer", "name", "eth0", "netns", str(pid)],
                      ["set", port, "master", "fleet", "up"]):
            subprocess.run(["ip", "link", *words], check=True)

    def write_hosts(self):
        lines = ["127.0.0.1 localhost"]
        for name, service in self.services.items():
            networks = service.get("networks") or {}
            aliases = networks.get("default", {}).get("aliases", []) if isinstance(networks, dict) else []
            lines.append(" ".join([self.addresses[name], name, *aliases]))
        hosts = self.folder / "hosts"
        hosts.write_text("\n".join(lines) + "\n")
        subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)

    def start(self):
        self.write_hosts()
        subprocess.run(["ip", "link", "add", "fleet", "type", "bridge"], check=True)
        subprocess.run(["ip", "addr", "add", f"{NETWORK}.1/24", "dev", "fleet"], check=True)
        subprocess.run(["ip", "link", "set", "fleet", "up"], check=True)
        for name, service in self.services.items():
            words = self.command(name, service)
            if words:
                self.start_one(name, service, words)

    def start_one(self, name, service, words):
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        for key, value in service.get("environment", {}).items():
            environment[key] = self.source_of(service, str(value))
        with open(self.folder / f"{name}.log", "w", encoding="utf-8") as log:
            process = subprocess.Popen(["unshare", "-n", "sh", "-c", START, self.addresses[name], *map(str, words)],
                                       stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, env=environment,
                                       cwd=self.folder)
        self.processes[name] = process
        self.join(name, process.pid)
        process.stdin.write(b"go\n")
        process.stdin.close()

    def log(self, name):
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def stop(self):
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)
        for words in (["ip", "link", "del", "fleet"], ["umount", "/etc/hosts"]):
            subprocess.run(words, check=False)
