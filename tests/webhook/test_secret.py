"""The pair that a replica serves, from a Secret that others write."""

from base64 import b64encode
from pathlib import Path
from typing import Any, Final

import pytest
from kubernetes.client import ApiClient

from kube.api import Api, Object, Resource
from webhook.secret import FOREIGN_AFTER_S, ISSUER, SecretFiles

THEIRS: Final = {"cert-manager.io/issuer-name": "podsla-cert-manager-ca"}


class Stored(Api):
    """An API server in which there is at most one Secret."""

    def __init__(self) -> None:
        super().__init__(ApiClient())
        self.secret: Object | None = None

    def get(self, resource: Resource, name: str, namespace: str = "") -> Object | None:
        return self.secret

    def store(self, name: str, annotations: dict[str, str] | None) -> None:
        data = {key: b64encode(f"{name} {key}".encode()).decode() for key in ("tls.crt", "tls.key")}
        self.secret = {"metadata": {"annotations": annotations}, "data": data}


class Replica:
    """A replica's files, and its clock."""

    def __init__(self, api: Api, folder: Path) -> None:
        self.now_s = 0.0
        self.files = SecretFiles(api, "podsla-system", "podsla-webhook-tls", folder, lambda: self.now_s)

    def shows(self, after_s: float = 0.0) -> tuple[bool, set[str]]:
        """Look that much later; whether there is a pair, and whose certificate and key the files hold."""
        self.now_s += after_s
        found = self.files.fetch()
        read = [file for file in (self.files.certificate, self.files.key) if file.exists()]
        return found, {file.read_text().split()[0] for file in read}


@pytest.fixture
def stored() -> Stored:
    return Stored()


@pytest.fixture
def replica(stored: Stored, tmp_path: Path) -> Replica:
    return Replica(stored, tmp_path)


@pytest.mark.parametrize("annotations", [ISSUER, THEIRS, {}, None], ids=["ours", "theirs", "none", "null"])
def test_the_first_pair_is_served_at_once_whoever_issued_it(
    stored: Stored, replica: Replica, annotations: dict[str, str] | None
) -> None:
    assert replica.shows() == (False, set())
    stored.store("first", annotations)
    assert replica.shows() == (True, {"first"})


def test_what_the_controller_renewed_is_served_at_once(stored: Stored, replica: Replica) -> None:
    stored.store("first", THEIRS)
    replica.shows()
    stored.store("second", {**ISSUER, "example.com/other": "kept"})
    assert replica.shows(1.0) == (True, {"second"})


@pytest.mark.parametrize("annotations", [THEIRS, {}, None], ids=["theirs", "none", "null"])
def test_what_somebody_else_renewed_waits_until_its_ca_is_published(
    stored: Stored, replica: Replica, annotations: dict[str, str] | None
) -> None:
    """Counted from when it was seen: each one that comes meanwhile begins anew."""
    stored.store("first", ISSUER)
    replica.shows()
    stored.store("second", annotations)
    assert replica.shows(100.0) == (True, {"first"})
    assert replica.shows(FOREIGN_AFTER_S - 1.0) == (True, {"first"})
    stored.store("third", annotations)
    assert replica.shows(1.0) == (True, {"first"})
    assert replica.shows(FOREIGN_AFTER_S - 1.0) == (True, {"first"})
    assert replica.shows(1.0) == (True, {"third"})


@pytest.mark.parametrize("secret", [None, {}, {"data": None}, {"data": {"tls.crt": "eA=="}}], ids=str)
def test_the_last_pair_stays_where_there_is_none(stored: Stored, replica: Replica, secret: Any) -> None:
    stored.store("first", ISSUER)
    replica.shows()
    stored.secret = secret
    assert replica.shows(1000.0) == (True, {"first"})


def test_a_pair_that_cannot_be_written_is_written_later(stored: Stored, replica: Replica) -> None:
    """The thread that follows the Secret goes on: it would never serve a renewed certificate again."""
    stored.store("first", ISSUER)
    folder = replica.files.key.parent
    folder.rmdir()
    assert replica.shows() == (False, set())
    folder.mkdir()
    assert replica.shows() == (True, {"first"})
