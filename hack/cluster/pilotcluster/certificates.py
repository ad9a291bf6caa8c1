"""A cluster's certificates and kubeconfigs, made with the machine's openssl.

Three authorities: one for the API server and its clients, one for etcd alone, so that no client of the API server can
read the database behind its back, and one for the API server where it speaks for somebody else. Must not be used for
anything that outlives a local cluster.
"""

import base64
import json
import secrets
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotcluster.console import ClusterError
from pilotcluster.paths import Layout

DAYS = 3650
AUTHORITIES = ("ca", "etcd-ca", "front-proxy-ca")
OPENSSL_CONFIG = "[req]\ndistinguished_name=name\n[name]\n"
NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate to issue; `user` becomes the CN and `group` the O that RBAC sees."""

    name: str
    user: str
    group: str = ""
    hosts: tuple[str, ...] = ()
    authority: str = "ca"


def api_certificates(*, addresses: Sequence[str]) -> list[Certificate]:
    """What an API server, its database, its controllers and its administrator need."""
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
    return [
        Certificate(name="etcd", user="etcd", hosts=("127.0.0.1", "localhost"), authority="etcd-ca"),
        Certificate(name="apiserver", user="kube-apiserver", hosts=(*addresses, "localhost", *names)),
        Certificate(name="apiserver-kubelet", user="kube-apiserver-kubelet-client"),
        Certificate(name="front-proxy-client", user="front-proxy-client", authority="front-proxy-ca"),
        Certificate(name="admin", user="kubernetes-admin", group="system:masters"),
        Certificate(name="controller-manager", user="system:kube-controller-manager"),
    ]


def node_certificates(*, node: str, address: str) -> list[Certificate]:
    """What a node and the programs beside it need on top."""
    return [
        Certificate(name="scheduler", user="system:kube-scheduler"),
        Certificate(name="kubelet", user=f"system:node:{node}", group="system:nodes", hosts=(address, node)),
        Certificate(name="kube-proxy", user="system:kube-proxy"),
        Certificate(name="coredns", user="pilotfish:coredns"),
        Certificate(name="provisioner", user="pilotfish:provisioner"),
    ]


def issue(layout: Layout, wanted: Sequence[Certificate]) -> None:
    """Write the authorities, every wanted certificate and the key that signs service-account tokens."""
    layout.certificates.mkdir(parents=True, exist_ok=True, mode=0o700)
    (layout.certificates / "openssl.cnf").write_text(OPENSSL_CONFIG, encoding="ascii")
    with ThreadPoolExecutor(max_workers=4) as pool:
        authorities = [pool.submit(_authority, layout, name) for name in AUTHORITIES]
        signing = pool.submit(_signing_key, layout)
        for future in authorities:
            future.result()
        for result in [pool.submit(_issue_one, layout, certificate) for certificate in wanted]:
            result.result()
        signing.result()


def _openssl(*args: str) -> None:
    done = subprocess.run(["openssl", *args], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"openssl {args[0]} failed: {done.stderr.strip().splitlines()[-1]}")


def _request(layout: Layout, name: str, subject: str) -> list[str]:
    return [
        "req", "-x509", "-config", str(layout.certificates / "openssl.cnf"), *NEW_KEY, "-days", str(DAYS),
        "-set_serial", str(secrets.randbits(120)), "-subj", subject,
        "-keyout", str(layout.key(name)), "-out", str(layout.certificate(name)),
    ]  # fmt: skip


def _authority(layout: Layout, name: str) -> None:
    extensions = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature")
    adds = [word for extension in extensions for word in ("-addext", extension)]
    _openssl(*_request(layout, name, f"/CN=pilotfish-{layout.name}-{name}"), *adds)


def _issue_one(layout: Layout, certificate: Certificate) -> None:
    adds = [
        "basicConstraints=critical,CA:FALSE",
        "keyUsage=critical,digitalSignature,keyEncipherment",
        "extendedKeyUsage=serverAuth,clientAuth" if certificate.hosts else "extendedKeyUsage=clientAuth",
    ]
    if certificate.hosts:
        adds.append("subjectAltName=" + ",".join(_alternative(host) for host in certificate.hosts))
    group = f"/O={certificate.group}" if certificate.group else ""
    _openssl(
        *_request(layout, certificate.name, f"{group}/CN={certificate.user}"),
        "-CA", str(layout.certificate(certificate.authority)), "-CAkey", str(layout.key(certificate.authority)),
        *[word for extension in adds for word in ("-addext", extension)],
    )  # fmt: skip


def _alternative(host: str) -> str:
    return f"IP:{host}" if host.replace(".", "").isdigit() else f"DNS:{host}"


def _signing_key(layout: Layout) -> None:
    _openssl("genrsa", "-out", str(layout.key("service-accounts")), "2048")
    public = layout.certificates / "service-accounts.pub"
    _openssl("rsa", "-in", str(layout.key("service-accounts")), "-pubout", "-out", str(public))


def make_kubeconfig(layout: Layout, *, certificate: str, server: str) -> dict[str, Any]:
    """A kubeconfig (JSON is YAML) that carries its certificates in itself."""

    def embed(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode("ascii")

    context = f"pilotfish-{layout.name}"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "contexts": [{"name": context, "context": {"cluster": context, "user": certificate}}],
        "clusters": [
            {
                "name": context,
                "cluster": {"server": server, "certificate-authority-data": embed(layout.certificate("ca"))},
            }
        ],
        "users": [
            {
                "name": certificate,
                "user": {
                    "client-certificate-data": embed(layout.certificate(certificate)),
                    "client-key-data": embed(layout.key(certificate)),
                },
            }
        ],
    }


def write_kubeconfig(layout: Layout, target: Path, *, certificate: str, server: str) -> None:
    """Write a kubeconfig that only its owner can read."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.touch(mode=0o600)
    target.chmod(0o600)
    target.write_text(json.dumps(make_kubeconfig(layout, certificate=certificate, server=server)), encoding="utf-8")
