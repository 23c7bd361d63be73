"""EDGE: cryptography. Whether the webhook's certificate is one that the API server will accept."""

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from podsla.health.findings import Finding, Reason, error, warning

_SHARE_LEFT: Final = 4  # renewed with a third of its life left, so one with a quarter left was not


def certificates_of(text: str) -> tuple[x509.Certificate, ...]:
    """
    Read base64 text of PEM, as Secrets and `caBundle` have it; none where it cannot be read.
    """
    try:
        return tuple(x509.load_pem_x509_certificates(b64decode(text, validate=True)))
    except (Base64Error, ValueError):
        return ()


def check_pair(data: Mapping[str, str] | None, secret: str, now: datetime) -> Iterator[Finding]:
    """Judge one Secret: is there a certificate, can it be read, how long does it last."""
    subject = f"Secret/{secret}"
    if not data or not data.get("tls.crt"):
        yield error(Reason.CERTIFICATE_MISSING, subject, "holds no certificate; `podsla controller` writes it")
        return
    chain = certificates_of(data["tls.crt"])
    if not chain:
        message = "holds a certificate that cannot be read; delete the Secret, and the controller makes it anew"
        yield error(Reason.CERTIFICATE_INVALID, subject, message)
        return
    begins, ends = chain[0].not_valid_before_utc, chain[0].not_valid_after_utc
    if not begins <= now < ends:
        message = f"is valid from {_day(begins)} to {_day(ends)}, and it is {_day(now)}; see why the controller is idle"
        yield error(Reason.CERTIFICATE_EXPIRED, subject, message)
    elif ends - now < (ends - begins) / _SHARE_LEFT:
        message = f"ends {_day(ends)}, in {_days(ends - now)}, and should have been renewed; look at the controller"
        yield warning(Reason.CERTIFICATE_EXPIRING, subject, message)


def check_bundle(bundle: str, leaf: str, host: str, entry: str) -> Iterator[Finding]:
    """
    Judge whether clients with a `caBundle` accept a leaf for *host*.

    Args:
        bundle: Base64 text; "" where there is none.
        leaf: `tls.crt` of the webhook's Secret, base64 text; "" where it is not known.
        entry: Which webhook it stands in.
    """
    if not bundle:
        message = "has no caBundle, so every call of it fails; `podsla controller` writes it"
        yield error(Reason.NO_CA_BUNDLE, entry, message)
        return
    chain = certificates_of(leaf)
    if not chain:
        return
    if not any(_issued(certificate, issuer) for certificate in chain for issuer in certificates_of(bundle)):
        issuer = chain[0].issuer.rfc4514_string()
        message = f"its caBundle does not hold the issuer of the webhook's certificate ({issuer}); is the leader alive?"
        yield error(Reason.CA_BUNDLE_DIFFERS, entry, message)
    elif host not in (names := _names(chain[0])):
        message = f"calls {host}, and the webhook's certificate is for {', '.join(names)}"
        yield error(Reason.CERTIFICATE_INVALID, entry, message)


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    if certificate == issuer:
        return True
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _names(certificate: x509.Certificate) -> Sequence[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return [*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))]


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _days(left: timedelta) -> str:
    return f"{left.days} days" if left.days else f"{left.seconds // 3600} hours"
