"""Why pods were not even created, read from what their ReplicaSet or Job was told. Pure."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from catalog.keys import DOMAIN
from catalog.quantity import QuantityError, parse_cpu_m, parse_integer, render_cpu_m, render_integer

_QUOTA: Final = re.compile(
    r"exceeded quota: (?P<quota>[^,]+), requested: (?P<requested>\S+), used: (?P<used>\S+), limited: (?P<limited>\S+)"
)
_DENIED: Final = re.compile(r'admission webhook "(?P<hook>[^"]+)" denied the request: (?P<said>.*)', re.DOTALL)
_FAILED: Final = re.compile(r'failed calling webhook "(?P<hook>[^"]+)"')
_OURS: Final = f".{DOMAIN.removesuffix('/')}"


class Refused(StrEnum):
    """Who refused a pod: the closed set."""

    BY_PODSLA = "RefusedByPodsla"  # what its class asks cannot be had
    QUOTA = "QuotaExceeded"
    NO_ANSWER = "WebhookUnavailable"  # a webhook that must answer did not
    BY_WEBHOOK = "RefusedByWebhook"  # somebody else's
    OTHER = "Refused"


@dataclass(frozen=True, slots=True)
class Refusal:
    """
    The last word that an owner of pods was told.

    Attributes:
        owner: Kind/name of who tried to create the pod.
        count: How often it was told so.
        message: Of the API server, without what it says of itself.
        advice: What to do; "" where the message says it.
    """

    owner: str
    count: int
    refused: Refused
    message: str
    advice: str


def read_refusals(events: Iterable[Mapping[str, Any]], owners: Mapping[str, str]) -> tuple[Refusal, ...]:
    """
    Read the newest refusal of each owner.

    Args:
        events: Of the core API; those with another reason than FailedCreate are passed over.
        owners: Kind/name by UID.
    """
    newest: dict[str, Mapping[str, Any]] = {}
    for event in sorted(events, key=_when):
        uid = (event.get("involvedObject") or {}).get("uid", "")
        if event.get("reason") == "FailedCreate" and uid in owners:
            newest[uid] = event
    return tuple(_read(owners[uid], event) for uid, event in sorted(newest.items(), key=lambda item: owners[item[0]]))


def _when(event: Mapping[str, Any]) -> str:
    times = (event.get("lastTimestamp"), (event.get("series") or {}).get("lastObservedTime"), event.get("eventTime"))
    return str(next(filter(None, times), ""))


def _read(owner: str, event: Mapping[str, Any]) -> Refusal:
    text = str(event.get("message") or "").removeprefix("Error creating: ")
    count = int(event.get("count") or (event.get("series") or {}).get("count") or 1)
    if (denied := _DENIED.search(text)) is not None:
        ours = denied["hook"].endswith(_OURS)
        advice = "" if ours else f"ask whoever runs the webhook {denied['hook']}"
        return Refusal(owner, count, Refused.BY_PODSLA if ours else Refused.BY_WEBHOOK, denied["said"], advice)
    if (failed := _FAILED.search(text)) is not None:
        advice = "`podsla doctor` says why" if failed["hook"].endswith(_OURS) else "ask whoever runs it"
        return Refusal(owner, count, Refused.NO_ANSWER, text, advice)
    if (quota := _QUOTA.search(text)) is not None:
        return Refusal(owner, count, Refused.QUOTA, quota[0], _raise(quota))
    return Refusal(owner, count, Refused.OTHER, text, "")


def _raise(quota: re.Match[str]) -> str:
    """Say how far the quota would have to go up for this one pod."""
    parts = [
        f"raise {resource} from {limited} to {needed}"
        for resource, limited, needed in _exceeded(*(_pairs(quota[name]) for name in ("requested", "used", "limited")))
    ]
    return f"in quota {quota['quota']}, {', '.join(parts)}; or ask less" if parts else f"raise quota {quota['quota']}"


def _pairs(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in text.split(",") if "=" in part)


def _exceeded(
    requested: Mapping[str, str], used: Mapping[str, str], limited: Mapping[str, str]
) -> Iterator[tuple[str, str, str]]:
    for resource, limit in limited.items():
        cpu = resource.endswith("cpu")
        parse, render = (parse_cpu_m, render_cpu_m) if cpu else (parse_integer, render_integer)
        try:
            needed = parse(requested.get(resource, "0")) + parse(used.get(resource, "0"))
            if needed > parse(limit):
                yield resource, limit, render(needed)
        except QuantityError:
            continue
