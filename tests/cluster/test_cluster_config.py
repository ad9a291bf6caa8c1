"""What the cluster's programs are told, without starting any."""

import hashlib
import ipaddress
import json
import tarfile
from pathlib import Path

import pytest
from pilotcluster import api, bootstrap, certificates, images, node, node_config, pause_image, programs, sandbox
from pilotcluster.console import ClusterError
from pilotcluster.node_config import Addresses
from pilotcluster.paths import Layout, layout_of
from pilotcluster.programs import Endpoints

LAYOUT = Layout(name="x", folder=Path("/state/x"))
ENDPOINTS = Endpoints(bind="127.0.0.1", api_port=1, etcd_port=2, etcd_peer_port=3, services="10.96.7.0/24")


def test_api_server_has_what_production_has():
    command = programs.apiserver(LAYOUT, Path("/kube"), ENDPOINTS)
    assert "--authorization-mode=Node,RBAC" in command
    assert "--enable-admission-plugins=NodeRestriction" in command
    assert "--kubelet-certificate-authority=/state/x/pki/ca.crt" in command


def test_nobody_reads_the_database_without_its_own_certificate():
    command = programs.etcd(LAYOUT, Path("/kube"), ENDPOINTS)
    assert "--client-cert-auth" in command
    assert "--peer-client-cert-auth" in command
    assert "--trusted-ca-file=/state/x/pki/etcd-ca.crt" in command
    by_authority = {item.name: item.authority for item in certificates.api_certificates(addresses=("127.0.0.1",))}
    assert [name for name, authority in by_authority.items() if authority == "etcd-ca"] == ["etcd"]


def test_service_addresses_come_from_the_services_network():
    assert (ENDPOINTS.service_api, ENDPOINTS.service_dns) == ("10.96.7.1", "10.96.7.10")
    [service, endpoints] = bootstrap.make_dns(ENDPOINTS, node="x-node")
    assert service["spec"]["clusterIP"] == "10.96.7.10"
    assert endpoints["endpoints"][0]["addresses"] == ["127.0.0.1"]


def test_clusters_share_no_network():
    all_networks = [
        ipaddress.ip_network(text)
        for index in range(node_config.MAX_CLUSTERS)
        for text in (Addresses(index).link, Addresses(index).pods, Addresses(index).services)
    ]
    overlaps = [(a, b) for i, a in enumerate(all_networks) for b in all_networks[i + 1 :] if a.overlaps(b)]
    assert overlaps == []


@pytest.mark.parametrize(
    ("routes", "index"),
    [
        ([], 0),
        ([{"dst": "default"}, {"dst": "192.0.2.0/24"}], 0),
        ([{"dst": "172.30.0.0/30"}], 1),
        ([{"dst": "10.244.0.0/23"}], 2),
        ([{"dst": "10.96.0.5"}], 1),
    ],
)
def test_a_cluster_takes_the_first_networks_that_nobody_uses(routes, index):
    assert node.free_index(routes) == index


def test_when_all_networks_are_taken_the_error_says_what_to_do():
    with pytest.raises(ClusterError, match="cluster down --name"):
        node.free_index([{"dst": "10.0.0.0/8"}])


def test_kubelet_asks_who_calls():
    config = node_config.make_kubelet_config(LAYOUT, Addresses(0))
    assert config["authentication"]["anonymous"] == {"enabled": False}
    assert config["authorization"] == {"mode": "Webhook"}
    assert config["cgroupRoot"] == "/pilotfish-x"


def test_no_pod_starts_processes_without_end():
    assert node_config.make_kubelet_config(LAYOUT, Addresses(0))["podPidsLimit"] == 4096


def test_containerd_uses_the_runc_it_is_given_and_our_pause_image():
    text = node_config.make_containerd_config(LAYOUT, runc="/sbin/runc", registry="/r")
    assert 'BinaryName = "/sbin/runc"' in text
    assert f'sandbox = "{node_config.PAUSE_IMAGE}"' in text
    assert "restrict_oom_score_adj = true" in text


