"""EDGE: cryptography. The certificates that the webhook serves with, and when and in which order they are renewed.

`plan` looks at what is stored and at what clients trust, and says what to write next. It is called again and again; the
leaf never moves to a CA before clients trust that, and a CA is trusted for as long as replicas may serve under it.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

CA_LIFE: Final = timedelta(days=365)
LEAF_LIFE: Final = timedelta(days=90)
BACKDATED: Final = timedelta(hours=1)  # for clocks that are behind
SETTLED: Final = timedelta(minutes=1)  # in which every API server has seen a CA that was published
OVERLAP: Final = timedelta(days=1)  # in which every replica has taken over a new leaf
CA_NAME: Final = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "podsla-webhook-ca")])

CA_FILE, CERTIFICATE_FILE, KEY_FILE = "ca.crt", "tls.crt", "tls.key"
NEXT: Final = {
    CERTIFICATE_FILE: "next.crt",
    KEY_FILE: "next.key",
}  # a CA that is kept, and not published everywhere yet
PUBLISHED: Final = "published"  # since when the CA is

# No stricter than the API server, which takes a CA without key usage, as `openssl req -x509` makes it.
_ANY: Final = ExtensionPolicy.permit_all()
_CA_POLICY: Final = _ANY.require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
_LEAF_POLICY: Final = _ANY.require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)

SecretData: TypeAlias = Mapping[str, str]  # base64 text by key, as the API server has it
Certificates: TypeAlias = tuple[x509.Certificate, ...]


class CertificateError(ValueError):
    """A certificate or key cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate, what follows it in its chain, and its private key."""

    chain: Certificates
    key: PrivateKeyTypes

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate itself."""
        return self.chain[0]

    @property
    def cert_pem(self) -> bytes:
        """The whole chain."""
        return _pem(self.chain)

    @property
    def key_pem(self) -> bytes:
        """The private key, unencrypted PKCS #8."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


@dataclass(frozen=True, slots=True)
class CertPlan:
    """
    What to write, in this order; None: leave it as it is.

    A new CA is kept as the next one, then published, then takes over, each in a round of its own: whoever dies in
    between leaves one that the next round goes on with.

    Attributes:
        bundle: `caBundle` of every webhook, base64 text.
        ca: Data of the CA's Secret.
        leaf: Data of the webhook's Secret.
        reasons: A sentence for each thing that is made anew.
        foreign: Somebody else, such as cert-manager, keeps the webhook's Secret.
    """

    bundle: str | None = None
    ca: dict[str, str] | None = None
    leaf: dict[str, str] | None = None
    reasons: tuple[str, ...] = ()
    foreign: bool = False


def issue_ca(now: datetime) -> Pair:
    """Make a CA that is valid for `CA_LIFE` from *now*, and an hour before."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        _builder(CA_NAME, CA_NAME, key.public_key(), now, now + CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
    )
    return Pair((builder.sign(key, hashes.SHA256()),), key)


def issue_leaf(ca: Pair, names: Sequence[str], now: datetime) -> Pair:
    """
    Make a server certificate that *ca* signs, valid for `LEAF_LIFE` from *now* but no longer than *ca*.

    Args:
        names: DNS names, and IP addresses as text; the first is also the common name.

    Raises:
        CertificateError: The CA's key is neither ECDSA nor RSA.
    """
    if not isinstance(ca.key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise CertificateError("the CA's key is neither ECDSA nor RSA")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    until = min(now + LEAF_LIFE, ca.certificate.not_valid_after_utc)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())
    builder = (
        _builder(subject, ca.certificate.subject, key.public_key(), now, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(issuer, critical=False)
    )
    return Pair((builder.sign(ca.key, hashes.SHA256()),), key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, until: datetime
) -> x509.CertificateBuilder:
    identifier = x509.SubjectKeyIdentifier.from_public_key(key)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number()).add_extension(identifier, critical=False)
    return builder.not_valid_before(now - BACKDATED).not_valid_after(until)


def _usage(**used: bool) -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    rest = ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{name: used.get(name, False) for name in (*names, *rest)})


