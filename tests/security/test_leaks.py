"""What must stay secret is in nothing that anybody else may read (S24): statuses, events, logs, metrics, pods."""

import base64
import json
import re

import pytest

from pilotfish.api.reasons import Reason


def spellings(secret):
    """The secret as it is, and as encoders write it."""
    raw = secret.encode()
    return {secret, base64.b64encode(raw).decode().rstrip("="), raw.hex(), json.dumps(secret)[1:-1]}


@pytest.mark.apiserver
class TestLife:
    def test_s24_no_secret_is_in_anything_that_the_operator_leaves(self, life):
        places = {"objects": json.dumps(life.left), "log": life.log, "metrics": life.metrics}
        assert len(places["objects"]) > 100_000
        assert all(places.values())
        for secret in (life.canary, life.token, life.token.rpartition(".")[2]):
            for spelled in spellings(secret):
                assert [place for place, text in places.items() if spelled in text] == []

    def test_s24_pods_name_secrets_and_hold_none(self, life):
        """Mounted as files, by the container that needs them; in no variable and in no argument."""
        pods = [body["spec"] for body in life.left if body and body.get("kind") == "Pod"]
        assert pods
        named = [v for pod in pods for v in pod.get("volumes", ()) if "secret" in v]
        assert {volume["secret"]["secretName"] for volume in named} == {"store-credentials"}
        for pod in pods:
            for container in (*pod["containers"], *pod.get("initContainers", ())):
                assert not container.get("envFrom")
                assert not [e for e in container.get("env", ()) if "secretKeyRef" in e.get("valueFrom", {})]

    def test_s24_reasons_are_a_closed_set_and_sentences_are_one_line(self, life):
        conditions = [
            condition
            for body in life.left
            if body and body.get("kind") == "ModelDeployment"
            for condition in body.get("status", {}).get("conditions", ())
        ]
        events = [body for body in life.left if body and body.get("kind") == "Event" and "reportingController" in body]
        ours = [event for event in events if event["reportingController"] == "pilotfish.dev/operator"]
        assert conditions
        assert ours
        assert {said["reason"] for said in (*conditions, *ours)} <= {reason.value for reason in Reason}
        sentences = [*(c["message"] for c in conditions), *(event["note"] for event in ours)]
        assert not [sentence for sentence in sentences if "\n" in sentence or len(sentence) > 1024]

    def test_s24_metrics_carry_no_addresses(self, life):
        assert life.bait not in life.metrics
        assert not re.search(r'="[a-z0-9]+://', life.metrics)
