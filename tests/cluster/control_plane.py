"""EDGE: etcd, kube-apiserver, kube-controller-manager and kube-scheduler of one cluster."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.cluster.api import Admin
from tests.cluster.network import BRIDGE_ADDRESS, LOOPBACK, SERVICE_ADDRESS, SERVICE_CIDR
from tests.cluster.pki import Authority, write_kubeconfig, write_pair, write_service_account_keys
from tests.cluster.processes import READY_S, is_alive, start, stop, wait_ready
from tests.cluster.state import Cluster, Process

PORTS: Final = (
    *("etcd", "etcd-peer", "kube-apiserver", "kube-controller-manager", "kube-scheduler"),
    *("podsla-controller", "podsla-webhook"),  # where they run as processes beside the cluster
)
_CALLS: Final = ("--kube-api-qps=1000", "--kube-api-burst=2000")  # the defaults, 20 and 30, delay tests
_LOOPS: Final = ("kube-controller-manager", "kube-scheduler")
_WORKERS: Final = ("deployment", "replicaset", "daemonset", "job", "endpoint", "service-endpoint", "resource-quota")
# What our own service accounts do, from which a test derives the least privileges; how pods were admitted; no more.
_AUDIT_POLICY: Final[Mapping[str, Any]] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {
            "level": "Metadata",
            "userGroups": ["system:serviceaccounts:podsla-system", "system:serviceaccounts:podsla-agents"],
        },
        {"level": "Metadata", "verbs": ["create"], "resources": [{"group": "", "resources": ["pods"]}]},
        {"level": "None"},
    ],
}


def start_control_plane(cluster: Cluster, binaries: Mapping[str, Path], report: Callable[[str], None]) -> None:
    """
    Start the control plane and return once it takes pods.

    Raises:
        ClusterError: A component ended or did not become ready; the end of its log is in the message.
    """
    write_credentials(cluster)
    run_control_plane(cluster, binaries, report)


def run_control_plane(cluster: Cluster, binaries: Mapping[str, Path], report: Callable[[str], None]) -> None:
    """Start it with the credentials and on the data that are there, and return once it takes pods."""
    report("etcd")
    _start_etcd(cluster, binaries["etcd"])
    report("kube-apiserver")
    _start_api_server(cluster, binaries["kube-apiserver"])
    report("kube-controller-manager and kube-scheduler")
    _start_loops(cluster, binaries)


def kill_control_plane(cluster: Cluster) -> None:
    """End all of it at once, as a power cut does; its data stays."""
    for name in (*_LOOPS, "kube-apiserver", "etcd"):
        stop(_running(cluster, name), grace_s=0.0)


def copy_etcd(cluster: Cluster, into: Path) -> None:
    """Copy what etcd has on its disk as of one moment, in which it stands still."""
    process = _running(cluster, "etcd")
    os.kill(process.pid, signal.SIGSTOP)
    try:
        shutil.copytree(cluster.data / "etcd", into)
    finally:
        os.kill(process.pid, signal.SIGCONT)


def restore_etcd(cluster: Cluster, copy: Path, binaries: Mapping[str, Path]) -> None:
    """End the control plane and start it again on a copy of its data: what came after that is not known any more."""
    kill_control_plane(cluster)
    shutil.rmtree(cluster.data / "etcd")
    shutil.copytree(copy, cluster.data / "etcd")
    run_control_plane(cluster, binaries, lambda _: None)


def restart_etcd(cluster: Cluster, binary: Path) -> None:
    """Stop etcd and start it again on its data; the API server stays."""
    stop(_running(cluster, "etcd"))
    _start_etcd(cluster, binary)


def restart_api_server(cluster: Cluster, binary: Path) -> None:
    """Stop the API server and start it again."""
    stop(_running(cluster, "kube-apiserver"), grace_s=30.0)
    _start_api_server(cluster, binary, deadline_s=3 * READY_S)  # clients by the dozen are at its door already


def _running(cluster: Cluster, name: str) -> Process:
    found = [made for made in cluster.journal.read() if isinstance(made, Process) and made.name == name]
    return next(made for made in reversed(found) if is_alive(made))


def write_credentials(cluster: Cluster) -> None:
    """Write keys, certificates and kubeconfigs of every component into the cluster's `pki` folder."""
    authority, front_proxy = Authority.create("podsla-test-ca"), Authority.create("podsla-test-front-proxy-ca")
    folder = cluster.pki
    write_pair(folder, "ca", authority.pair)
    write_pair(folder, "front-proxy-ca", front_proxy.pair)
    write_service_account_keys(folder)
    write_pair(folder, "front-proxy-client", front_proxy.issue("front-proxy-client"))
    kubelet_client = authority.issue("kube-apiserver-kubelet-client", organizations=["system:masters"])
    write_pair(folder, "apiserver-kubelet-client", kubelet_client)
    service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
    addresses = sorted({LOOPBACK, SERVICE_ADDRESS, cluster.address})
    write_pair(folder, "apiserver", authority.issue("kube-apiserver", dns=["localhost", *service], addresses=addresses))
    admin = authority.issue("admin", organizations=["system:masters"])
    write_pair(folder, "admin", admin)
    loops = {name: authority.issue(f"system:{name}", addresses=[LOOPBACK]) for name in _LOOPS}
    for name, pair in loops.items():
        write_pair(folder, name, pair)
    files = {folder / f"{name}.kubeconfig": pair for name, pair in loops.items()} | {cluster.kubeconfig: admin}
    for path, pair in files.items():
        write_kubeconfig(path, cluster=cluster.name, server=cluster.server, ca=authority.pair.certificate, pair=pair)


