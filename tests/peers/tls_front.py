"""TLS in front of a server on loopback, with a certificate for localhost by an authority of its own, which no system trusts.

usage: tls_front.py PORT AUTHORITY.pem
Listens on a free port, writes the authority's certificate to the file, prints READY=<port>, and passes bytes on to PORT.
"""

import datetime
import socket
import ssl
import sys
import tempfile
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certificate(name, key, issuer, signer, authority):
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if not authority:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    return builder.sign(signer, hashes.SHA256())


def pem(made):
    return made.public_bytes(serialization.Encoding.PEM)


def main():
    port, file = int(sys.argv[1]), sys.argv[2]
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = certificate("test authority", authority_key, None, authority_key, True)
    own = certificate("localhost", key, authority.subject, authority_key, False)
    with open(file, "wb") as out:
        out.write(pem(authority))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as both:
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        both.write(pem(own) + secret)
        both.flush()
        context.load_cert_chain(both.name)
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"READY={listener.getsockname()[1]}", flush=True)
    while True:
        plain, _ = listener.accept()
        threading.Thread(target=serve, args=(context, plain, port), daemon=True).start()


def serve(context, plain, port):
    try:
        front = context.wrap_socket(plain, server_side=True)
        back = socket.create_connection(("127.0.0.1", port))
    except OSError:
        return
    threading.Thread(target=copy, args=(back, front), daemon=True).start()
    copy(front, back)


def copy(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


main()
