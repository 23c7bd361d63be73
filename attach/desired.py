"""
The desired state of a node as a file ↔ what is wanted. Pure: it opens no file.

What can't be read never widens access, and never ends one either: an attachment whose wish is wrong keeps what the
journal says of it, until its lease ends. A file that can't be read at all, or that holds something without a UID, says
nothing of attachments that it does not name.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from attach.api import MAX_GRACE_S, MAX_LEASE_S, parse_time
from attach.entry import Policy, Trouble, Wish
from attach.model import Target
from attach.reasons import ASKED
from attach.reconcile import Desired
from catalog.problems import InvalidError, Problem
from catalog.schema import API_VERSION, Rules, flag, integer, many, one, text, validate
from catalog.yamltext import Document, parse_documents

MAX_ATTACHMENTS: Final = 1024

_UID: Final = r"[A-Za-z0-9][-A-Za-z0-9_.]{0,62}"  # stands in cgroup paths: never "..", never a slash
_CONTAINER: Final = r"([a-z-]+://)?[A-Za-z0-9][-A-Za-z0-9_.]{0,127}"


ATTACHMENT: Final = {
    "uid": text(required=True, regex=_UID),
    "namespace": text(required=True, regex=r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"),
    "podName": text(required=True, regex=r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"),
    "podUID": text(required=True, regex=_UID),
    "containerID": text(required=True, regex=_CONTAINER),
    "devices": many(text(empty=False), 64, required=True, minlength=1),
    "renewTime": {"coerce": parse_time, "required": True},
    "leaseSeconds": integer(required=True, max=MAX_LEASE_S),
    "gracePeriodSeconds": integer(min=0, max=MAX_GRACE_S, default=30),
    "detachPolicy": text(allowed=[policy.value for policy in Policy], default=Policy.WAIT.value),
    "release": flag(default=False),
    "reservationLost": flag(default=False),
    "force": flag(default=False),
}

NODE_ATTACHMENTS: Final = Rules(
    {
        "apiVersion": text(required=True, allowed=[API_VERSION]),
        "kind": text(required=True, allowed=["NodeAttachments"]),
        "metadata": {"type": "dict"},
        "systemPodUIDs": many(text(regex=_UID), MAX_ATTACHMENTS, default=[]),
        "attachments": many(one(ATTACHMENT), MAX_ATTACHMENTS, default=[]),
    }
)

_ITEM: Final = re.compile(r"attachments\[(\d+)\]")


def unreadable(problems: Iterable[Problem]) -> tuple[Desired, tuple[Problem, ...]]:
    """Say nothing about any attachment."""
    return Desired(complete=False), tuple(problems)


def parse_desired(content: str, file: str) -> tuple[Desired, tuple[Problem, ...]]:
    """
    Read what is wanted of a node.

    Returns:
        What could be read, and every problem found.
    """
    try:
        documents = [document for document in parse_documents(content, file) if document.data is not None]
    except InvalidError as error:
        return unreadable(error.problems)
    if len(documents) != 1:
        message = f"holds {len(documents)} documents; write one, with `attachments: []` where nothing is wanted"
        return unreadable([Problem(file, 0, "", message)])
    document = documents[0]
    fields, problems = validate(document, NODE_ATTACHMENTS)
    if fields is not None:
        return _desired(fields, {}, complete=True), ()
    wrong: dict[int, list[Problem]] = {}
    for problem in problems:
        found = _ITEM.match(problem.path)
        if found is None:
            return unreadable(problems)
        wrong.setdefault(int(found[1]), []).append(problem)
    return _without(document, wrong), tuple(problems)


def _without(document: Document, wrong: Mapping[int, list[Problem]]) -> Desired:
    """Read the items that are right; the others are refused, each by its UID, where it has one."""
    items = document.data["attachments"]
    good = {**document.data, "attachments": [item for number, item in enumerate(items) if number not in wrong]}
    fields, problems = validate(replace(document, data=good), NODE_ATTACHMENTS)
    if fields is None:
        return unreadable(problems)[0]
    refused: dict[str, Trouble] = {}
    complete = True
    for number, found in sorted(wrong.items()):
        uid = items[number].get("uid") if isinstance(items[number], dict) else None
        if isinstance(uid, str) and re.fullmatch(_UID, uid):
            refused[uid] = Trouble("InvalidAttachment", "; ".join(map(str, found)), refused=True)
        else:
            complete = False
    return _desired(fields, refused, complete=complete)


def _desired(fields: Mapping[str, Any], refused: Mapping[str, Trouble], *, complete: bool) -> Desired:
    wishes: dict[str, Wish] = {}
    wrong = dict(refused)
    for each in fields["attachments"]:
        wish = _wish(each)
        if wish.uid in wishes or wish.uid in wrong:
            message = f"attachment {wish.uid} is written more than once; keep one, and none is taken until then"
            wrong[wish.uid] = Trouble("DuplicateUID", message, refused=True)
        elif len(set(wish.devices)) < len(wish.devices):
            message = f"attachment {wish.uid} names a device twice: {', '.join(wish.devices)}"
            wrong[wish.uid] = Trouble("DuplicateDevice", message, refused=True)
        else:
            wishes[wish.uid] = wish
    kept = {uid: wish for uid, wish in wishes.items() if uid not in wrong}
    return Desired(kept, wrong, complete, frozenset(fields["systemPodUIDs"]))


def _wish(fields: Mapping[str, Any]) -> Wish:
    container_id = str(fields["containerID"]).rpartition("://")[2]
    return Wish(
        uid=fields["uid"],
        target=Target(fields["namespace"], fields["podName"], fields["podUID"], container_id),
        devices=tuple(sorted(fields["devices"])),
        renew_time_s=fields["renewTime"].timestamp(),
        lease_s=fields["leaseSeconds"],
        grace_s=fields["gracePeriodSeconds"],
        policy=Policy(fields["detachPolicy"]),
        release=ASKED if fields["release"] else None,
        reservation_lost=fields["reservationLost"],
        force=fields["force"],
    )
