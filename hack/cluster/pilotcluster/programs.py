"""Command lines of a cluster's programs, as pure functions of where things are and which addresses they use."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pilotcluster.paths import Layout

DOMAIN = "cluster.local"
XDS_PORT = 18003
METRICS_PORT = 18004


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Addresses of a control plane; the services network is a CIDR, ports are on `bind`."""

    bind: str
    api_port: int
    etcd_port: int
    etcd_peer_port: int
    services: str

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://{self.bind}:{self.api_port}"

    @property
    def service_api(self) -> str:
        """Address of the `kubernetes` Service: the first of the services network."""
        return self.services.rpartition("/")[0].rpartition(".")[0] + ".1"

    @property
    def service_dns(self) -> str:
        """Address of the DNS Service."""
        return self.services.rpartition("/")[0].rpartition(".")[0] + ".10"


def etcd(layout: Layout, kube: Path, endpoints: Endpoints) -> list[str]:
    """The database; it does not wait for the disk, since a cluster that died is thrown away."""
    client = f"https://127.0.0.1:{endpoints.etcd_port}"
    peer = f"https://127.0.0.1:{endpoints.etcd_peer_port}"
    trust = str(layout.certificate("etcd-ca"))
    certificate, key = str(layout.certificate("etcd")), str(layout.key("etcd"))
    return [
        str(kube), "etcd", "--name=etcd", f"--data-dir={layout.folder / 'etcd'}", "--unsafe-no-fsync",
        f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=etcd={peer}",
        f"--cert-file={certificate}", f"--key-file={key}", "--client-cert-auth", f"--trusted-ca-file={trust}",
        f"--peer-cert-file={certificate}", f"--peer-key-file={key}", "--peer-client-cert-auth",
        f"--peer-trusted-ca-file={trust}", "--log-level=warn",
    ]  # fmt: skip


def apiserver(layout: Layout, kube: Path, endpoints: Endpoints) -> list[str]:
    """The API server with what a production cluster has on: Node and RBAC authorizers, NodeRestriction."""
    return [
        str(kube), "kube-apiserver",
        f"--bind-address={endpoints.bind}", f"--advertise-address={endpoints.bind}",
        f"--secure-port={endpoints.api_port}", f"--service-cluster-ip-range={endpoints.services}",
        f"--etcd-servers=https://127.0.0.1:{endpoints.etcd_port}", f"--etcd-cafile={layout.certificate('etcd-ca')}",
        f"--etcd-certfile={layout.certificate('etcd')}", f"--etcd-keyfile={layout.key('etcd')}",
        f"--tls-cert-file={layout.certificate('apiserver')}", f"--tls-private-key-file={layout.key('apiserver')}",
        f"--client-ca-file={layout.certificate('ca')}",
        f"--kubelet-certificate-authority={layout.certificate('ca')}",
        f"--kubelet-client-certificate={layout.certificate('apiserver-kubelet')}",
        f"--kubelet-client-key={layout.key('apiserver-kubelet')}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-key-file={layout.certificates / 'service-accounts.pub'}",
        f"--service-account-signing-key-file={layout.key('service-accounts')}",
        f"--service-account-issuer=https://kubernetes.default.svc.{DOMAIN}",
        # For servers that serve a part of the API: the calls that it passes on say who asked.
        f"--requestheader-client-ca-file={layout.certificate('front-proxy-ca')}",
        "--requestheader-allowed-names=front-proxy-client", "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group", "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={layout.certificate('front-proxy-client')}",
        f"--proxy-client-key-file={layout.key('front-proxy-client')}", "--enable-aggregator-routing=true",
        "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true", "--anonymous-auth=true", "--endpoint-reconciler-type=lease",
    ]  # fmt: skip


def controller_manager(layout: Layout, kube: Path) -> list[str]:
    """The controllers; each uses its own service account, as RBAC expects."""
    client = layout.client("controller-manager")
    return [
        str(kube), "kube-controller-manager", f"--kubeconfig={client}", f"--authentication-kubeconfig={client}",
        f"--authorization-kubeconfig={client}", "--use-service-account-credentials",
        f"--service-account-private-key-file={layout.key('service-accounts')}",
        f"--root-ca-file={layout.certificate('ca')}", "--leader-elect=false", "--secure-port=0",
        f"--cluster-signing-cert-file={layout.certificate('ca')}", f"--cluster-signing-key-file={layout.key('ca')}",
        # With the default of 20 requests a second, fetching one token for each controller takes four seconds.
        "--kube-api-qps=500", "--kube-api-burst=1000",
    ]  # fmt: skip


