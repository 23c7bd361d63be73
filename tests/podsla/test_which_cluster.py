"""Whom `classes`, `admit -f` and `explain -f` ask: where a cluster is named, that one and nobody else."""

import re
from typing import Final

import pytest

from tests.podsla.shell import POD, Shell

COMMANDS: Final = (("classes",), ("admit", "-f", "pod.yaml"), ("explain", "-f", "pod.yaml"))


@pytest.fixture(params=["KUBECONFIG", "home", "option"])
def named(request: pytest.FixtureRequest, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Name a cluster that is nowhere; what the command line says of it."""
    shell.file("pod.yaml", POD)
    config = shell.folder / shell.file("config", "{}")
    if request.param == "KUBECONFIG":
        monkeypatch.setenv("KUBECONFIG", str(config))
    elif request.param == "home":
        (shell.folder / ".kube").mkdir()
        config.rename(shell.folder / ".kube/config")
        monkeypatch.setenv("HOME", str(shell.folder))
    return ("--kubeconfig", str(config)) if request.param == "option" else ()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
def test_one_that_is_named_and_cannot_be_found_ends_it(
    shell: Shell, named: tuple[str, ...], command: tuple[str, ...]
) -> None:
    ran = shell.run(*command, *named)

    assert (ran.code, ran.out) == (3, "")
    assert re.match("finding a cluster: .*config: Invalid kube-config file", ran.err)
    assert ran.err.endswith("; --target kubernetes asks the shipped catalogue and no cluster\n")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
@pytest.mark.parametrize("files", [("--target", "kubernetes"), ("--catalog", "ecs", "--catalog", "classes")])
def test_files_mean_no_cluster(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], files: tuple[str, ...]
) -> None:
    shell.file("pod.yaml", POD)
    monkeypatch.setenv("KUBECONFIG", str(shell.folder / "gone"))

    assert shell.run(*command, *files).code == 0
    both = shell.run(*command, *files, "--context", "x")
    assert (both.code, "mean files, and no cluster" in both.err) == (2, True)


def test_a_running_pod_is_not_judged_by_files(shell: Shell) -> None:
    ran = shell.run("explain", "pod", "web", "--target", "kubernetes")

    assert (ran.code, "leave out --catalog and --target" in ran.err) == (2, True)