@pytest.mark.parametrize(
    ("texts", "servers"),
    [
        (("nameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch x\n",), ["10.0.0.1", "10.0.0.2"]),
        (("nameserver 127.0.0.53\n", "nameserver 192.0.2.1\n"), ["192.0.2.1"]),
        (("nameserver 127.0.0.1\n",), []),
        (("nameserver fe80::1\n",), []),
        (("# nothing\n\n",), []),
    ],
)
def test_a_node_is_only_given_name_servers_that_it_reaches(texts, servers):
    assert node_config.upstream_servers(*texts) == servers


def test_corefile_forwards_only_when_there_is_somebody_to_ask():
    assert "forward" not in node_config.make_corefile(LAYOUT, upstream=[])
    assert "forward . 10.0.0.1 10.0.0.2" in node_config.make_corefile(LAYOUT, upstream=["10.0.0.1", "10.0.0.2"])


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("pilotfish/operator:dev", "docker.io/pilotfish/operator:dev"),
        ("localhost/pilotfish/operator:dev", "docker.io/pilotfish/operator:dev"),
        ("pilotfish/operator", "docker.io/pilotfish/operator:latest"),
        ("probe:1", "docker.io/library/probe:1"),
        ("quay.io/a/b:1", "quay.io/a/b:1"),
        ("registry:5000/a/b", "registry:5000/a/b:latest"),
    ],
)
def test_images_are_known_by_the_name_that_the_kubelet_asks_for(name, full):
    assert images.full_name(name) == full


@pytest.mark.parametrize("name", ["", "A", "a/b", "-a", "a_b", "a" * 41, ".."])
def test_a_name_that_could_leave_the_state_folder_is_refused(name):
    with pytest.raises(ClusterError, match="cluster name"):
        layout_of(name)


def test_only_the_clusters_own_rules_are_removed():
    saved = """*nat
-A POSTROUTING -s 172.30.0.0/30 ! -o pilotfish0 -m comment --comment pilotfish-a -j MASQUERADE
-A POSTROUTING -s 172.30.1.0/30 ! -o pilotfish1 -m comment --comment "pilotfish-ab" -j MASQUERADE
-A POSTROUTING -j MASQUERADE
COMMIT
"""
    [rule] = sandbox.nat_removals(saved, cluster="ab")
    assert rule[:4] == ["-D", "POSTROUTING", "-s", "172.30.1.0/30"]
    assert sandbox.nat_removals(saved, cluster="c") == []


@pytest.mark.parametrize(
    ("item", "path"),
    [
        (("v1", "Service", {"name": "a", "namespace": "n"}), "/api/v1/namespaces/n/services/a"),
        (("storage.k8s.io/v1", "StorageClass", {"name": "a"}), "/apis/storage.k8s.io/v1/storageclasses/a"),
        (
            ("rbac.authorization.k8s.io/v1", "ClusterRole", {"name": "a:b"}),
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/a:b",
        ),
    ],
)
def test_object_paths(item, path):
    version, kind, metadata = item
    assert api.object_path({"apiVersion": version, "kind": kind, "metadata": metadata}) == path


def test_the_default_storage_class_waits_for_its_pod_and_deletes():
    item = bootstrap.make_storage_class()
    assert item["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true"
    assert (item["volumeBindingMode"], item["reclaimPolicy"]) == ("WaitForFirstConsumer", "Delete")


def test_pause_image_is_a_whole_oci_archive(tmp_path):
    program = tmp_path / "pause"
    program.write_bytes(b"program")
    pause_image.write_pause_image(tmp_path / "image.tar", program)
    with tarfile.open(tmp_path / "image.tar") as archive:
        blobs = {name: archive.extractfile(name).read() for name in archive.getnames()}
    [entry] = json.loads(blobs["index.json"])["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == node_config.PAUSE_IMAGE
    manifest = json.loads(blobs[f"blobs/sha256/{entry['digest'].removeprefix('sha256:')}"])
    for part in (entry, manifest["config"], *manifest["layers"]):
        data = blobs[f"blobs/sha256/{part['digest'].removeprefix('sha256:')}"]
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (part["digest"].removeprefix("sha256:"), part["size"])
