"""An nginx of the test's own: one process pair, no root, everything in the test's directory."""
import os
import pathlib
import shutil
import socket
import subprocess

import pytest

from lib.settings import PATIENCE, free_port, wait_until

_FRAME = """
{user}
worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/nginx-error.log warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    keepalive_requests 1000000;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    client_max_body_size 0;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {directory}/www;
        {body}
    }}
}}
"""


class Nginx:
    def __init__(self, directory: pathlib.Path, body: str = ""):
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        if not pathlib.Path(program).exists():
            pytest.skip("nginx is not installed")
        self.port = free_port()
        self.directory = directory / f"nginx-{self.port}"
        self.www = self.directory / "www"
        self.www.mkdir(parents=True)
        self.directory.chmod(0o755)
        configuration = self.directory / "nginx.conf"
        configuration.write_text(_FRAME.format(directory=self.directory, port=self.port, body=body,
                                               user="user root;" if os.geteuid() == 0 else ""))
        self.log = open(self.directory / "output", "wb")
        self.popen = subprocess.Popen([program, "-c", configuration, "-p", self.directory, "-e",
                                       self.directory / "nginx-error.log"], stdout=self.log, stderr=self.log)
        wait_until(self._answers, "nginx listens")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _answers(self) -> bool:
        assert self.popen.poll() is None, (self.directory / "output").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def close(self):
        self.popen.terminate()
        try:
            self.popen.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        self.log.close()