def _general_name(name: str) -> x509.DNSName | x509.IPAddress:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def needs_renewal(not_before: datetime, not_after: datetime, now: datetime) -> bool:
    """Tell by the wall clock whether two thirds of a certificate's life are over, or whether it has not begun."""
    return not not_before <= now < not_before + (not_after - not_before) * 2 / 3


def parse_pair(cert_pem: bytes, key_pem: bytes) -> Pair:
    """
    Read a certificate, with the chain that follows it, and its key.

    Raises:
        CertificateError: Either cannot be read, or they do not belong together.
    """
    try:
        chain = tuple(x509.load_pem_x509_certificates(cert_pem))
    except ValueError as error:
        raise CertificateError(f"the certificate cannot be read: {error}") from None
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError) as error:  # TypeError: it is encrypted
        raise CertificateError(f"the key cannot be read: {error}") from None
    if key.public_key() != chain[0].public_key():
        raise CertificateError("the key is not the certificate's")
    return Pair(chain, key)


def plan(
    ca: SecretData | None, leaf: SecretData | None, published: Sequence[str], names: Sequence[str], now: datetime
) -> CertPlan:
    """
    Say what to write next.

    Somebody else's leaf (its issuer is neither `CA_NAME` nor the CA that is stored) is left alone, and the CA with it,
    if its key fits and it verifies now for the first of *names*, up to what is published or up to its own `ca.crt`.

    Args:
        ca: Of the CA's Secret; None where there is none.
        leaf: Of the webhook's Secret.
        published: `caBundle` of every webhook, base64 text, "" where it has none; empty where there are no webhooks.
        names: Names and addresses that clients use, the first above all.
        now: In UTC.
    """
    trusted = [_read_certificates(text) for text in published]
    own_trust = _read_certificates((leaf or {}).get(CA_FILE, ""))
    issuer, ca_fault = _read_ca(ca, now)
    served, leaf_fault = _read_leaf(leaf)
    if served is not None and served.certificate.issuer not in (CA_NAME, issuer and issuer.certificate.subject):
        if all(_verifies(served.chain, bundle, names[0], now) for bundle in trusted or [own_trust]):
            return CertPlan(foreign=True)
        if _verifies(served.chain, own_trust, names[0], now):
            bundle = (*own_trust, *_earlier(trusted, own_trust, now))  # replicas may serve under an earlier one yet
            return CertPlan(bundle=_encode(_pem(bundle)), foreign=True)
        served, leaf_fault = None, f"somebody else's certificate does not verify for {names[0]}; it is replaced"
    signer = issuer or _read_next(ca, now)
    if signer is None:
        new = _data(issue_ca(now))
        return CertPlan(ca={**(ca or {}), **{NEXT[key]: text for key, text in new.items()}}, reasons=(ca_fault,))
    bundle = _bundle(signer, served, [own_trust, *trusted], now)
    text = _encode(_pem(bundle))
    published_everywhere = all(signer.certificate in each for each in trusted)
    if issuer is None:
        kept = {**_data(signer), PUBLISHED: _encode(now.isoformat().encode())}
        return CertPlan(bundle=text, ca=kept if published_everywhere else None)
    fault = leaf_fault if served is None else _fault(served, signer, names, now)
    settled = len(bundle) == 1 or now >= _published(ca, signer) + SETTLED
    if not fault or not published_everywhere or not settled:
        return CertPlan(bundle=text)
    return CertPlan(bundle=text, leaf={**_data(issue_leaf(signer, names, now)), CA_FILE: text}, reasons=(fault,))


