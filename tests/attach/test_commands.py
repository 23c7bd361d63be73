"""`podsla agent --once` and `podsla gpu inspect` as their user sees them, over a fake node."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

import attach.agent
from attach.inventory import open_inventory
from attach.metrics import Metrics
from attach.model import Access, Container, DeviceNode
from attach.observe import Node
from attach.store import FileStore
from podsla.cli import main
from tests.attach.fakes import FakeContainer, FakeNode, gpu, target
from tests.attach.test_desired import desired, item


class Shell:
    """Runs `podsla` on a fake node with one container."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        self.node = FakeNode(gpu(0), gpu(1))
        self.container: FakeContainer = self.node.start(target("a"))

    @contextmanager
    def open_node(self, inventory: Path | None, *, alone: bool) -> Iterator[Node]:
        if inventory is not None:
            open_inventory(inventory)
        yield self.node.ports

    def want(self, text: str) -> None:
        (self.folder / "node.yaml").write_text(text)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--state", str(self.folder / "state")])
        out, err = self.capsys.readouterr()
        assert "Traceback" not in err
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    def once(self, *arguments: str) -> tuple[int, str, str]:
        return self.run("agent", "--desired", str(self.folder / "node.yaml"), "--once", *arguments)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    made = Shell(tmp_path, capsys)
    monkeypatch.setattr(attach.agent, "open_node", made.open_node)
    return made


def lent() -> str:
    return item(renewTime=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))


def test_an_attachment_that_succeeds(shell: Shell) -> None:
    shell.want(desired(lent()))
    code, out, err = shell.once()

    assert code == 0
    assert [line.split()[:5] for line in out.splitlines()] == [
        ["ATTACHMENT", "POD", "STATE", "DEVICES", "REASON"],
        ["u1", "team-a/a", "Attached", "GPU-0", "Attached"],
    ]
    lines = [json.loads(line) for line in err.splitlines()]
    assert [(line["uid"], line["from"], line["to"]) for line in lines] == [
        ("u1", None, "Attaching"),
        ("u1", "Attaching", "Attached"),
    ]


@pytest.mark.parametrize(
    ("text", "row"),
    [
        pytest.param(desired(item()), "u1 - Pending - LeaseExpired", id="a lease of the past"),
        pytest.param(desired(item(podUID="7/7")), "u1 - Pending - InvalidAttachment", id="a wrong item"),
    ],
)
def test_an_attachment_that_does_not(shell: Shell, text: str, row: str) -> None:
    shell.want(text.replace("2027-01-15", "2020-01-15"))
    code, out, _ = shell.once()

    assert code == 1
    assert " ".join(out.splitlines()[1].split()[:5]) == row
    assert shell.container.ours == set()


def test_a_desired_file_that_is_missing_is_said_and_changes_nothing(shell: Shell) -> None:
    shell.want(desired(lent()))
    shell.once()
    (shell.folder / "node.yaml").unlink()
    code, out, err = shell.once("-o", "json")

    assert code == 1
    assert "node.yaml: can't be read: No such file or directory" in err
    assert [status["state"] for status in json.loads(out)] == ["Attached"]


@pytest.mark.parametrize(("damage", "reason"), [(b"", "JournalChecksum"), (b"x" * 100, "JournalChecksum")])
def test_a_journal_that_cannot_be_used_stops_it(shell: Shell, damage: bytes, reason: str) -> None:
    shell.want(desired(lent()))
    (shell.folder / "state").mkdir()
    (shell.folder / "state" / "journal.json").write_bytes(damage)

    code, out, err = shell.once()
    assert (code, out) == (3, "")
    assert err.startswith(f"{reason}: its checksum is wrong")
    assert shell.container.ours == set()
    assert shell.run("gpu", "inspect")[0] == 3


