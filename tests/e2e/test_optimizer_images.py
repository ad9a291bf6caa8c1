"""What the smaller suites show of the Job in parts, on real nodes: serving settings measured beside it, TensorFlow's image."""

import numpy as np
from testbed.kubectl import Kubectl
from testbed.operator import TAG
from testbed.store import upload

from support.apiserver import run_cluster
from support.canaries import answers, bright_images, write_model, write_samples
from support.deployments import Deployments
from support.status_check import check_status
from support.tf_python import tensorflow_models

SECRET = {"secretName": "store-credentials"}


def test_serving_settings_are_measured_on_a_triton_beside_the_optimizer(
    deployments: Deployments, kubectl: Kubectl, namespace: str, tmp_path
):
    upload(kubectl, write_samples(tmp_path / "samples.npz"), "tuned/samples.npz", namespace=namespace)
    uri = upload(kubectl, write_model(tmp_path / "model.onnx", scale=1.0), "tuned/model.onnx", namespace=namespace)
    samples = {"uri": "s3://models/tuned/samples.npz", **SECRET}
    spec = {
        "model": {"uri": uri, "credentials": SECRET, "samples": samples},
        "optimization": {"batchSizes": [1, 8], "tuning": {"concurrency": 4, "time": "30s"}},
        "serving": {"gpus": {"count": 0}},
    }
    deployments.apply("tuned", spec)
    body = deployments.wait_ready("tuned", seconds=420)
    check_status(body)
    told = body["status"]["optimization"]["tuning"]
    assert "nothing was tuned" not in told, told
    origins = body["status"]["effective"]["origins"]
    assert {origins["instances"], origins["maxBatchSize"], origins["maxQueueDelay"]} <= {"Tuned", "Default"}, origins
    (job,) = kubectl.list("jobs", namespace=namespace, selector="pilotfish.dev/component=optimize")
    sidecars = [c["name"] for c in job["spec"]["template"]["spec"]["initContainers"] if c.get("restartPolicy")]
    assert sidecars, "the server that is measured runs beside the optimizer"
    images = bright_images()
    deployments.check_answers("tuned", {"image": images}, answers(images, scale=1.0))


def test_a_keras_model_is_served_as_tensorflow_answered(deployments: Deployments, kubectl: Kubectl, namespace: str):
    run_cluster("load", f"pilotfish/optimizer-tf:{TAG}")
    models = tensorflow_models()
    uri = upload(kubectl, models / "cnn.keras", "keras/cnn.keras", namespace=namespace)
    deployments.apply("keras", {"model": {"uri": uri, "credentials": SECRET}, "serving": {"gpus": {"count": 0}}})
    body = deployments.wait_ready("keras", seconds=600)
    check_status(body)
    assert body["status"]["source"]["format"] == "Keras"
    kept = np.load(models / "answers.npz")
    deployments.check_answers("keras", {"image": kept["cnn"][:4]}, {"logits": kept["cnn_answers"][:4]})
