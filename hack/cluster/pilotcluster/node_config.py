"""Config files of a node's programs, as pure functions of the cluster's layout and addresses."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotcluster.paths import Layout
from pilotcluster.programs import DOMAIN, Endpoints

PAUSE_IMAGE = "pilotfish.dev/pause:1"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
CNI_FOLDERS = ("/usr/lib/cni", "/opt/cni/bin")
API_PORT, ETCD_PORT, ETCD_PEER_PORT = 6443, 2379, 2380
MAX_CLUSTERS = 16


@dataclass(frozen=True, slots=True)
class Addresses:
    """Networks of the cluster with this index: a link between machine and node, pods, services."""

    index: int

    @property
    def host(self) -> str:
        """The machine's end of the link."""
        return f"172.30.{self.index}.1"

    @property
    def node(self) -> str:
        """The node's end of the link: also the API server's address."""
        return f"172.30.{self.index}.2"

    @property
    def link(self) -> str:
        """Network of the link."""
        return f"172.30.{self.index}.0/30"

    @property
    def pods(self) -> str:
        """Network of the pods."""
        return f"10.244.{self.index}.0/24"

    @property
    def services(self) -> str:
        """Network of the services."""
        return f"10.96.{self.index}.0/24"

    @property
    def endpoints(self) -> Endpoints:
        """The control plane's addresses; it runs on the node."""
        return Endpoints(
            bind=self.node,
            api_port=API_PORT,
            etcd_port=ETCD_PORT,
            etcd_peer_port=ETCD_PEER_PORT,
            services=self.services,
        )


def node_name(cluster: str) -> str:
    """Name of the one node."""
    return f"{cluster}-node"


def cgroup_name(cluster: str) -> str:
    """Top folder of the cluster's control groups, in every hierarchy."""
    return f"pilotfish-{cluster}"


def make_kubelet_config(layout: Layout, addresses: Addresses) -> dict[str, Any]:
    """The node agent's settings, with what machines without systemd, swap rules or cgroup v2 need."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": addresses.node,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.certificate("ca"))},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(layout.certificate("kubelet")),
        "tlsPrivateKeyFile": str(layout.key("kubelet")),
        "clusterDomain": DOMAIN,
        "clusterDNS": [addresses.endpoints.service_dns],
        "resolvConf": str(layout.config / "resolv.conf"),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup_name(layout.name)}",
        # What a real node has: no pod starts processes without end.
        "podPidsLimit": 4096,
        "failCgroupV1": False,
        "failSwapOn": False,
        # The kubelet cannot find the figures of every kind of root device.
        "localStorageCapacityIsolation": False,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "oomScoreAdj": 0,
        "readOnlyPort": 0,
        "volumePluginDir": str(layout.folder / "volume-plugins"),
    }


def make_proxy_config(layout: Layout, addresses: Addresses) -> dict[str, Any]:
    """kube-proxy with iptables, leaving the machine's connection tracking limits alone."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clusterCIDR": addresses.pods,
        "hostnameOverride": node_name(layout.name),
        "clientConnection": {"kubeconfig": str(layout.client("kube-proxy"))},
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
            "udpTimeout": "0s",
            "udpStreamTimeout": "0s",
        },
        "iptables": {"minSyncPeriod": "0s", "syncPeriod": "30s"},
        "oomScoreAdj": 0,
    }


def make_cni_config(addresses: Addresses, *, data: Path) -> dict[str, Any]:
    """Each pod hangs on a wire of its own: no bridge, so no kernel module for filtering on one."""
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": True,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(data),
                    "ranges": [[{"subnet": addresses.pods}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def make_containerd_config(layout: Layout, *, runc: str, registry: str) -> str:
    """Settings of containerd; `registry` is the folder of its per-registry host files."""
    folders = ", ".join(f'"{folder}"' for folder in CNI_FOLDERS)
    return f"""version = 3
root = "{layout.images}"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{PAUSE_IMAGE}"

[plugins.'io.containerd.cri.v1.images'.registry]
  config_path = "{registry}"

[plugins.'io.containerd.cri.v1.runtime']
  # A machine without CAP_SYS_RESOURCE cannot lower the score, and every sandbox would fail.
  restrict_oom_score_adj = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = [{folders}]
  conf_dir = "{layout.config / "cni"}"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  BinaryName = "{runc}"
  SystemdCgroup = false
"""


def make_corefile(layout: Layout, *, upstream: list[str]) -> str:
    """Names of services, and everything else from the machine's own servers when it has any that a node reaches."""
    forward = f"    forward . {' '.join(upstream)}\n" if upstream else ""
    return f""".:53 {{
    errors
    health 127.0.0.1:8080
    ready 127.0.0.1:8181
    cache 5
    kubernetes {DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {layout.client("coredns")}
        ttl 5
    }}
{forward}}}
"""


def upstream_servers(*resolv_confs: str) -> list[str]:
    """Name servers of the first text that names any outside of loopback, which is another machine inside the node."""
    for text in resolv_confs:
        words = [line.split() for line in text.splitlines()]
        servers = [word[1] for word in words if len(word) > 1 and word[0] == "nameserver"]
        outside = [server for server in servers if not server.startswith("127.") and ":" not in server]
        if outside:
            return outside
    return []


def write_configs(layout: Layout, addresses: Addresses, *, runc: str, upstream: list[str]) -> None:
    """Write every file that the node's command lines name."""
    files = {
        "kubelet.json": json.dumps(make_kubelet_config(layout, addresses), indent=1),
        "kube-proxy.json": json.dumps(make_proxy_config(layout, addresses), indent=1),
        "cni/10-pods.conflist": json.dumps(make_cni_config(addresses, data=layout.folder / "cni"), indent=1),
        "containerd.toml": make_containerd_config(layout, runc=runc, registry=str(layout.config / "registries")),
        "Corefile": make_corefile(layout, upstream=upstream),
        "resolv.conf": "".join(f"nameserver {server}\n" for server in upstream),
    }
    for name, text in files.items():
        target = layout.config / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
