"""Tests of the engines' tests: bugs that only they can find are planted, and they must."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from attach.cgroupfs import opened
from attach.model import Cgroup, CgroupVersion
from tests.attach.node import test_rules1, test_rules2
from tests.attach.node.world import RealWorld


@contextmanager
def _whatever_stands_there(cgroup: Cgroup) -> Iterator[int]:
    with opened(replace(cgroup, inode=Path(cgroup.path).stat().st_ino)) as fd:
        yield fd


class _Forgetful(set[tuple[str, bytes]]):
    def __contains__(self, _: object) -> bool:
        return False


def test_a_cgroup_that_is_touched_though_made_anew_is_found(engine: RealWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """I5."""
    tests = test_rules1 if engine.version is CgroupVersion.V1 else test_rules2
    monkeypatch.setattr(f"attach.rules{engine.version[1:]}.opened", _whatever_stands_there)

    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        tests.test_a_cgroup_made_anew_under_the_same_path_is_not_touched(engine)


@pytest.mark.parametrize("engine", [CgroupVersion.V2], indirect=True, ids=str)
def test_programs_that_are_left_behind_are_found(engine: RealWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """I10."""
    monkeypatch.setattr("attach.rules2.set", _Forgetful, raising=False)

    with pytest.raises(AssertionError, match=r"^I10:"):
        test_rules2.test_a_deny_after_a_reload_leaves_no_rule_of_ours(engine)