def scheduler(layout: Layout, kube: Path) -> list[str]:
    """The scheduler."""
    client = layout.client("scheduler")
    return [
        str(kube), "kube-scheduler", f"--kubeconfig={client}", f"--authentication-kubeconfig={client}",
        f"--authorization-kubeconfig={client}", "--leader-elect=false", "--secure-port=0",
    ]  # fmt: skip


def kubelet(layout: Layout, kube: Path, *, node: str, address: str) -> list[str]:
    """The node agent."""
    return [
        str(kube), "kubelet", f"--config={layout.config / 'kubelet.json'}", f"--kubeconfig={layout.client('kubelet')}",
        f"--hostname-override={node}", f"--node-ip={address}",
    ]  # fmt: skip


def kube_proxy(layout: Layout, kube: Path) -> list[str]:
    """The Service addresses."""
    return [str(kube), "kube-proxy", f"--config={layout.config / 'kube-proxy.json'}"]


def provisioner(layout: Layout, kube: Path) -> list[str]:
    """The volumes of the default storage class."""
    client = layout.client("provisioner")
    return [str(kube), "provisioner", f"--kubeconfig={client}", f"--root={layout.volumes}"]


def coredns(layout: Layout, program: Path) -> list[str]:
    """The cluster's names."""
    return [str(program), "-conf", str(layout.config / "Corefile")]


def containerd(layout: Layout, program: Path) -> list[str]:
    """The container runtime."""
    return [str(program), "--config", str(layout.config / "containerd.toml")]


def contour(program: Path, *, config: Path, kubeconfig: Path, address: str) -> list[str]:
    """The gateway's control plane; Envoy asks it on the node's loopback, the world sees `address`."""
    # Kinds of the experimental channel, which is not installed.
    without = [f"--disable-feature={kind}" for kind in ("tlsroutes", "tcproutes", "backendtlspolicies")]
    return [
        str(program), "serve", f"--config-path={config}", f"--kubeconfig={kubeconfig}", "--insecure",
        "--disable-leader-election", "--xds-address=127.0.0.1", f"--xds-port={XDS_PORT}",
        "--http-address=127.0.0.1", "--http-port=18000", "--health-address=127.0.0.1", "--health-port=18000",
        "--debug-http-address=127.0.0.1", "--debug-http-port=18001", "--stats-address=127.0.0.1", "--stats-port=18002",
        f"--envoy-service-http-address={address}", f"--envoy-service-https-address={address}",
        f"--ingress-status-address={address}", *without,
    ]  # fmt: skip


def metrics_server(layout: Layout, program: Path) -> list[str]:
    """What reads the node's figures and serves them as metrics.k8s.io."""
    client = layout.kubeconfig
    return [
        str(program), f"--kubeconfig={client}", f"--authentication-kubeconfig={client}",
        f"--authorization-kubeconfig={client}", f"--secure-port={METRICS_PORT}",
        f"--cert-dir={layout.folder / 'metrics-server'}", f"--kubelet-certificate-authority={layout.certificate('ca')}",
        "--kubelet-preferred-address-types=InternalIP", "--metric-resolution=15s",
    ]  # fmt: skip


def envoy(layout: Layout, program: Path, *, bootstrap: Path) -> list[str]:
    """The gateway's proxy."""
    return [
        str(program), "--config-path", str(bootstrap), "--service-cluster", "gateways", "--service-node", layout.name,
        "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning",
    ]  # fmt: skip


def inside(holder: int, layout: Layout, command: Sequence[str]) -> list[str]:
    """The command inside the node's mount, network and process namespaces, marked as ours by its folder."""
    enter = ["nsenter", f"--target={holder}", "--mount", "--net", "--pid", f"--wdns={layout.folder}/"]
    return [*enter, "--", *command]
