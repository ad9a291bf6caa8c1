"""GPUs without a GPU: what the node says it has, so that the real scheduler counts."""

from pilotcluster.api import Api

RESOURCE = "nvidia.com/gpu"


def make_patch(count: int) -> dict[str, object]:
    """A merge patch of a node's status; 0 takes the resource away."""
    quantity = {RESOURCE: str(count) if count else None}
    return {"status": {"capacity": quantity, "allocatable": quantity}}


def advertise_storage(server: Api, node: str, size: int) -> None:
    """Make the node advertise ephemeral storage in bytes, which its kubelet does not measure here."""
    quantity = {"ephemeral-storage": str(size)}
    patch = {"status": {"capacity": quantity, "allocatable": quantity}}
    server.call("PATCH", f"/api/v1/nodes/{node}/status", patch, kind="application/merge-patch+json")


def advertise(server: Api, node: str, count: int) -> None:
    """Make the node advertise this many GPUs; the kubelet keeps what is patched."""
    server.call("PATCH", f"/api/v1/nodes/{node}/status", make_patch(count), kind="application/merge-patch+json")
