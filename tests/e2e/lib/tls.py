"""TLS for tests: a certificate authority of our own, a socket that shows every byte of TLS, records in the middle.

Certificates are made once per run, in a folder that goes with it. world() is what everybody trusts in a run with
GIMLET_E2E_TLS; tests of trust itself make more of their own with Authority.
"""
import atexit
import datetime
import functools
import ipaddress
import pathlib
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import typing

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lib import settings
from lib.settings import PATIENCE

DAY = datetime.timedelta(days=1)
LOCAL = ("localhost", "127.0.0.1", "::1")
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
# What a server of today offers: AEAD with forward secrecy.
SUITES = {
    "1.2": ["ECDHE-%s-AES128-GCM-SHA256", "ECDHE-%s-AES256-GCM-SHA384", "ECDHE-%s-CHACHA20-POLY1305"],
    "1.3": ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"],
}


class Ragged(ConnectionResetError):
    """The connection ended without close_notify: what came before may have been cut."""


# --- certificates ---------------------------------------------------------------------------------

class Pair(typing.NamedTuple):
    """A certificate (with its intermediates behind it) and its key, both PEM files."""
    certificate: pathlib.Path
    key: pathlib.Path

    @property
    def flags(self) -> "list[str]":
        return ["--tls-cert", str(self.certificate), "--tls-key", str(self.key)]

    def install(self, certificate: pathlib.Path, key: pathlib.Path):
        """Puts both in the place of others as an operator does: written beside, then renamed."""
        for source, target in ((self.key, key), (self.certificate, certificate)):
            beside = target.with_name(target.name + ".new")
            shutil.copyfile(source, beside)
            beside.replace(target)

    @property
    def serial(self) -> int:
        return x509.load_pem_x509_certificate(self.certificate.read_bytes()).serial_number


def _subject(name: str, organisation: "str | None" = None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if organisation:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation))
    return x509.Name(attributes)


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _new_key(kind: str):
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key({"ec": ec.SECP256R1, "p384": ec.SECP384R1}[kind]())


def _pem(key) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


class Authority:
    """Signs certificates. `parent`: it is an intermediate of that one."""

    _count = 0

    def __init__(self, directory: pathlib.Path, name: str = "Gimlet test root", parent: "Authority | None" = None):
        self.directory, self.name, self.parent = directory, name, parent
        self.key = _new_key("ec")
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        self.x509 = self._sign(_subject(name), self.key, parent or self, (-DAY, 30 * DAY),
                               [(x509.BasicConstraints(True, None), True), (usage, True)])
        self.certificate = self._file("ca", self.x509.public_bytes(serialization.Encoding.PEM))

    def _file(self, what: str, data: bytes) -> pathlib.Path:
        Authority._count += 1
        path = self.directory / f"{Authority._count:03}-{what}.pem"
        path.write_bytes(data)
        return path

    @staticmethod
    def _sign(subject, key, signer: "Authority", validity, extensions):
        now = datetime.datetime.utcnow()
        issuer = signer.x509.subject if hasattr(signer, "x509") else subject
        builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
                   .serial_number(x509.random_serial_number())
                   .not_valid_before(now + validity[0]).not_valid_after(now + validity[1]))
        extensions = [*extensions, (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
                      (x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), False)]
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(signer.key, hashes.SHA256())

    def issue(self, *names: str, kind: str = "ec", validity=(-DAY, 30 * DAY), common_name: "str | None" = None,
              organisation: "str | None" = None, client: bool = False, chain: bool = True) -> Pair:
        """For those names and addresses; `chain`: with the intermediates that lead to it."""
        key = _new_key(kind)
        return self._pair(key, _subject(common_name or (names or ("nameless",))[0], organisation), names, self, validity,
                          client, chain)

    def renumbered(self, serial: int) -> pathlib.Path:
        """The same root with another serial number, zero among them, which a builder of certificates refuses."""
        path = self._file("renumbered", b"")
        subprocess.run(["openssl", "x509", "-in", self.certificate, "-signkey", self._file("key", _pem(self.key)), "-set_serial",
                        str(serial), "-days", "30", "-out", path], check=True, stderr=subprocess.DEVNULL)
        return path

    def self_signed(self, *names: str, kind: str = "ec") -> Pair:
        """Signed by its own key: nobody vouches for it."""
        lone = Authority.__new__(Authority)
        lone.directory, lone.parent, lone.key = self.directory, None, _new_key(kind)
        return lone._pair(lone.key, _subject(names[0]), names, lone, (-DAY, 30 * DAY), False, False)

    def _pair(self, key, subject, names, signer, validity, client, chain) -> Pair:
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        extensions = [(x509.BasicConstraints(False, None), True), (x509.ExtendedKeyUsage([usage]), False)]
        if names:
            extensions.append((x509.SubjectAlternativeName([_alternative(n) for n in names]), False))
        leaf = self._sign(subject, key, signer, validity, extensions)
        data, above = leaf.public_bytes(serialization.Encoding.PEM), signer
        while chain and above.parent:
            data += above.x509.public_bytes(serialization.Encoding.PEM)
            above = above.parent
        return Pair(self._file("cert", data), self._file("key", _pem(key)))


