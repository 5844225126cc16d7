"""The signer of EC2 Instance Connect: a test CA of a root, an intermediate and the leaf that signs blocks of keys.

AWS's is RSA-2048 with RSA-PSS, SHA-256 and a salt of 32 bytes, its chain ends in a public root, and its name is
managed-ssh-signer.REGION.DOMAIN.
"""

import base64
import datetime
import functools

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DOMAIN = "amazonaws.com"
DAY = datetime.timedelta(days=1)


class Authority:
    """A root and its intermediate."""

    def __init__(self, name):
        self.root_key, self.key = private(), private()
        root_name, self.name = common(f"{name} root"), common(f"{name} intermediate")
        self.root = certificate(root_name, self.root_key, root_name, self.root_key, authority=1)
        self.certificate = certificate(self.name, self.key, root_name, self.root_key, authority=0)

    def leaf(self, name, key, since=-DAY, until=DAY):
        return certificate(common(name), key, self.name, self.key, names=[name], since=since, until=until)


class Signer:
    """A leaf's key, and the chain that IMDS shows for it."""

    def __init__(self, authority, name, **when):
        self.key = private()
        self.chain = pem(authority.leaf(name, self.key, **when)) + pem(authority.certificate)

    def sign(self, data, salt=32):
        signature = self.key.sign(data, padding.PSS(padding.MGF1(hashes.SHA256()), salt), hashes.SHA256())
        text = base64.b64encode(signature).decode()
        # As AWS's: the base64 spans lines.
        return "\n".join(text[at : at + 76] for at in range(0, len(text), 76))


@functools.cache
def authority():
    """The one that the test's roots name."""
    return Authority("ephemwork test")


@functools.cache
def stranger():
    """One that nobody trusts, under the same names."""
    return Authority("ephemwork test")


def name(region):
    return f"managed-ssh-signer.{region}.{DOMAIN}"


@functools.cache
def signer(region, kind):
    """AWS's signer of a region, or one with a fault: `name`, `root`, `expired`."""
    if kind == "root":
        return Signer(stranger(), name(region))
    if kind == "name":
        return Signer(authority(), f"other-signer.{region}.{DOMAIN}")
    if kind == "expired":
        return Signer(authority(), name(region), since=-3 * DAY, until=-2 * DAY)
    return Signer(authority(), name(region))


def private():
    return rsa.generate_private_key(65537, 2048)


def common(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(subject, key, issuer, issuer_key, authority=None, names=(), since=-DAY, until=DAY):
    now = datetime.datetime.now(datetime.timezone.utc)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + since)
        .not_valid_after(now + until)
        .add_extension(x509.BasicConstraints(authority is not None, authority), critical=True)
    )
    if names:
        built = built.add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), critical=False)
        built = built.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return built.sign(issuer_key, hashes.SHA256())


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
