"""What the commands against a cluster make of what the API server says."""

from typing import Any

import pytest

from podsla.commands.apply import outcome_of
from podsla.commands.uninstall import holder_of, holders
from podsla.output import print_table
from webhook.secret import pair_of


def catalog(generation: int, status: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "lab", "generation": generation}, "spec": {"sizes": [{}, {}]}, "status": status}


ACCEPTED = {
    "observedGeneration": 3,
    "serving": "sha256:a",
    "conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted", "message": "served"}],
}


@pytest.mark.parametrize(
    ("thing", "accepted", "reason"),
    [
        pytest.param(catalog(3, ACCEPTED), "True", "Accepted", id="judged"),
        pytest.param(catalog(4, ACCEPTED), "Unknown", "Pending", id="the word on an earlier edit is none on this one"),
        pytest.param(catalog(1, {}), "Unknown", "Pending", id="never judged"),
    ],
)
def test_outcome(thing: dict[str, Any], accepted: str, reason: str) -> None:
    outcome = outcome_of(thing)

    assert (outcome["accepted"], outcome["reason"], outcome["sizes"]) == (accepted, reason, 2)


def pod(name: str, node: str | None, phase: str = "Running", **requests: str) -> dict[str, Any]:
    spec = {"containers": [{"resources": {"requests": requests}}], **({"nodeName": node} if node else {})}
    return {"metadata": {"namespace": "edge", "name": name}, "spec": spec, "status": {"phase": phase}}


def test_a_node_is_left_alone_while_pods_that_are_not_over_hold_our_resources_there() -> None:
    ours = {"podsla.io/pps": "600k"}
    pods = [
        *(pod(f"p{number}", "busy", **ours) for number in range(5)),
        pod("done", "idle", "Succeeded", **ours),
        pod("waiting", None, "Pending", **ours),
        pod("plain", "idle", cpu="1"),
    ]

    assert holders(pods) == {"busy": "edge/p0, edge/p1, edge/p2 and 2 more"}


@pytest.mark.parametrize(
    ("lease", "expected"),
    [
        pytest.param(None, None, id="no lease"),
        pytest.param({"spec": {"holderIdentity": ""}}, None, id="given up"),
        pytest.param(
            {"spec": {"holderIdentity": "a", "renewTime": "t", "leaseDurationSeconds": 15}}, ("a", "t", 15), id="held"
        ),
    ],
)
def test_holder(lease: dict[str, Any] | None, expected: tuple[str, str, int] | None) -> None:
    assert holder_of(lease) == expected


@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        pytest.param(None, None, id="no Secret"),
        pytest.param({"data": None}, None, id="an empty one"),
        pytest.param({"data": {"tls.crt": "YQ=="}}, None, id="half a pair"),
        pytest.param({"data": {"tls.crt": "YQ==", "tls.key": "Yg=="}}, (b"a", b"b"), id="a pair"),
    ],
)
def test_pair(secret: dict[str, Any] | None, expected: tuple[bytes, bytes] | None) -> None:
    assert pair_of(secret) == expected


def test_a_table_prints_brackets_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["what"], [["spec.sizes[red].name"]])

    assert capsys.readouterr().out == "WHAT\nspec.sizes[red].name\n"
