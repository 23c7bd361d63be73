"""`podsla doctor`: what is wrong with podsla in a cluster, and what to do."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from catalog.lint import Severity
from podsla.health.findings import Finding, Reason, Snapshot
from podsla.options import cluster_options, output_option
from podsla.output import REFUSED, print_table, print_value, say, styled
from podsla.summary import counted

NOT_FOUND: Final = 404
_STYLES: Final = {Severity.ERROR: "bad", Severity.WARNING: "warn"}


@click.command("doctor")
@cluster_options
@output_option("table", "json", "yaml", default="table")
def doctor_command(kubeconfig: Path | None, context: str | None, namespace: str, form: str) -> None:
    """Say what is wrong with podsla in a cluster, and what to do.

    Looks at the webhook (is it called, does its certificate fit, does somebody answer), the controller's Lease, the
    CRD, catalogues and target, what nodes publish, whether some node can hold each class, default classes of
    namespaces, and pods. Reads only; what you may not read is named and not judged.

    Exit code 1: there is an error. Warnings alone are exit code 0.

    \b
      podsla doctor
      podsla doctor -o json
    """
    found = examine(take_snapshot(kubeconfig, context, namespace))
    if form != "table":
        print_value([_dump(one) for one in found], form)
    else:
        _print(found)
    if any(one.severity is Severity.ERROR for one in found):
        raise click.exceptions.Exit(REFUSED)


def examine(snapshot: Snapshot) -> list[Finding]:
    """Judge everything; errors first."""
    from podsla.health.install import check_install
    from podsla.health.serving import check_serving

    installed = list(check_install(snapshot))
    nothing = any(one.reason in (Reason.NOT_INSTALLED, Reason.CRD_MISSING) for one in installed)
    return sorted({*installed, *(() if nothing else check_serving(snapshot))})


def take_snapshot(kubeconfig: Path | None, context: str | None, home: str) -> Snapshot:
    """Read everything that is judged, several things at once."""
    from podsla.cluster import connect, told

    seen = _Seen(connect(kubeconfig, context, None, home))
    calls = _calls(seen, home)
    with told():
        found: dict[str, Any] = dict(zip(calls, seen.reader.all(*calls.values()), strict=True))
    secrets = {key: (found[key] or {}).get("data") for key in ("ca", "leaf")}
    return Snapshot(home=home, now=datetime.now(UTC), hidden=frozenset(seen.hidden), **{**found, **secrets})


class _Seen:
    """Makes calls that may be forbidden, and remembers what of."""

    def __init__(self, reader: Any) -> None:
        self.reader, self.hidden = reader, set[str]()

    def call(self, what: str, call: Callable[[], Any], otherwise: Any) -> Callable[[], Any]:
        """Give *otherwise* where the call is forbidden, or its collection is not there, as before the CRD is."""
        from kube.api import ApiError
        from podsla.cluster import FORBIDDEN

        def run() -> Any:
            try:
                return call()
            except ApiError as error:
                if error.status not in (FORBIDDEN, NOT_FOUND):
                    raise
                if error.status == FORBIDDEN:
                    self.hidden.add(what)
                return otherwise

        return run

    def get(self, what: str, resource: Any, name: str, namespace: str = "") -> Callable[[], Any]:
        return self.call(what, lambda: self.reader.api.get(resource, name, namespace), None)

    def read(self, what: str, resource: Any, namespace: str = "", **selectors: str) -> Callable[[], Any]:
        return self.call(what, lambda: self.reader.read(resource, namespace, **selectors), ())


def _calls(seen: _Seen, home: str) -> dict[str, Callable[[], Any]]:
    """What to read for each field of a snapshot."""
    from kube import kinds
    from kube.api import Resource

    hooks, service, admission = "webhook configurations", "podsla-webhook", "admissionregistration.k8s.io/v1"
    crds = Resource("apiextensions.k8s.io/v1", "customresourcedefinitions")
    policies, services = Resource(admission, "validatingadmissionpolicies"), Resource("v1", "services")
    return {
        "server": seen.call("version", lambda: seen.reader.api.call("GET", "/version")["gitVersion"], ""),
        "mutating": seen.get(hooks, kinds.MUTATING_WEBHOOKS, "podsla"),
        "validating": seen.get(hooks, kinds.VALIDATING_WEBHOOKS, "podsla"),
        "templates": seen.get(hooks, kinds.VALIDATING_WEBHOOKS, "podsla-templates"),
        "ca": seen.get("secrets", kinds.SECRETS, "podsla-ca", home),
        "leaf": seen.get("secrets", kinds.SECRETS, "podsla-webhook-tls", home),
        "service": seen.get("services", services, service, home),
        "slices": seen.read("endpoint slices", Resource("discovery.k8s.io/v1", "endpointslices"), home,
                            labelSelector=f"kubernetes.io/service-name={service}"),
        "deployments": seen.read("deployments", Resource("apps/v1", "deployments"), home,
                                 labelSelector="app.kubernetes.io/part-of=podsla"),
        "lease": seen.get("leases", kinds.LEASES, "podsla-controller", home),
        "crd": seen.get("CRDs", crds, "speccatalogs.podsla.io"),
        "policy": seen.get("admission policies", policies, "podsla-sized-pods"),
        "catalogs": seen.read("catalogues", kinds.SPEC_CATALOGS),
        "revisions": seen.read("controller revisions", kinds.CONTROLLER_REVISIONS, home),
        "target": seen.get("config maps", kinds.CONFIG_MAPS, "podsla-target", home),
        "runtime_classes": seen.read("runtime classes", kinds.RUNTIME_CLASSES),
        "nodes": seen.read("nodes", kinds.NODES),
        "namespaces": seen.read("namespaces", kinds.NAMESPACES),
        "pods": seen.call("pods", seen.reader.running_pods, ()),
    }  # fmt: skip


def _print(found: list[Finding]) -> None:
    if not found:
        say(
            "all is well: installed whole, called, led; catalogues are served, and nodes hold every class", style="good"
        )
        return
    rows = [[styled(one.severity.value, _STYLES[one.severity]), one.reason.value, one.subject, one.message]
            for one in found]  # fmt: skip
    print_table(["severity", "reason", "subject", "what is so, and what to do"], rows)
    errors = sum(one.severity is Severity.ERROR for one in found)
    say(f"{counted(errors, 'error')}, {counted(len(found) - errors, 'warning')}", style="bad" if errors else "warn")


def _dump(one: Finding) -> dict[str, str]:
    return {
        "severity": one.severity.value,
        "reason": one.reason.value,
        "subject": one.subject,
        "message": one.message,
    }
