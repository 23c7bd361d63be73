"""The desired file: what it says of each attachment, and what a wrong one leaves as it is."""

import pytest

from attach.desired import parse_desired
from attach.entry import Policy
from attach.transitions import State
from tests.attach.fakes import target
from tests.attach.world import World

HEAD = "apiVersion: podsla.io/v1beta1\nkind: NodeAttachments\n"
FIELDS = {
    "uid": "u1",
    "namespace": "team-a",
    "podName": "a",
    "podUID": "uid-a",
    "containerID": "containerd://a-1",
    "devices": "[GPU-0]",
    "renewTime": "2027-01-15T08:00:00Z",
    "leaseSeconds": "900",
}


def item(**changes: str | None) -> str:
    fields = {key: text for key, text in {**FIELDS, **changes}.items() if text is not None}
    return "- {" + ", ".join(f"{key}: {text if key in RAW else repr(text)}" for key, text in fields.items()) + "}\n"


RAW = {"devices", "leaseSeconds", "gracePeriodSeconds", "release", "force", "reservationLost"}


def desired(*items: str) -> str:
    return HEAD + "attachments:\n" + "".join(items)


def test_a_right_one() -> None:
    found, problems = parse_desired(
        desired(item(devices="[GPU-1, GPU-0]", detachPolicy="Terminate", gracePeriodSeconds="0")), "d.yaml"
    )

    assert problems == ()
    assert found.complete
    wish = found.wishes["u1"]
    assert wish.target == target("a")
    assert (wish.devices, wish.policy, wish.grace_s) == (("GPU-0", "GPU-1"), Policy.TERMINATE, 0)
    assert wish.expires_s == 1_800_000_000 + 900


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"podUID": None}, "d.yaml:4: attachments[0].podUID: is missing; write it", id="no pod UID"),
        pytest.param({"podUID": "../../kubepods"}, "does not have the form", id="a UID that leads out of the cgroups"),
        pytest.param({"containerID": "/"}, "does not have the form", id="the root cgroup"),
        pytest.param({"containerID": ""}, "does not have the form", id="no container"),
        pytest.param({"devices": "[]"}, "attachments[0].devices", id="no device"),
        pytest.param({"devices": "[1]"}, "must be text", id="an index instead of a UUID"),
        pytest.param({"renewTime": "soon"}, "write it as 2027-03-01T12:00:00Z", id="no time"),
        pytest.param({"leaseSeconds": "0"}, "is 0; write 1 or more", id="a lease of no length"),
        pytest.param({"leaseSeconds": "1e9"}, "attachments[0].leaseSeconds", id="a lease without end"),
        pytest.param({"detachPolicy": "Kill"}, "cannot be 'Kill'", id="no such policy"),
        pytest.param({"forse": "true"}, "is not a field here; did you mean force?", id="a slip of the pen"),
    ],
)
def test_a_wrong_item_is_refused_by_its_uid(changes: dict[str, str | None], message: str) -> None:
    good = item(uid="u2", devices="[GPU-1]")
    found, problems = parse_desired(desired(item(**changes), good), "d.yaml")

    assert set(found.wishes) == {"u2"}
    assert found.refused["u1"].reason == "InvalidAttachment"
    assert message in found.refused["u1"].message
    assert problems


@pytest.mark.parametrize(
    ("text", "wishes", "refused"),
    [
        pytest.param(desired(item(), item()), set(), {"u1": "DuplicateUID"}, id="a UID twice: neither"),
        pytest.param(desired(item(devices="[GPU-0, GPU-0]")), set(), {"u1": "DuplicateDevice"}, id="a device twice"),
        pytest.param(
            desired(item(), item(leaseSeconds="0")),
            set(),
            {"u1": "DuplicateUID"},
            id="a UID twice, once wrong: neither",
        ),
    ],
)
def test_items_that_contradict_each_other(text: str, wishes: set[str], refused: dict[str, str]) -> None:
    found, _ = parse_desired(text, "d.yaml")

    assert set(found.wishes) == wishes
    assert {uid: trouble.reason for uid, trouble in found.refused.items()} == refused
    assert found.complete


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="an empty file"),
        pytest.param("attachments: [", id="no YAML"),
        pytest.param(HEAD.replace("NodeAttachments", "Pod") + "attachments: []", id="another kind"),
        pytest.param(HEAD + "attachments: 1", id="no list"),
        pytest.param(HEAD + "attachments: []\n---\n" + HEAD, id="two documents"),
        pytest.param(desired("- 7\n"), id="an item that is no mapping"),
        pytest.param(desired(item(uid=None)), id="an item without a UID"),
        pytest.param(desired(item(uid="../x")), id="an item with an impossible UID"),
        pytest.param(HEAD + "systemPodUIDs: [1]\n", id="wrong system pods"),
    ],
)
def test_a_file_that_says_nothing_ends_nothing(text: str) -> None:
    """An attachment that it does not name stays, until its lease ends."""
    found, problems = parse_desired(text, "d.yaml")

    assert problems
    assert (found.wishes, found.complete) == ({}, False)


def test_nothing_wanted_is_something_said() -> None:
    found, problems = parse_desired(HEAD + "attachments: []\n", "d.yaml")

    assert (problems, found.wishes, found.complete) == ((), {}, True)


def test_an_attachment_outlives_a_wrong_file_and_not_its_lease() -> None:
    world = World()
    world.node.start(target("a"))
    text = desired(item())
    world.wishes = dict(parse_desired(text, "d.yaml")[0].wishes)
    assert world.run()["u1"].reason == "Attached"

    world.wishes.clear()
    world.complete = parse_desired(text + "- 7\n", "d.yaml")[0].complete
    world.run_for(870.0, every_s=30.0)
    assert world.entry("u1").state is State.ATTACHED

    world.run_for(31.0)
    assert world.entry("u1").state is State.RELEASED
