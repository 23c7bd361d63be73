"""Which container of its pod a process borrows for: the one it runs in, as the kubelet's mounts say."""

from pathlib import Path
from typing import Any, Final

import pytest

from podsla import gpu
from tests.podsla.lending.agent import StandInAgent
from tests.podsla.lending.apiserver import FakeApiServer, bound

pytestmark = pytest.mark.wire

OURS: Final[dict[str, Any]] = {"timeout": 20.0}
UID = "1c1b9d2e-7c0f-4a0e-9f5b-0a4f3a1d2c3b"
TERMINATION = "612 590 254:1 {} /dev/termination-log rw,relatime - ext4 /dev/vda1 rw"
MOUNTS = [
    pytest.param([f"/var/lib/kubelet/pods/{UID}/containers/worker/1a2b3c4d"], "worker", id="as the kubelet mounts it"),
    pytest.param(
        [f"/pods/{UID}/containers/worker/1a2b3c4d"], "worker", id="the kubelet's folder is a mount of its own"
    ),
    pytest.param(["/var/lib/kubelet/pods/u-0/containers/worker/1a2b3c4d"], "", id="another pod's"),
    pytest.param([f"/var/lib/kubelet/pods/{UID}/etc-hosts", "/"], "", id="other files of the pod's"),
    pytest.param([f"/var/lib/kubelet/pods/{UID}/volumes/containers/worker/x"], "", id="a volume of that name"),
    pytest.param(["/var/lib/kubelet/pods//containers/worker/1a2b3c4d"], "", id="no pod's"),
    pytest.param(
        ["/a\rb c\x0cd\x85e\u2028f", f"/pods/{UID}/containers/worker/1a2b3c4d"], "worker", id="beside any name"
    ),
]


@pytest.mark.parametrize(("roots", "container"), MOUNTS)
def test_the_mounts_of_a_container_name_it(roots: list[str], container: str) -> None:
    text = "".join(f"{TERMINATION.format(root)}\n" for root in roots)
    assert gpu.container_in(text, UID) == container
    assert gpu.container_in(text, "") == "", "nobody knows which pod this is"


@pytest.fixture
def second_container(server: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process runs in the container `second` of a pod."""
    server.let_in(bound("eval-x", UID))
    monkeypatch.delenv("CONTAINER_NAME", raising=False)
    mounts = tmp_path / "mountinfo"
    mounts.write_text(TERMINATION.format(f"/var/lib/kubelet/pods/{UID}/containers/second/1a2b3c4d") + "\n")
    monkeypatch.setattr(gpu, "MOUNTS", str(mounts))


@pytest.mark.usefixtures("second_container")
def test_who_does_not_say_which_container_this_is_borrows_for_the_one_it_runs_in(
    server: FakeApiServer, agent: StandInAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail where nobody looks at the mounts: the pod's usual one got the GPU."""
    for name, said in (("found", ""), ("said", "first")):
        with gpu.borrow(name=name, container=said, **OURS):
            pass
    monkeypatch.setenv("CONTAINER_NAME", "variable")
    with gpu.borrow(name="by-variable", **OURS):
        pass
    asked = {name: thing["spec"]["container"] for name, thing in server.objects.items()}
    assert asked == {"found": "second", "said": "first", "by-variable": "variable"}


@pytest.mark.usefixtures("second_container")
def test_who_finds_out_nowhere_which_container_this_is_is_told_which_one_has_the_gpu(
    server: FakeApiServer, agent: StandInAgent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not where the device came here, so that it is the right one."""
    monkeypatch.setattr(gpu, "MOUNTS", "/nowhere")
    with gpu.borrow(name="here", **OURS):
        pass
    assert caplog.messages == []
    monkeypatch.setenv("PODSLA_GPU_DEVICES", "/nowhere/nvidia[0-9]*")
    with gpu.borrow(name="elsewhere", **OURS):
        pass
    assert caplog.messages == [
        "elsewhere has its GPU in container usual, the pod's usual one; if this is another, say which: "
        "container=, -c or the variable CONTAINER_NAME"
    ]