INVENTORY = "apiVersion: podsla.io/v1beta1\nkind: NodeInventory\ngpus:\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("gpus: [", "this is not YAML", id="no YAML"),
        pytest.param(
            f"{INVENTORY}- {{uuid: GPU-0, path: /etc/gpu}}\n", "'/etc/gpu' does not have the form /dev", id="a path"
        ),
        pytest.param(
            f"{INVENTORY}- {{uuid: GPU-0, path: /dev/a, major: 10, minor: 1}}\n"
            "- {uuid: GPU-1, path: /dev/b, major: 10, minor: 1}\n",
            "has the same device as gpus[0]",
            id="two GPUs with one number",
        ),
        pytest.param(None, "can't be read", id="no file"),
    ],
)
def test_an_inventory_that_cannot_be_used_stops_it_and_changes_nothing(
    shell: Shell, text: str | None, said: str
) -> None:
    file, journal = shell.folder / "inventory.yaml", shell.folder / "state" / "journal.json"
    shell.want(desired(lent()))
    shell.once()
    before = journal.read_bytes(), set(shell.container.ours), dict(shell.container.dev)
    shell.want(desired(lent(), item(uid="u2", devices="[GPU-1]")))
    if text is not None:
        file.write_text(text)

    code, out, err = shell.once("--inventory", str(file))
    assert (code, out) == (3, "")
    assert f"{file}:" in err
    assert said in err
    assert (journal.read_bytes(), shell.container.ours, shell.container.dev) == before
    assert shell.run("gpu", "inspect", "--inventory", str(file))[0] == 3


def test_two_agents_do_not_work_at_once(shell: Shell) -> None:
    shell.want(desired(lent()))
    with FileStore(shell.folder / "state"):
        code, out, err = shell.once()

    assert (code, out) == (3, "")
    assert "another agent works with" in err


def test_once_or_watch_has_to_be_said(shell: Shell) -> None:
    code, _, err = shell.run("agent", "--desired", "x")

    assert code == 2
    assert "give --once for one pass, or --watch to go on" in err


def test_inspect_shows_rules_nodes_holders_and_the_journal(shell: Shell) -> None:
    shell.want(desired(lent()))
    shell.once()
    process = shell.node.spawn(shell.container.target)
    assert shell.node.open(process, gpu(0).node.rdev)
    code, out, _ = shell.run("gpu", "inspect")

    assert code == 0
    device, free, _, _, attachment = out.splitlines()[1:]
    assert device.split()[:6] == ["GPU-0", "/dev/nvidia0", "195:0", "Attached", "team-a/a", "u1"]
    assert f"{process.process.pid} (app, descriptor)" in device
    assert free.split()[:4] == ["GPU-1", "/dev/nvidia1", "195:1", "Free"]
    assert attachment.split()[:7] == ["u1", "team-a/a", "Attached", "Attached", "cgroup2", "ours", "ours"]


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_inspect_changes_nothing(shell: Shell, form: str) -> None:
    shell.want(desired(lent()))
    shell.once()
    del shell.container.dev["/dev/nvidia0"]
    shell.container.covered |= shell.container.ours
    journal = (shell.folder / "state" / "journal.json").read_bytes()
    code, out, _ = shell.run("gpu", "inspect", "-o", form)

    assert code == 0
    assert "Absent" in out
    assert (shell.folder / "state" / "journal.json").read_bytes() == journal
    assert "/dev/nvidia0" not in shell.container.dev


def test_inspect_opens_no_device_also_where_an_agent_is_about_to(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.want(desired(lent()))
    shell.node.troubled |= {"access"}
    shell.once()
    shell.node.troubled.clear()
    opened: list[DeviceNode] = []

    def access(_container: Container, at: DeviceNode) -> Access:
        opened.append(at)
        return Access.OPENS

    monkeypatch.setattr(shell.node, "access", access)
    (found,) = json.loads(shell.run("gpu", "inspect", "-o", "json")[1])["attachments"]

    assert (found["state"], set(found["rules"].values()), set(found["nodes"].values())) == (
        "Attaching",
        {True},
        {"Right"},
    )
    assert opened == []


def test_inspect_names_what_it_cannot_find_out(shell: Shell) -> None:
    shell.node.troubled |= {"holders"}
    found = json.loads(shell.run("gpu", "inspect", "-o", "json")[1])
    assert found["devices"][0]["holders"] == "DriverSilent: holders does not answer"

    shell.node.troubled |= {"gpus"}
    code, _, err = shell.run("gpu", "inspect")
    assert (code, err) == (0, "the devices can't be listed: DriverSilent: gpus does not answer\n")


def test_metrics_are_written_to_a_file(shell: Shell) -> None:
    shell.want(desired(lent()))
    file = shell.folder / "podsla.prom"
    shell.once("--metrics", str(file))

    lines = file.read_text().splitlines()
    assert 'podsla_attachments{state="Attached"} 1.0' in lines
    assert 'podsla_attach_steps_total{result="Done",step="Allow"} 1.0' in lines
    assert "podsla_attach_journal_usable 1.0" in lines


def test_every_metric_says_what_it_is() -> None:
    for metric in Metrics().registry.collect():
        assert metric.name.startswith("podsla_attach")
        assert metric.documentation.endswith(".")
