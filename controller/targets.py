"""EDGE: judges every edit of the target, and keeps the accepted ones as ControllerRevisions."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

from catalog.keys import TARGET
from catalog.problems import InvalidError
from catalog.served import TARGET_CONFIG_MAP, TARGET_KEY
from catalog.target_reader import read_target
from catalog.yamltext import parse_documents
from controller.metrics import Metrics
from controller.world import World
from kube.api import Object
from kube.events import post
from kube.kinds import CONTROLLER_REVISIONS

KEPT: Final = 3
_log = logging.getLogger(__name__)


class Reason(StrEnum):
    """Why the newest edit of the target does not serve."""

    INVALID_TARGET = "InvalidTarget"


@dataclass(frozen=True, slots=True)
class TargetPlan:
    """
    What to do about the target.

    Attributes:
        create: The ControllerRevision to write; None: nothing.
        delete: Names of ControllerRevisions that are too old.
        problems: What is wrong with the newest edit.
    """

    create: dict[str, Any] | None
    delete: tuple[str, ...]
    problems: tuple[str, ...]


def plan_target(config_map: Object | None, revisions: Iterable[Object]) -> TargetPlan:
    """Judge the newest edit; without a ConfigMap the last accepted target serves on, or the shipped one."""
    kept = sorted((r for r in revisions if TARGET in (r["metadata"].get("labels") or {})), key=lambda r: -r["revision"])
    delete = tuple(revision["metadata"]["name"] for revision in kept[KEPT:])
    if config_map is None:
        return TargetPlan(None, delete, ())
    text = (config_map.get("data") or {}).get(TARGET_KEY)
    if text is None:
        return TargetPlan(None, delete, (f"configmap/{TARGET_CONFIG_MAP} has no key {TARGET_KEY}; add it",))
    if kept and kept[0]["data"][TARGET_KEY] == text:
        return TargetPlan(None, delete, ())
    if problems := _problems(text):
        return TargetPlan(None, delete, problems)
    number = kept[0]["revision"] + 1 if kept else 1
    name = f"{TARGET_CONFIG_MAP}-{number}-{sha256(text.encode()).hexdigest()[:10]}"
    metadata = {"name": name, "labels": {TARGET: "true"}}
    body = {"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": metadata, "revision": number}
    return TargetPlan({**body, "data": {TARGET_KEY: text}}, delete, ())


@lru_cache(maxsize=1)
def _problems(text: str) -> tuple[str, ...]:
    """Find what is wrong with a target; one that is wrong is asked about in every round."""
    try:
        read_target(parse_documents(text, f"configmap/{TARGET_CONFIG_MAP}"))
    except InvalidError as error:
        return tuple(str(problem) for problem in error.problems)
    return ()


class Targets:
    """Reconciles the ConfigMap that says what this cluster has."""

    def __init__(self, world: World, metrics: Metrics) -> None:
        self.world, self.metrics = world, metrics
        self._told: tuple[str, ...] = ()

    def reconcile(self) -> bool:
        """Keep the newest edit if it is right; say what is wrong with it, once, if it is not."""
        config_map = self.world.targets.get(TARGET_CONFIG_MAP, self.world.namespace)
        plan = plan_target(config_map, self.world.revisions.items())
        if plan.create is not None:
            self.world.api.create(CONTROLLER_REVISIONS, plan.create, self.world.namespace)
            _log.info("target accepted", extra={"fields": {"name": plan.create["metadata"]["name"]}})
        for name in plan.delete:
            self.world.api.delete(CONTROLLER_REVISIONS, name, self.world.namespace)
        if config_map is not None and plan.problems and plan.problems != self._told:
            fields = {"problems": len(plan.problems), "first": plan.problems[0]}
            _log.error("target refused, the last good one serves on", extra={"fields": fields})
            note = "; ".join(plan.problems)
            reason = Reason.INVALID_TARGET.value
            post(self.world.api, config_map, kind="Warning", reason=reason, action="Accept", note=note)
        self._told = plan.problems
        self.metrics.target(accepted=not plan.problems)
        return True