def _start_etcd(cluster: Cluster, binary: Path) -> None:
    client, peer = (f"http://{LOOPBACK}:{cluster.ports[name]}" for name in ("etcd", "etcd-peer"))
    flags = [
        f"--data-dir={cluster.data / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]
    process = start(cluster, "etcd", [binary, *flags])
    wait_ready(cluster, "etcd answers", partial(Admin(cluster).answers, f"{client}/health"), process)


def _start_api_server(cluster: Cluster, binary: Path, *, deadline_s: float = READY_S) -> None:
    policy = cluster.data / "audit-policy.json"
    policy.write_text(json.dumps(_AUDIT_POLICY))
    process = start(cluster, "kube-apiserver", [binary, *_api_server_flags(cluster, policy)])
    admin = Admin(cluster)
    ready = partial(admin.answers, f"{cluster.server}/readyz")
    wait_ready(cluster, "kube-apiserver is ready", ready, process, deadline_s=deadline_s)


def _api_server_flags(cluster: Cluster, audit_policy: Path) -> list[str]:
    pki = cluster.pki
    real = cluster.address == BRIDGE_ADDRESS
    return [
        f"--etcd-servers=http://{LOOPBACK}:{cluster.ports['etcd']}",
        f"--bind-address={cluster.address}",
        f"--advertise-address={cluster.address}",
        f"--secure-port={cluster.ports['kube-apiserver']}",
        # The API server refuses to publish a loopback address for the Service `kubernetes`.
        f"--endpoint-reconciler-type={'lease' if real else 'none'}",
        f"--cert-dir={cluster.data / 'apiserver'}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--service-account-key-file={pki / 'sa.pub'}",
        f"--service-account-signing-key-file={pki / 'sa.key'}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        f"--kubelet-client-certificate={pki / 'apiserver-kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'apiserver-kubelet-client.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={pki / 'front-proxy-ca.crt'}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki / 'front-proxy-client.crt'}",
        f"--proxy-client-key-file={pki / 'front-proxy-client.key'}",
        "--enable-aggregator-routing",  # webhooks are called at their endpoints, so no kube-proxy is needed
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--audit-policy-file={audit_policy}",
        f"--audit-log-path={cluster.folder / 'log' / 'audit.jsonl'}",
        "--audit-log-maxsize=0",  # one file, whole, for the tests that read it
        *(_UNLIMITED if cluster.profile.unlimited else ()),
    ]


_UNLIMITED: Final = (
    "--max-requests-inflight=0",
    "--max-mutating-requests-inflight=0",
    "--enable-priority-and-fairness=false",
)


def _start_loops(cluster: Cluster, binaries: Mapping[str, Path]) -> None:
    flags = (_manager_flags(cluster), _scheduler_flags(cluster))
    manager, scheduler = (start(cluster, name, [binaries[name], *of]) for name, of in zip(_LOOPS, flags, strict=True))
    admin = Admin(cluster)
    for process in (manager, scheduler):
        url = f"https://{LOOPBACK}:{cluster.ports[process.name]}/healthz"
        wait_ready(cluster, f"{process.name} is healthy", partial(admin.answers, url), process)
    account = f"{cluster.server}/api/v1/namespaces/default/serviceaccounts/default"
    wait_ready(cluster, "namespace default has its service account", lambda: admin.answers(account), manager)


def _manager_flags(cluster: Cluster) -> list[str]:
    pki = cluster.pki
    return [
        *_own_port(cluster, "kube-controller-manager"),
        f"--kubeconfig={pki / 'kube-controller-manager.kubeconfig'}",
        f"--root-ca-file={pki / 'ca.crt'}",
        f"--service-account-private-key-file={pki / 'sa.key'}",
        f"--cluster-signing-cert-file={pki / 'ca.crt'}",
        f"--cluster-signing-key-file={pki / 'ca.key'}",
        "--use-service-account-credentials",
        "--leader-elect=false",
        *_CALLS,
        *(f"--concurrent-{kind}-syncs=20" for kind in _WORKERS),
        "--node-monitor-period=2s",
        "--resource-quota-sync-period=30s",
    ]


def _scheduler_flags(cluster: Cluster) -> list[str]:
    config = cluster.data / "scheduler.json"
    kubeconfig = str(cluster.pki / "kube-scheduler.kubeconfig")
    written = {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": kubeconfig, "qps": 1000, "burst": 2000},
        "leaderElection": {"leaderElect": False},
        "podMaxBackoffSeconds": 2,
    }
    config.write_text(json.dumps(written))
    return [*_own_port(cluster, "kube-scheduler"), f"--config={config}"]


def _own_port(cluster: Cluster, name: str) -> list[str]:
    kubeconfig = cluster.pki / f"{name}.kubeconfig"
    return [
        f"--bind-address={LOOPBACK}",
        f"--secure-port={cluster.ports[name]}",
        f"--tls-cert-file={cluster.pki / f'{name}.crt'}",
        f"--tls-private-key-file={cluster.pki / f'{name}.key'}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
    ]
