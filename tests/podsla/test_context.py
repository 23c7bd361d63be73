"""`--context` names which of a kubeconfig's clusters is asked."""

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.podsla.apiserver import api_server, kubeconfig, named
from tests.podsla.shell import Shell

pytestmark = pytest.mark.wire


@pytest.fixture
def two(shell: Shell) -> Iterator[str]:
    """A kubeconfig of two clusters, named as their one node is; the first one is the current context."""
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(api_server({"/api/v1/nodes": named(name, status={})}))
            for name in ("first", "second")
        }
        yield shell.file("config", kubeconfig(servers))


@pytest.mark.parametrize(
    ("options", "node"),
    [
        pytest.param((), "first", id="none named: the current one"),
        pytest.param(("--context", "first"), "first", id="the first"),
        pytest.param(("--context", "second"), "second", id="the second"),
    ],
)
def test_the_context_that_is_named_is_asked(shell: Shell, two: str, options: tuple[str, ...], node: str) -> None:
    ran = shell.run("top", "-o", "json", "--kubeconfig", two, *options)

    assert (ran.code, ran.err) == (0, "")
    assert [one["node"] for one in json.loads(ran.out)] == [node]


def test_one_that_is_not_there_is_an_error(shell: Shell, two: str) -> None:
    ran = shell.run("top", "--kubeconfig", two, "--context", "third")

    assert (ran.code, ran.out) == (3, "")
    assert "third" in ran.err
