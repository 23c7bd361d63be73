"""The stand that everything happens to."""

from collections.abc import Iterator

import pytest

from tests.soak.stand import Stand, stand


@pytest.fixture(scope="package")
def made() -> Iterator[Stand]:
    """A control plane, two replicas, two controllers."""
    with stand("podsla-soak-test", lambda _: None) as made:
        yield made
