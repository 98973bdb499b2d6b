#!/usr/bin/python3
"""Makes the certificates and keys of the TLS tests: certs.py DIRECTORY STAMP.

Every file is written afresh; validity is fixed to dates that a test can rely on. The chain is
root -> middle -> leaf unless a leaf's name says otherwise.
"""
import datetime
import ipaddress
import os
import subprocess
import sys
import tempfile

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

OUT = sys.argv[1]
PAST, START = datetime.datetime(2001, 2, 3), datetime.datetime(2020, 1, 1)
END, LATER = datetime.datetime(2045, 6, 7, 8, 9, 10), datetime.datetime(2051, 1, 1)
FORMATS = {"pkcs8": serialization.PrivateFormat.PKCS8,
           "traditional": serialization.PrivateFormat.TraditionalOpenSSL}


def write(name, *parts):
    with open(os.path.join(OUT, name), "wb") as file:
        file.write(b"".join(parts))


def pem(cert):
    return cert.public_bytes(serialization.Encoding.PEM)


def key_pem(key, form="pkcs8", password=None):
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, FORMATS[form], encryption)


def p256():
    return ec.generate_private_key(ec.SECP256R1())


def name_of(common, organisation="Example"):
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
                      x509.NameAttribute(NameOID.COMMON_NAME, common)])