class World:
    """The certificates of a run: one root, behind an intermediate a server's and a backend's, a client's."""

    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="gimlet-e2e-tls-"))
        atexit.register(shutil.rmtree, self.directory, ignore_errors=True)
        self.root = Authority(self.directory)
        self.middle = Authority(self.directory, "Gimlet test intermediate", self.root)
        self.server = self.middle.issue(*LOCAL, "gimlet.example", common_name="gimlet server")
        self.backend = self.middle.issue(*LOCAL, "backend.example", common_name="gimlet backend")

    @functools.lru_cache(maxsize=None)
    def rsa(self) -> Pair:
        return self.middle.issue(*LOCAL, kind="rsa", common_name="gimlet server with RSA")

    @functools.lru_cache(maxsize=None)
    def client_root(self) -> Authority:
        return Authority(self.directory, "Gimlet test clients")

    @functools.lru_cache(maxsize=None)
    def client(self, name: str = "alice") -> Pair:
        return self.client_root().issue(common_name=name, organisation="Gimlet", client=True)


@functools.lru_cache(maxsize=None)
def world() -> World:
    return World()


# --- contexts of Python's own TLS -----------------------------------------------------------------

def _bound(context: ssl.SSLContext, version: "str | None", suite: "str | None") -> ssl.SSLContext:
    if version:
        context.minimum_version = context.maximum_version = VERSIONS[version]
    if suite:
        context.set_ciphers(suite)
    return context


