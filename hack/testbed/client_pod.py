"""client.py as a pod: start it, read its totals, stop it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.kubectl import Kubectl
from testbed.manifests import make_client


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPod:
    """One pod that asks a model all the time."""

    kubectl: Kubectl
    namespace: str
    name: str

    def start(self, *, service: str, cases: bytes) -> None:
        """Create the pod; `cases` comes from `store.pack_cases`."""
        script = Path(__file__).with_name("client.py").read_bytes()
        files = {"client.py": script, "cases.npz": cases}
        self.kubectl.apply(*make_client(self.name, self.namespace, service=service, files=files))
        self.kubectl.run("wait", f"pod/{self.name}", "-n", self.namespace, "--for=condition=Ready", "--timeout=120s")

    def logs(self) -> str:
        """The last lines that it printed."""
        return self.kubectl.run("logs", self.name, "-n", self.namespace, "--tail=5")

    def totals(self) -> dict[str, Any]:
        """The newest totals: answers per version and per connection, `failed`, `wrong`, the first errors."""
        lines = [line for line in self.logs().splitlines() if line.startswith("{")]
        return json.loads(lines[-1]) if lines else {}

    def stop(self) -> dict[str, Any]:
        """Tell it to stop, read the final totals, delete it."""
        self.kubectl.run("exec", self.name, "-n", self.namespace, "--", "python3", "-c", "import os; os.kill(1, 15)")
        self.kubectl.run(
            "wait",
            f"pod/{self.name}",
            "-n",
            self.namespace,
            "--for=jsonpath={.status.phase}=Succeeded",
            "--timeout=60s",
        )
        totals = self.totals()
        self.kubectl.delete("pod", self.name, namespace=self.namespace)
        self.kubectl.delete("configmap", self.name, namespace=self.namespace)
        return totals