def make(subject, key, issuer=None, names=None, start=START, end=END, ca=False, usage=None, sans=True, serial=None):
    """One certificate; `issuer` is (certificate, key) or None for itself."""
    issuer_name, issuer_key = (issuer[0].subject, issuer[1]) if issuer else (subject, key)
    builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer_name)
               .public_key(key.public_key()).serial_number(serial or x509.random_serial_number())
               .not_valid_before(start).not_valid_after(end))
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if ca:
        builder = builder.add_extension(x509.KeyUsage(
            digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False), critical=True)
    if names is not None and sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    algorithm = None if isinstance(issuer_key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(issuer_key, algorithm)


AUTHORITY = """[ca]
default_ca = this
[this]
database = index
default_md = sha256
unique_subject = no
[delta]
2.5.29.27 = critical,ASN1:INTEGER:1
[plain]
1.2.3.4 = ASN1:UTF8String:nothing
"""


def revocation_list(issuer, revoked=(), end=END, extensions=None):
    """A list as OpenSSL's CA makes it; `revoked` are certificates or serial numbers."""
    with tempfile.TemporaryDirectory() as folder:
        def put(name, data):
            with open(os.path.join(folder, name), "wb") as file:
                file.write(data)
        serials = [one if isinstance(one, int) else one.serial_number for one in revoked]
        digits = [f"{serial:X}".zfill((len(f"{serial:X}") + 1) // 2 * 2) for serial in serials]
        put("index", "".join(f"R\t400101000000Z\t200101000000Z\t{d}\tunknown\t/CN=x\n" for d in digits).encode())
        put("config", AUTHORITY.encode())
        put("cert", pem(issuer[0]))
        put("key", key_pem(issuer[1]))
        start = min(START, end - datetime.timedelta(days=1))
        command = ["openssl", "ca", "-gencrl", "-config", "config", "-cert", "cert", "-keyfile", "key", "-out", "list",
                   "-crl_lastupdate", start.strftime("%Y%m%d%H%M%SZ"), "-crl_nextupdate", end.strftime("%Y%m%d%H%M%SZ")]
        if extensions:
            command += ["-crlexts", extensions]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        with open(os.path.join(folder, "list"), "rb") as file:
            return file.read()


def revocations(root, middle, other, by_name):
    """Lists for test_crl.c, and chains that they are about."""
    leaf, names = by_name["p256"], by_name["names"]
    key = by_name["p256 key"]
    odd = make(name_of("leaf"), key, middle, names, serial=0xFF00112233445566778899AABBCCDDEE)
    write("odd-serial.crt", pem(odd), pem(middle[0]))
    false_key = p256()
    false = (make(middle[0].subject, false_key, ca=True), false_key)
    write("p256-false.crt", pem(leaf), pem(middle[0]), pem(false[0]))
    low_key = p256()
    low = (make(name_of("Low"), low_key, middle, ca=True), low_key)
    write("deep.crt", pem(make(name_of("deep"), key, low, names)), pem(low[0]), pem(middle[0]))
    past = PAST + datetime.timedelta(days=30)
    write("leaf.crl", revocation_list(middle, [leaf]))
    write("middle.crl", b"Words before.\n", revocation_list(root, [middle[0]]))
    write("low.crl", revocation_list(middle, [low[0]]))
    write("client.crl", revocation_list(root, [by_name["client"]]))
    write("nobody.crl", revocation_list(root, extensions="plain"), revocation_list(middle, [leaf.serial_number + 1]))
    write("many.crl", revocation_list(root), revocation_list(other),
          revocation_list(middle, [odd, 7, 255, leaf] + [leaf.serial_number - n for n in range(1, 2000)]))
    write("two.crl", revocation_list(middle), revocation_list(middle, [leaf]))
    write("expired.crl", revocation_list(middle, [leaf], end=past))
    write("expired-nobody.crl", revocation_list(middle, end=past), revocation_list(root))
    write("stranger.crl", revocation_list(other, [leaf, middle[0]]))
    write("forged.crl", revocation_list(false))
    forged_root_key = p256()
    write("forged-root.crl", revocation_list((make(root[0].subject, forged_root_key, ca=True), forged_root_key)))
    write("delta.crl", revocation_list(root), revocation_list(middle, extensions="delta"))
    write("damaged.crl", b"-----BEGIN X509 CRL-----\nMAAA\n-----END X509 CRL-----\n")
    binary = x509.load_pem_x509_crl(revocation_list(root))
    write("binary.crl", binary.public_bytes(serialization.Encoding.DER))


def dns(*names):
    return [x509.DNSName(name) for name in names]


def main():
    os.makedirs(OUT, exist_ok=True)
    root_key, middle_key, other_key = p256(), p256(), p256()
    root = make(name_of("Root"), root_key, ca=True)
    middle = make(name_of("Middle"), middle_key, (root, root_key), ca=True)
    other = make(name_of("Other root"), other_key, ca=True)
    by_middle, by_root, by_other = (middle, middle_key), (root, root_key), (other, other_key)
    write("root.crt", pem(root))
    write("other.crt", pem(other))
    write("roots.crt", b"Two roots, with words between.\n", pem(other), b"\n# more\n", pem(root))

    addresses = [x509.IPAddress(ipaddress.ip_address(a)) for a in ("127.0.0.1", "::1")]
    names = dns("example.test", "*.wild.test", "f*.part.test", "*.top") + addresses
    names.append(x509.RFC822Name("mail@mailed.test"))
    keys = {"p256": p256(), "p384": ec.generate_private_key(ec.SECP384R1()),
            "rsa": rsa.generate_private_key(65537, 2048), "rsa3072": rsa.generate_private_key(65537, 3072)}
    leaves = {"names": names, "p256 key": keys["p256"]}
    for kind, key in keys.items():
        leaf = leaves[kind] = make(name_of("leaf-" + kind), key, by_middle, names)
        write(kind + ".crt", pem(leaf), pem(middle))
        write(kind + ".key", key_pem(key))
        write(kind + "-traditional.key", key_pem(key, "traditional"))
    key = keys["p256"]
    write("encrypted.key", key_pem(key, password=b"secret"))
    write("encrypted-traditional.key", key_pem(key, "traditional", b"secret"))
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    write("parameters.key", parameters, key_pem(key, "traditional"))
    whole = make(name_of("whole"), key, by_middle, names)
    write("combined.crt", key_pem(key), pem(whole), pem(middle))

    def leaf(file, issuer, *chain, subject=None, **more):
        certificate = make(subject or name_of("leaf"), key, issuer, more.pop("names", names), **more)
        write(file + ".crt", pem(certificate), *[pem(c) for c in chain])

    leaf("expired", by_middle, middle, start=PAST, end=PAST + datetime.timedelta(days=30))
    leaf("not-yet", by_middle, middle, start=END, end=LATER)
    leaf("self-signed", None, subject=name_of("self"))
    leaf("untrusted", by_other, other)
    leaf("no-middle", by_middle)
    leaf("superfluous", by_middle, middle, other)
    leaf("other-name", by_middle, middle, names=dns("elsewhere.test"), subject=name_of("example.test"))
    leaf("only-common-name", by_middle, middle, sans=False, subject=name_of("example.test"))
    leaf("for-clients", by_middle, middle, usage=ExtendedKeyUsageOID.CLIENT_AUTH)
    old_key = p256()
    old = make(name_of("Old middle"), old_key, by_root, start=PAST, end=PAST + datetime.timedelta(days=9), ca=True)
    leaf("expired-middle", (old, old_key), old)
    no_ca_key = p256()
    no_ca = make(name_of("No CA"), no_ca_key, by_root, names)
    leaf("middle-is-no-ca", (no_ca, no_ca_key), no_ca)
    weak = rsa.generate_private_key(65537, 1024)
    write("weak.crt", pem(make(name_of("weak"), weak, by_middle, names)), pem(middle))
    write("weak.key", key_pem(weak))
    edwards = ed25519.Ed25519PrivateKey.generate()
    write("edwards.crt", pem(make(name_of("edwards"), edwards, by_middle, names)), pem(middle))
    write("edwards.key", key_pem(edwards))

    def client(file, subject, issuer, **more):
        client_key = p256()
        leaves[file] = make(subject, client_key, issuer, **more)
        write(file + ".crt", pem(leaves[file]))
        write(file + ".key", key_pem(client_key))

    client("client", name_of("agent-1"), by_root)
    client("client-expired", name_of("agent-2"), by_root, start=PAST, end=PAST + datetime.timedelta(days=1))
    client("client-untrusted", name_of("agent-3"), by_other)
    client("client-server-usage", name_of("agent-4"), by_root, usage=ExtendedKeyUsageOID.SERVER_AUTH)
    odd = x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, "NL"),
                     x509.NameAttribute(NameOID.DOMAIN_COMPONENT, "example"),
                     x509.NameAttribute(NameOID.EMAIL_ADDRESS, "a@b.test"),
                     x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, " #a,b+c\"d;<e>\\ "),
                     x509.NameAttribute(NameOID.COMMON_NAME, "J\u00f6rg\r\nX-Evil: 1")])
    client("client-odd", odd, by_root)
    client("client-long", x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "x" * 64)] * 20
                                    + [x509.NameAttribute(NameOID.COMMON_NAME, "long")]), by_root)

    for folder, files in {"pairs": {"a": dns("a.test", "shared.test"), "b": dns("b.test", "*.b.test", "shared.test"),
                                    "c": dns("*.com", "x.b.test")}, "no-pairs": {}}.items():
        os.makedirs(os.path.join(OUT, folder), exist_ok=True)
        for file, its_names in files.items():
            pair_key = p256()
            suffix = ".pem" if file == "b" else ".crt"
            certificate = make(name_of("pair-" + file), pair_key, by_middle, its_names,
                               end=END + datetime.timedelta(days=ord(file)))
            write(os.path.join(folder, file + suffix), pem(certificate), pem(middle))
            write(os.path.join(folder, file + ".key"), key_pem(pair_key))
        write(os.path.join(folder, "ca.crt"), pem(root))
        write(os.path.join(folder, ".hidden.crt"), b"rubbish")
    revocations(by_root, by_middle, by_other, leaves)
    write("empty.crt")
    write("text.crt", b"no PEM at all\n")
    write("damaged.crt", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    write("binary.crt", root.public_bytes(serialization.Encoding.DER))
    with open(sys.argv[2], "w", encoding="ascii") as stamp:
        stamp.write("made\n")


main()
