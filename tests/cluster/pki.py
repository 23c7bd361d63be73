"""EDGE: keys, certificates and kubeconfigs of one cluster; every private key is readable by its owner only."""

import datetime
import ipaddress
import json
import os
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE: Final = datetime.timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, both PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority: its pair, read once."""

    pair: Pair

    @classmethod
    def create(cls, common_name: str) -> "Authority":
        """Make a new authority."""
        key = generate_private_key(SECP256R1())
        subject = _subject(common_name, ())
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = (
            _builder(subject, subject, key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(Pair(certificate.public_bytes(Encoding.PEM), key_pem(key)))

    @classmethod
    def load(cls, folder: Path, name: str = "ca") -> "Authority":
        """Read an authority that `write_pair` has written."""
        return cls(Pair((folder / f"{name}.crt").read_bytes(), (folder / f"{name}.key").read_bytes()))

    def issue(
        self,
        common_name: str,
        *,
        organizations: Sequence[str] = (),
        dns: Sequence[str] = (),
        addresses: Sequence[str] = (),
    ) -> Pair:
        """Issue a certificate that serves as a client's and, for the names given, as a server's."""
        ca = x509.load_pem_x509_certificate(self.pair.certificate)
        ca_key = load_pem_private_key(self.pair.key, None)
        assert isinstance(ca_key, EllipticCurvePrivateKey)
        key = generate_private_key(SECP256R1())
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if dns or addresses else [])]
        builder = (
            _builder(_subject(common_name, organizations), ca.subject, key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        )
        if dns or addresses:
            names = [*map(x509.DNSName, dns), *(x509.IPAddress(ipaddress.ip_address(a)) for a in addresses)]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(ca_key, hashes.SHA256())
        return Pair(certificate.public_bytes(Encoding.PEM), key_pem(key))


def _subject(common_name: str, organizations: Sequence[str]) -> x509.Name:
    named = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name) for name in organizations]
    return x509.Name([*named, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # a VM's clock may be behind
        .not_valid_after(now + _LIFE)
    )


def key_pem(key: EllipticCurvePrivateKey) -> bytes:
    """Write a private key as PEM that every component reads (SEC 1: service-account keys are read in no other form)."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def write_pair(folder: Path, name: str, pair: Pair) -> None:
    """Write `NAME.crt` and `NAME.key`."""
    (folder / f"{name}.crt").write_bytes(pair.certificate)
    write_private(folder / f"{name}.key", pair.key)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that its owner alone may read."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as stream:
        stream.write(content)


def write_service_account_keys(folder: Path) -> None:
    """Write `sa.key` and `sa.pub`, with which service-account tokens are signed and checked."""
    key = generate_private_key(SECP256R1())
    write_private(folder / "sa.key", key_pem(key))
    (folder / "sa.pub").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def write_kubeconfig(path: Path, *, cluster: str, server: str, ca: bytes, pair: Pair) -> None:
    """Write a kubeconfig that holds everything it needs, so that it may be copied elsewhere."""
    text: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": {"server": server, "certificate-authority-data": _base64(ca)}}],
        "users": [
            {
                "name": cluster,
                "user": {
                    "client-certificate-data": _base64(pair.certificate),
                    "client-key-data": _base64(pair.key),
                },
            }
        ],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": cluster}}],
        "current-context": cluster,
    }
    write_private(path, json.dumps(text, indent=2).encode() + b"\n")  # JSON is YAML


def _base64(content: bytes) -> str:
    return b64encode(content).decode()
