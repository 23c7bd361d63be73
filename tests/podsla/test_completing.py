"""What a shell, and kubectl, complete: names of what the cluster has, and nothing where it does not answer."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from podsla.commands.completion import plugin_main
from tests.cluster.install import PODSLA
from tests.podsla.apiserver import api_server, kubeconfig, named
from tests.podsla.shell import Shell

pytestmark = pytest.mark.wire

GROUP = "/apis/podsla.io/v1beta1"
THINGS = {
    "/api/v1/namespaces": named("edge", "edge-2", "other"),
    "/api/v1/namespaces/edge/pods": named("relay-a", "relay-b", "trader"),
    "/api/v1/namespaces/default/pods": named("in-default"),
    f"{GROUP}/speccatalogs": named("platform", spec={"classes": [{"name": "net"}, {"name": "general"}]}),
    f"{GROUP}/namespaces/edge/gpuattachments": named("relay-a-1"),
}


@pytest.fixture
def config(shell: Shell) -> Iterator[Path]:
    """A kubeconfig of a cluster with a few objects."""
    with api_server(THINGS) as url:
        yield shell.folder / shell.file("config", kubeconfig({"here": url}))


@pytest.mark.parametrize(
    ("command", "words", "expected"),
    [
        pytest.param(("why",), ("-n", "ed"), ["edge", "edge-2"], id="namespaces"),
        pytest.param(
            ("why",), ("-n", "edge", ""), ["relay-a", "relay-b", "trader"], id="pods of the one that is named"
        ),
        pytest.param(("why",), ("",), ["in-default"], id="pods of that of the context"),
        pytest.param(("explain",), ("-n", "edge", "p"), ["pod"], id="the word before a pod"),
        pytest.param(("explain",), ("-n", "edge", "pod", "tr"), ["trader"], id="the pod after it"),
        pytest.param(("explain",), ("-f", "x.yaml", "--class", "n"), ["net"], id="classes of an option"),
        pytest.param(("classes",), ("",), ["general", "net"], id="classes"),
        pytest.param(("catalog", "history"), ("",), ["platform"], id="catalogues"),
        pytest.param(("gpu", "wait"), ("-n", "edge", ""), ["relay-a-1"], id="attachments"),
    ],
)
def test_names_are_those_of_the_cluster(
    config: Path,
    capsys: pytest.CaptureFixture[str],
    command: tuple[str, ...],
    words: tuple[str, ...],
    expected: list[str],
) -> None:
    plugin_main([*command, "--kubeconfig", str(config), *words])

    *found, directive = capsys.readouterr().out.splitlines()
    assert ([line.partition("\t")[0] for line in found], directive) == (expected, ":4")


def test_where_a_file_is_wanted_the_shell_completes_files(capsys: pytest.CaptureFixture[str]) -> None:
    plugin_main(["catalog", "lint", ""])

    assert capsys.readouterr().out == ":0\n"


def test_a_cluster_that_does_not_answer_completes_nothing_and_says_nothing(
    shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    over = Event()
    with api_server(THINGS, before=lambda: over.wait(6)) as url:  # any command would have waited for this answer
        slow = shell.file("slow", kubeconfig({"here": url}))
        plugin_main(["why", "--kubeconfig", slow, ""])
        over.set()
    gone = shell.file("gone", kubeconfig({"here": "http://127.0.0.1:9"}))
    plugin_main(["why", "--kubeconfig", gone, ""])

    captured = capsys.readouterr()
    assert (captured.out, captured.err) == (":0\n:0\n", "")


def test_kubectl_finds_what_completes_the_plugin(config: Path) -> None:
    """It looks for this name on the PATH, and calls it with all words after its own."""
    program = PODSLA.parent / "kubectl_complete-podsla"
    env = {**os.environ, "KUBECONFIG": str(config)}

    done = subprocess.run([program, "why", "-n", "edge", "relay"], env=env, capture_output=True, text=True, check=True)

    assert (done.stdout, done.stderr) == ("relay-a\nrelay-b\n:4\n", "")