def client_context(ca: "pathlib.Path | None" = None, *, version=None, suite=None, pair: "Pair | None" = None,
                   alpn=()) -> ssl.SSLContext:
    """Checks the server against `ca` (default: the run's root). `suite`: of TLS 1.2 only, Python cannot choose others."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca or world().root.certificate)
    if pair:
        context.load_cert_chain(*pair)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return _bound(context, version, suite)


def server_context(pair: "Pair | None" = None, *, version=None, suite=None, client_ca=None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*(pair or world().backend))
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    return _bound(context, version, suite)


@functools.lru_cache(maxsize=None)
def run_client() -> "ssl.SSLContext | None":
    """What clients of this run speak; None: plain."""
    return client_context(version=settings.TLS) if settings.TLS else None


@functools.lru_cache(maxsize=None)
def run_backend() -> "ssl.SSLContext | None":
    return server_context(version=settings.TLS) if settings.TLS else None


# --- a client's socket ----------------------------------------------------------------------------

class TlsSocket:
    """TLS over a connected socket, with the part of a socket's interface that lib/wire.py uses.

    Not ssl.SSLSocket: two threads may send and receive at once, records are cut to `record` bytes of payload and to
    `segment` bytes per send(), and an end without close_notify is Ragged, never a clean end.
    """

    def __init__(self, raw: socket.socket, context: ssl.SSLContext, server_name: "str | None" = "127.0.0.1", *,
                 record: int = 16384, segment: int = 0, session=None):
        self.raw, self.record, self.segment = raw, record, segment
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=server_name, session=session)
        self._state = threading.Lock()  # of the TLS object and its buffers
        self._wire = threading.RLock()  # the order of bytes on the wire
        self._unsent = b""
        self._handshake()

    def __getattr__(self, name):
        return getattr(self.raw, name)

    def _handshake(self):
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._receive()
                continue
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                raise Ragged("the connection ended in the handshake") from None
            except ssl.SSLError:
                self._flush()  # the alert
                raise
            self._flush()
            return

    def _receive(self):
        data = self.raw.recv(1 << 18)
        with self._state:
            if data:
                self.incoming.write(data)
            else:
                self.incoming.write_eof()

    def _flush(self):
        """Sends what is there; a thread that finds another one at it leaves its bytes to that one."""
        while self._wire.acquire(blocking=False):
            try:
                with self._state:
                    self._unsent += self.outgoing.read()
                while self._unsent:
                    step = self.segment or len(self._unsent)
                    sent = self.raw.send(self._unsent[:step])
                    self._unsent = self._unsent[sent:]
            finally:
                self._wire.release()
            with self._state:
                if not self.outgoing.pending:
                    return

    def sendall(self, data: bytes):
        with self._wire:
            view = memoryview(data)
            for at in range(0, len(view), self.record):
                with self._state:
                    self.tls.write(view[at:at + self.record])
                self._flush()

    def send(self, data: bytes) -> int:
        """Without blocking as far as the socket itself does not: BlockingIOError while earlier bytes still wait."""
        with self._wire:
            self._flush()
            with self._state:
                count = self.tls.write(data[:self.record])
            try:
                self._flush()
            except BlockingIOError:
                pass  # they are the next one's
            return count

    def recv(self, size: int) -> bytes:
        out = bytearray()
        while len(out) < size:
            try:
                with self._state:
                    piece = self.tls.read(size - len(out))
            except ssl.SSLWantReadError:
                if out:
                    break
                self._flush()  # an answer to a KeyUpdate, say
                self._receive()
                continue
            except ssl.SSLZeroReturnError:
                break
            except ssl.SSLEOFError:
                if out:
                    break
                raise Ragged("the connection ended without close_notify") from None
            if not piece:
                break
            out += piece
        return bytes(out)

    def notify(self):
        """Sends close_notify; what the peer still sends can be read."""
        with self._wire:
            try:
                with self._state:
                    self.tls.unwrap()
            except ssl.SSLError:
                pass  # it wants the peer's answer
            self._flush()

    def shutdown(self, how: int):
        if how != socket.SHUT_RD:
            self.notify()
        self.raw.shutdown(how)

    def close(self):
        """With close_notify, unless the socket takes no more."""
        try:
            self.raw.setblocking(False)
            self.notify()
        except OSError:
            pass
        self.raw.close()


# --- records in the middle ------------------------------------------------------------------------

def read_exactly(raw: socket.socket, count: int) -> bytes:
    """Short at the end of the stream."""
    data = b""
    while len(data) < count:
        piece = raw.recv(count - len(data))
        if not piece:
            break
        data += piece
    return data


def read_record(raw: socket.socket) -> bytes:
    """One TLS record with its header; empty at the end of the stream."""
    header = read_exactly(raw, 5)
    if len(header) < 5:
        return header
    return header + read_exactly(raw, int.from_bytes(header[3:5], "big"))


class Last(bytes):
    """Behind these bytes a Meddler ends the connection."""


class Meddler:
    """Stands between a client and `target` and passes TLS records on. edit(way, number, record), with way 0 towards
    the target and records of each way numbered from 0, gives the bytes to pass on instead. `records` holds what has
    come, as (way, record)."""

    def __init__(self, target: int, edit=None):
        self.target, self.edit = target, edit
        self.records: "list[tuple[int, bytes]]" = []
        self._sockets: "list[socket.socket]" = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self.target), PATIENCE)
            except OSError:
                return
            far.settimeout(None)
            for raw in (near, far):
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets.append(raw)
            for way, (a, b) in enumerate(((near, far), (far, near))):
                threading.Thread(target=self._pump, args=(way, a, b), daemon=True).start()

    def _pump(self, way: int, a: socket.socket, b: socket.socket):
        number = 0
        try:
            while record := read_record(a):
                self.records.append((way, record))
                record = self.edit(way, number, record) if self.edit else record
                number += 1
                b.sendall(record)
                if isinstance(record, Last):
                    self._end(a, b)
                    return
            b.shutdown(socket.SHUT_WR)
        except OSError:
            self._end(a, b)

    @staticmethod
    def _end(*sockets):
        for raw in sockets:
            try:
                raw.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        if self._listener.fileno() < 0:
            return  # it has been closed
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept(): a close alone leaves it there
        self._acceptor.join(PATIENCE)
        self._listener.close()
        for raw in self._sockets:
            self._end(raw)
            raw.close()


# --- OpenSSL's command line -----------------------------------------------------------------------


def s_client(port: int, *flags, ca: "pathlib.Path | None" = None, name: str = "localhost") -> "list[str]":
    """The command line of an `openssl s_client` that checks whom it talks to."""
    return ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", str(ca or world().root.certificate),
            "-verify_return_error", "-verify_hostname", name, "-servername", name, *map(str, flags)]