def _read_ca(data: SecretData | None, now: datetime) -> tuple[Pair | None, str]:
    """Read the CA, unless it has to be made anew: then say why."""
    if not data:
        return None, "there is no CA yet; one is made"
    try:
        pair = _read(data)
    except CertificateError as error:
        return None, f"the CA's Secret cannot be used: {error}; it is replaced"
    until = pair.certificate.not_valid_after_utc
    if not _is_ca(pair.certificate) or not isinstance(pair.key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        return None, "the CA's Secret cannot be used: it holds no CA with an ECDSA or RSA key; it is replaced"
    if needs_renewal(pair.certificate.not_valid_before_utc, until, now):
        return None, f"the CA is valid until {until:%Y-%m-%d %H:%M} UTC; it is renewed"
    return pair, ""


def _read_next(data: SecretData | None, now: datetime) -> Pair | None:
    """Read the CA that is to take over; None where there is none that could."""
    pair, _ = _read_ca({key: (data or {}).get(name, "") for key, name in NEXT.items()}, now)
    return pair


def _published(data: SecretData | None, ca: Pair) -> datetime:
    """Say since when the CA is published: a CA that somebody put there, since it was made."""
    try:
        return datetime.fromisoformat(_decode((data or {})[PUBLISHED]).decode())
    except (KeyError, ValueError):
        return ca.certificate.not_valid_before_utc + BACKDATED


def _read_leaf(data: SecretData | None) -> tuple[Pair | None, str]:
    if not data:
        return None, "the webhook has no certificate yet; one is made"
    try:
        return _read(data), ""
    except CertificateError as error:
        return None, f"the webhook's Secret cannot be used: {error}; it is replaced"


def _fault(served: Pair, issuer: Pair, names: Sequence[str], now: datetime) -> str:
    """Say why a leaf of ours has to be made anew; "" where it need not."""
    until = served.certificate.not_valid_after_utc
    if needs_renewal(served.certificate.not_valid_before_utc, until, now):
        return f"the webhook's certificate is valid until {until:%Y-%m-%d %H:%M} UTC; it is renewed"
    if not _is_issued_by(served.certificate, issuer.certificate):
        return "the webhook's certificate is of an earlier CA; it is replaced"
    missing = [name for name in names if not _verifies(served.chain, (issuer.certificate,), name, now)]
    return f"the webhook's certificate is not for {', '.join(missing)}; it is replaced" if missing else ""


def _bundle(issuer: Pair, served: Pair | None, known: Sequence[Certificates], now: datetime) -> Certificates:
    """List the CAs to trust: the one that signs, and earlier ones as long as replicas may serve under them."""
    if served is not None and _is_issued_by(served.certificate, issuer.certificate):
        taken_over = served.certificate.not_valid_before_utc + BACKDATED + OVERLAP
        if now >= taken_over:
            return (issuer.certificate,)
    return (issuer.certificate, *_earlier(known, (issuer.certificate,), now))


def _earlier(known: Sequence[Certificates], apart_from: Certificates, now: datetime) -> Certificates:
    """List what is trusted already and not over, the newest first."""
    earlier = {c for bundle in known for c in bundle if c.not_valid_after_utc > now} - {*apart_from}
    return tuple(sorted(earlier, key=lambda c: (c.not_valid_after_utc, c.serial_number), reverse=True))


def _verifies(chain: Certificates, roots: Certificates, name: str, now: datetime) -> bool:
    """Tell whether a client with *roots* accepts *chain* for *name*; a leaf may be its own root."""
    if not roots:
        return False
    builder = PolicyBuilder().store(Store(list(roots))).time(now)
    builder = builder.extension_policies(ca_policy=_CA_POLICY, ee_policy=_LEAF_POLICY)
    try:
        builder.build_server_verifier(_general_name(name)).verify(chain[0], list(chain[1:]))
    except (VerificationError, ValueError):
        return False
    return True


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _is_issued_by(certificate: x509.Certificate, ca: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _read(data: SecretData) -> Pair:
    missing = [key for key in (CERTIFICATE_FILE, KEY_FILE) if not data.get(key)]
    if missing:
        raise CertificateError(f"{' and '.join(missing)} missing")
    return parse_pair(_decode(data[CERTIFICATE_FILE]), _decode(data[KEY_FILE]))


def _read_certificates(text: str) -> Certificates:
    """Read a bundle; what is none is empty."""
    try:
        return tuple(x509.load_pem_x509_certificates(_decode(text)))
    except ValueError:
        return ()


def _data(pair: Pair) -> dict[str, str]:
    return {CERTIFICATE_FILE: _encode(pair.cert_pem), KEY_FILE: _encode(pair.key_pem)}


def _pem(certificates: Certificates) -> bytes:
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)


def _encode(content: bytes) -> str:
    return b64encode(content).decode("ascii")


def _decode(text: str) -> bytes:
    try:
        return b64decode(text)
    except ValueError:
        return b""
