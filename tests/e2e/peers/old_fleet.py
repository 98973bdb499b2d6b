"""A fleet of Gimlet 0.0.6 at work: an agent that meshes, and a server that takes agents and clients on one port.

Behaviour after spec §2.3, §3 and §5.2, as far as a fleet's life needs it: requests with a counted body or none, agents in
turn, no retry anywhere. What a request may not lose when a member leaves is what 0.0.6 itself does not lose."""
import base64
import itertools
import json
import random
import socket
import threading
import time
import uuid

from lib.settings import PATIENCE, wait_until
from old_peer import CANCEL, DATA, END, START, Closed, OldAgent, OldLink, Pipe, frame

_lives = itertools.count(1)
LOST = object()


def read_head(sock) -> "tuple[bytes, bytes]":
    """(head with its empty line, what has come behind it); (b"", b""): the peer has gone before it was whole."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            return b"", b""
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest


class OldMember(threading.Thread):
    """An agent process: one link for each server id that it meets behind the one address."""

    def __init__(self, port: int, token: str, backend_port: int):
        super().__init__(daemon=True)
        self.port, self.token, self.backend_port = port, token, backend_port
        self.pipes, self.leaving = {}, threading.Event()
        self.start()

    def run(self):
        while not self.leaving.wait(random.uniform(0.05, 0.3)):  # theirs is every 5 s
            self.pipes = {server: pipe for server, pipe in self.pipes.items() if pipe.is_alive()}
            try:
                agent = OldAgent(self.port, self.token, ready=False, timeout=PATIENCE)
            except (OSError, Closed, AssertionError):
                continue  # nobody there, or no server of ours behind the balancer
            if "error" in agent.hello or agent.hello["server_id"] in self.pipes:
                agent.close()
                continue
            agent.text({"type": "ready", "state": "ready"})
            self.pipes[agent.hello["server_id"]] = Pipe(agent, self.backend_port)

    def drain(self):
        """SIGTERM, and its end."""
        self.leaving.set()
        self.join(PATIENCE)
        for pipe in self.pipes.values():
            if pipe.is_alive():
                pipe.drain()

    def stop(self):
        self.leaving.set()
        self.join(PATIENCE)
        for pipe in self.pipes.values():
            pipe.stop()


class Member:
    """A link of an agent as the gateway holds it."""

    def __init__(self, link: OldLink, subject: str):
        self.link, self.subject = link, subject
        self.ready = False
        self.requests = {}  # id: (event, list of frames)


class OldGateway:
    """A server process. `port`: the one that its predecessor had."""

    def __init__(self, port: int = 0):
        self.server_id = f"old-{next(_lives)}"
        self.lock = threading.Lock()
        self.members, self.turn, self.serving = {}, itertools.count(1), 0
        self.listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def agents(self) -> int:
        with self.lock:
            return sum(member.ready for member in self.members.values())

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connection, args=(sock,), daemon=True).start()

    def _connection(self, sock):
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            head, rest = read_head(sock)
            if head.split(b" ")[1:2] == [b"/agent"]:
                self._join(sock, head)
            elif head:
                self._serve(sock, head, rest)
        except OSError:
            pass  # the peer has gone
        finally:
            sock.close()

    # --- Agents ---

    def _join(self, sock, head):
        link = OldLink(sock, head)
        claims = link.field("Authorization").split(".")[1]
        subject = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["sub"]
        member = Member(link, subject)
        with self.lock:
            holder = self.members.setdefault(subject, member)
        if holder is not member:
            link.refuse_duplicate(self.server_id, subject)
            return
        try:
            link.upgrade()
            link.text({"server_id": self.server_id, "agent_id": subject, "service_name": "svc"})
            while True:
                self._told(member, *link.receive())
        except (Closed, OSError):
            pass
        with self.lock:
            del self.members[subject]
            member.ready = False
            waiting = [entry for entry in member.requests.values() if not entry[0].is_set()]
        for arrived, frames in waiting:
            frames.append(LOST)
            arrived.set()

    def _told(self, member, kind, data):
        if kind == 1:
            said = json.loads(data).get("type")
            with self.lock:
                member.ready = said == "ready" if said in ("ready", "draining") else member.ready
            return
        size = int.from_bytes(data[1:5], "big")
        entry = member.requests.get(data[5:5 + size].decode())
        if entry:
            entry[1].append((data[0], data[5 + size:]))
            if data[0] == END:
                entry[0].set()

    # --- Clients ---

    def _serve(self, sock, head, rest):
        lines = head.decode("latin-1").split("\r\n")
        method, path, _ = lines[0].split(" ")
        fields = [line for line in lines[1:-2] if not line.lower().startswith("connection:")]
        length = next((int(line.partition(":")[2]) for line in fields if line.lower().startswith("content-length:")), 0)
        body = rest
        while len(body) < length:
            body += sock.recv(65536)
        with self.lock:
            self.serving += 1
        try:
            text = "\r\n".join([f"{method} {path.removeprefix('/services/svc')} HTTP/1.1", *sorted(fields), "", ""])
            status, kept, answer = self._ask(text.encode("latin-1"), body)
            lines = [f"HTTP/1.1 {status}", *kept, f"Content-Length: {len(answer)}", "Connection: close", "", ""]
            sock.sendall("\r\n".join(lines).encode("latin-1") + answer)
        finally:
            with self.lock:
                self.serving -= 1

    def _begin(self, ident, entry, head, body):
        """The request is the next agent's; None: there is none. One that drains has its last before it is heard."""
        with self.lock:
            ready = sorted((member for member in self.members.values() if member.ready), key=lambda one: one.subject)
            if not ready:
                return None
            member = ready[next(self.turn) % len(ready)]
            member.requests[ident] = entry
            member.link.message(frame(START, ident, head))
        if body:
            member.link.message(frame(DATA, ident, body))
        member.link.message(frame(END, ident))
        return member

    def _ask(self, head, body):
        """(status and reason, fields, body) of an answer."""
        ident, entry = str(uuid.uuid4()), (threading.Event(), [])
        member = self._begin(ident, entry, head, body)
        if not member:
            return "503 Service Unavailable", [], b"Gimlet Infrastructure Error\n\nError Code: AGENT_UNAVAILABLE\n"
        arrived, frames = entry
        if not arrived.wait(0.8 * PATIENCE):  # before its client gives up
            print(f"{self.server_id} waits in vain for the end of {ident}, a request of {member.subject}: {frames}")
            return "504 Gateway Timeout", [], b"Gimlet Infrastructure Error\n\nError Code: TIMEOUT\n"
        del member.requests[ident]
        if frames[-1] is LOST or frames[-1][1] or frames[0][0] != START:
            print(f"{self.server_id} has lost {ident}, a request of {member.subject}: {frames}")
            return "502 Bad Gateway", [], b"Gimlet Infrastructure Error\n\nError Code: AGENT_DISCONNECT\n"
        try:
            member.link.message(frame(CANCEL, ident))
        except OSError:
            pass  # it has left with its last answer
        first, *fields = frames[0][1].decode("latin-1").split("\r\n")[:-2]
        kept = [line for line in fields if not line.lower().startswith(("content-length:", "connection:"))]
        return first.partition(" ")[2], kept, b"".join(data for kind, data in frames if kind == DATA)

    # --- Its end ---

    def drain(self):
        """SIGTERM: nobody new, what is under way ends, then the agents are left without a word."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        time.sleep(0.1)  # what has been accepted has become a request
        wait_until(lambda: self.serving == 0, "all requests have been answered")
        with self.lock:
            links = [member.link for member in self.members.values()]
        for link in links:
            try:
                link.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has left by itself
        wait_until(lambda: not self.members, "the agents have been left")
