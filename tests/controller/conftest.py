"""A bare API server with what manifests/ holds, and no process of podsla."""

from collections.abc import Iterator

import pytest

from controller.certificates import CA_SECRET, LEAF_SECRET
from controller.world import WEBHOOKS
from kube.api import Api, PatchKind
from kube.kinds import GPU_ATTACHMENTS, PODS, SECRETS
from tests.cluster.install import PODSLA, service_account_kubeconfig
from tests.cluster.own import own_cluster
from tests.cluster.state import load_cluster
from tests.controller.borrowing import GPUS, NAME, Lending, labels, namespace
from tests.manifests.kubectl import MANIFESTS, run
from tests.system.user import User


@pytest.fixture(scope="session")
def bare(request: pytest.FixtureRequest) -> Iterator[Api]:
    """The administrator's connection to it."""
    with own_cluster(request, "podsla-controller", "control-plane") as cluster:
        user = User(cluster, PODSLA)
        run(user, "apply", "--server-side", "-k", str(MANIFESTS / "overlays" / "outside"))
        run(
            user,
            "wait",
            "--for=condition=Established",
            "crd/speccatalogs.podsla.io",
            "crd/gpuattachments.podsla.io",
            "--timeout=30s",
        )
        yield user.api


@pytest.fixture
def uncertified(bare: Api) -> None:
    """Take away what keepers of certificates leave behind: the CA, the leaf, and the bundles."""
    for name in (CA_SECRET, LEAF_SECRET):
        bare.delete(SECRETS, name, "podsla-system")
    for kind, name in WEBHOOKS:
        hooks = bare.call("GET", kind.path(name=name))["webhooks"]
        paths = [
            f"/webhooks/{n}/clientConfig/caBundle" for n, hook in enumerate(hooks) if "caBundle" in hook["clientConfig"]
        ]
        bare.patch(kind, name, [{"op": "remove", "path": path} for path in paths], kind=PatchKind.JSON)


@pytest.fixture(scope="session")
def lent(request: pytest.FixtureRequest) -> Iterator[Lending]:
    """Three nodes, of one, of two and of no GPUs."""
    with own_cluster(request, NAME, "control-plane+kwok=1") as cluster:
        user = User(cluster, PODSLA)
        run(user, "apply", "--server-side", "-k", str(MANIFESTS / "overlays" / "outside"))
        # Nobody answers for the webhook here; that it leaves placeholders alone is shown in tests/attach.
        run(user, "delete", "mutatingwebhookconfiguration/podsla", "validatingwebhookconfiguration/podsla-templates")
        run(user, "wait", "--for=condition=Established", "crd/gpuattachments.podsla.io", "--timeout=30s")
        running = load_cluster(NAME)
        assert running is not None
        lending = Lending(user.api, Api.connect(service_account_kubeconfig(running, "podsla-controller")), user)
        for name, gpus in GPUS.items():
            lending.node(name, gpus)
        yield lending


@pytest.fixture
def lending(lent: Lending) -> Iterator[Lending]:
    """A namespace of its own; what is left in it afterwards is a leak."""
    lent.namespace = namespace(lent)
    yield lent
    left = [thing["metadata"]["name"] for thing in lent.api.list(PODS) if "podsla.io/placeholder" in labels(thing)]
    held = [thing for thing in lent.api.list(GPU_ATTACHMENTS) if "finalizers" in thing["metadata"]]
    for thing in held:
        where = thing["metadata"]["namespace"]
        lent.api.patch(GPU_ATTACHMENTS, thing["metadata"]["name"], {"metadata": {"finalizers": None}}, namespace=where)
    for name in left:
        lent.api.call("DELETE", PODS.path(lent.namespace, name), body={"gracePeriodSeconds": 0})
    for thing in lent.api.list(PODS, lent.namespace):
        lent.api.delete(PODS, thing["metadata"]["name"], lent.namespace)
    assert not left
    assert not held
