"""What the processes may do, as a real API server judges it."""

import pytest

from tests.manifests.kubectl import MANIFESTS, run
from tests.system.user import User

pytestmark = pytest.mark.cluster
IN, OUT = "podsla-system", "default"


@pytest.fixture(scope="module")
def roles(admin: User) -> None:
    """Namespace, accounts and roles."""
    run(admin, "apply", "-f", str(MANIFESTS / "base/namespace.yaml"))
    run(admin, "apply", "-f", str(MANIFESTS / "base/rbac"))


@pytest.mark.usefixtures("roles", "crd")
@pytest.mark.parametrize(
    ("process", "verb", "resource", "namespace", "may"),
    [
        pytest.param("webhook", "watch", "namespaces", OUT, True, id="webhook: knows namespaces"),
        pytest.param("webhook", "watch", "controllerrevisions", IN, True, id="webhook: serves what was accepted"),
        pytest.param("webhook", "get", "secret/podsla-webhook-tls", IN, True, id="webhook: reads its certificate"),
        pytest.param("webhook", "get", "secret/podsla-ca", IN, False, id="webhook: never the CA's key"),
        pytest.param("webhook", "list", "secrets", IN, False, id="webhook: no list of Secrets"),
        pytest.param("webhook", "get", "secret/podsla-webhook-tls", OUT, False, id="webhook: no Secret elsewhere"),
        pytest.param("webhook", "watch", "pods", OUT, False, id="webhook: sees pods in reviews only"),
        pytest.param("webhook", "create", "controllerrevisions", IN, False, id="webhook: writes nothing"),
        pytest.param("controller", "patch", "speccatalogs/status", OUT, True, id="controller: writes the status"),
        pytest.param("controller", "patch", "speccatalogs", OUT, False, id="controller: never the spec"),
        pytest.param("controller", "patch", "nodes/status", OUT, True, id="controller: publishes capacity"),
        pytest.param("controller", "patch", "nodes", OUT, False, id="controller: cordons and taints no node"),
        pytest.param("controller", "delete", "nodes", OUT, False, id="controller: deletes no node"),
        pytest.param("controller", "update", "secret/podsla-ca", IN, True, id="controller: renews the CA"),
        pytest.param("controller", "get", "secret/other", IN, False, id="controller: no other Secret"),
        pytest.param("controller", "create", "secrets", OUT, False, id="controller: no Secret elsewhere"),
        pytest.param("controller", "create", "events.events.k8s.io", OUT, True, id="controller: tells of catalogues"),
        pytest.param(
            "controller", "patch", "mutatingwebhookconfiguration/podsla", OUT, True, id="controller: its CA bundle"
        ),
        pytest.param(
            "controller", "patch", "mutatingwebhookconfiguration/istio", OUT, False, id="controller: nobody else's"
        ),
        pytest.param("controller", "create", "pods", OUT, True, id="controller: makes placeholders, a policy says"),
        pytest.param("controller", "patch", "pods", OUT, True, id="controller: hands over warm ones, a policy says"),
        pytest.param("controller", "update", "pods", OUT, False, id="controller: changes no pod otherwise"),
        pytest.param("controller", "patch", "pods/status", OUT, False, id="controller: says nothing of pods"),
        pytest.param(
            "controller", "patch", "gpuattachments/status", OUT, True, id="controller: says what became of one"
        ),
        pytest.param("controller", "create", "gpuattachments", OUT, False, id="controller: borrows nothing itself"),
    ],
)
def test_a_process_may_do_what_it_does_and_no_more(
    admin: User, process: str, verb: str, resource: str, namespace: str, may: bool
) -> None:
    kind, _, rest = resource.partition("/")
    what = (kind, "--subresource=status") if rest == "status" else (resource,)
    account = f"system:serviceaccount:podsla-system:podsla-{process}"
    done = admin.kubectl("auth", "can-i", verb, *what, "-n", namespace, "--as", account)
    assert done.stdout.strip().partition(" ")[0] == ("yes" if may else "no"), done.stderr


@pytest.mark.usefixtures("roles")
@pytest.mark.parametrize("file", ["cluster-autoscaler/rbac.yaml", "gpu-attach/controller.yaml"])
def test_the_controller_changes_nodes_where_a_component_lets_it(admin: User, file: str) -> None:
    """And does nothing else with them."""
    account = "system:serviceaccount:podsla-system:podsla-controller"
    path = str(MANIFESTS / "components" / file)
    run(admin, "apply", "-f", path)
    try:
        may = {
            verb: admin.kubectl("auth", "can-i", verb, "nodes", "--as", account).stdout.strip().partition(" ")[0]
            for verb in ("patch", "update", "create", "delete")
        }
    finally:
        run(admin, "delete", "-f", path)
    assert may == {"patch": "yes", "update": "no", "create": "no", "delete": "no"}


@pytest.mark.usefixtures("roles", "crd")
def test_one_configuration_is_watched_by_its_name_alone(admin: User) -> None:
    """RBAC takes a field selector for a name, so that no right over those of others is needed."""
    account = ("--as", "system:serviceaccount:podsla-system:podsla-controller")
    path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
    run(admin, "get", "--raw", f"{path}?fieldSelector=metadata.name%3Dpodsla", *account)
    assert "cannot list resource" in admin.kubectl("get", "--raw", path, *account).stderr
