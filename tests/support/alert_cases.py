"""For every alert: series that it fires on, and series that look alike and are none of its business.

Values are in promtool's notation, one a minute: `1+0x60` is sixty-one times 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass

ON, OFF = "1+0x180", "0+0x180"
WHO = 'namespace="team",name="digits"'
DIGITS = {"namespace": "team", "name": "digits"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """`fires`: labels of the alert at minute `at`, beside its severity; None: it is silent. `value`: as texts show it."""

    alert: str
    title: str
    series: Mapping[str, str]
    at: int
    fires: Mapping[str, str] | None = None
    value: str = ""


def _condition(kind: str, status: str, reason: str) -> str:
    return f'pilotfish_condition{{{WHO},type="{kind}",status="{status}",reason="{reason}"}}'


def _triton(metric: str, **labels: str) -> str:
    told = {"namespace": "team", "model": "digits", "version": "1", **labels}
    selector = ",".join(f'{key}="{value}"' for key, value in told.items())
    return f"nv_inference_{metric}{{{selector}}}"


def _phase(phase: str) -> str:
    return f'pilotfish_phase{{{WHO},phase="{phase}"}}'


def _revision(role: str, revision: str) -> str:
    return f'pilotfish_revision_info{{{WHO},role="{role}",revision="{revision}",variant="onnx-fp32"}}'


def _replicas(role: str, state: str) -> str:
    return f'pilotfish_replicas{{{WHO},role="{role}",state="{state}"}}'


_OPERATOR = 'job="pilotfish",instance="10.0.0.1:8080"'
_CANARY = {"namespace": "team", "model": "digits", "pilotfish_dev_revision": "new"}
_LATE = {f"pilotfish_rollout_progressed_timestamp_seconds{{{WHO}}}": "0+0x180"}
_HOLDS = f"pilotfish_rollout_hold_seconds{{{WHO}}}"
_FAILED = _triton("request_failure", reason="BACKEND", pilotfish_dev_revision="new")
_CANCELED = _triton("request_failure", reason="CANCELED", pilotfish_dev_revision="new")
_ANSWERED = _triton("request_success", pilotfish_dev_revision="new")
_DRIFTS = 'namespace="team",model="digits",revision="new",variant="onnx-fp32",of="classes"'

CASES: tuple[Case, ...] = (
    Case(alert="OperatorDown", title="nobody is there", series={}, at=6, fires={}),
    Case(
        alert="OperatorDown",
        title="all only wait for the Lease",
        series={'pilotfish_leader{pod="a"}': OFF, 'pilotfish_leader{pod="b"}': OFF},
        at=6,
        fires={},
    ),
    Case(
        alert="OperatorDown",
        title="another replica takes over",
        series={'pilotfish_leader{pod="a"}': "1+0x9 stale", 'pilotfish_leader{pod="b"}': "0+0x12 1+0x60"},
        at=16,
    ),
    Case(
        alert="OperatorRestarting",
        title="a start every ten minutes",
        series={
            f"process_start_time_seconds{{{_OPERATOR}}}": "1x9 2x9 3x9 4x9 5x9 6x9 7x9",
            f'pilotfish_build_info{{{_OPERATOR},version="1"}}': ON,
        },
        at=55,
        fires={"job": "pilotfish", "instance": "10.0.0.1:8080"},
        value="5",
    ),
    Case(
        alert="OperatorRestarting",
        title="another program does that",
        series={
            'process_start_time_seconds{job="other",instance="x"}': "1x9 2x9 3x9 4x9 5x9 6x9 7x9",
            f"process_start_time_seconds{{{_OPERATOR}}}": ON,
            f'pilotfish_build_info{{{_OPERATOR},version="1"}}': ON,
        },
        at=55,
    ),
    Case(
        alert="ReconcileErrorsHigh",
        title="a fifth fails",
        series={
            'pilotfish_reconcile_total{job="pilotfish",result="error"}': "0+2x60",
            'pilotfish_reconcile_total{job="pilotfish",result="success"}': "0+8x60",
        },
        at=30,
        fires={"job": "pilotfish"},
        value="20%",
    ),
    Case(
        alert="ReconcileErrorsHigh",
        title="one of two fails, once",
        series={
            'pilotfish_reconcile_total{job="pilotfish",result="error"}': "0x20 1x60",
            'pilotfish_reconcile_total{job="pilotfish",result="success"}': "0x20 1x60",
        },
        at=25,
    ),
    Case(
        alert="MetricsMissing",
        title="pods are ready and no figure is there",
        series={_replicas("stable", "ready"): "2+0x60"},
        at=20,
        fires=DIGITS,
        value="2",
    ),
    Case(
        alert="MetricsMissing",
        title="figures are there, though nobody asks the model",
        series={_replicas("stable", "ready"): "2+0x60", _triton("request_success", pod="a"): OFF},
        at=20,
    ),
    Case(
        alert="ModelUnavailable",
        title="the only pod is gone",
        series={_condition("Available", "False", "NotServing"): ON, _revision("stable", "old"): ON},
        at=3,
        fires=DIGITS,
    ),
    Case(
        alert="ModelUnavailable",
        title="the first revision is being made",
        series={_condition("Available", "False", "NotServing"): ON, _revision("canary", "new"): ON},
        at=60,
    ),
    Case(
        alert="ModelUnavailable",
        title="nobody asks for a pod",
        series={_condition("Available", "False", "ScaledToZero"): ON, _revision("stable", "old"): ON},
        at=60,
    ),
    Case(
        alert="ModelDeploymentNotReady",
        title="a child is in the way",
        series={
            f"pilotfish_ready{{{WHO}}}": OFF,
            _phase("Stalled"): ON,
            _condition("Progressing", "False", "NotOwned"): ON,
        },
        at=20,
        fires=DIGITS,
    ),
    Case(
        alert="ModelDeploymentNotReady",
        title="a canary that takes its time",
        series={
            f"pilotfish_ready{{{WHO}}}": OFF,
            _phase("Canarying"): ON,
            _condition("Progressing", "True", "Canarying"): ON,
        },
        at=170,
    ),
    Case(
        alert="ModelDeploymentNotReady",
        title="somebody has paused it",
        series={
            f"pilotfish_ready{{{WHO}}}": OFF,
            _phase("Paused"): ON,
            _condition("Progressing", "False", "Paused"): ON,
        },
        at=60,
    ),
    Case(
        alert="ModelReplicasMissing",
        title="one of three",
        series={_replicas("stable", "desired"): "3+0x60", _replicas("stable", "ready"): "2+0x60"},
        at=20,
        fires=DIGITS,
        value="1",
    ),
    Case(
        alert="ModelReplicasMissing",
        title="the canary's pods are not stable's",
        series={
            _replicas("stable", "desired"): "3+0x60",
            _replicas("stable", "ready"): "3+0x60",
            _replicas("canary", "desired"): "3+0x60",
            _replicas("canary", "ready"): OFF,
        },
        at=20,
    ),
    Case(
        alert="RolloutStuck",
        title="no requests for a canary",
        series={**_LATE, _HOLDS: "600+0x180", _condition("Progressing", "True", "WaitingForData"): ON},
        at=90,
        fires=DIGITS,
        value="1h 20m 0s",
    ),
    Case(
        alert="RolloutStuck",
        title="a step of three hours",
        series={**_LATE, _HOLDS: "10800+0x180", _condition("Progressing", "True", "Canarying"): ON},
        at=170,
    ),
    Case(
        alert="RolloutStuck",
        title="a step that waits for a person",
        series={**_LATE, _HOLDS: " ".join(["+Inf"] * 181), _condition("Progressing", "True", "Canarying"): ON},
        at=170,
    ),
    Case(
        alert="RolloutStuck",
        title="no maintenance window is open",
        series={**_LATE, _HOLDS: OFF, _condition("Progressing", "True", "WaitingForWindow"): ON},
        at=170,
    ),
    Case(
        alert="RolloutAborted",
        title="the numbers were bad",
        series={
            _phase("Aborted"): ON,
            _condition("Stalled", "True", "AnalysisFailed"): ON,
            _condition("ArtifactReady", "True", "Succeeded"): ON,
        },
        at=1,
        fires={**DIGITS, "reason": "AnalysisFailed"},
    ),
    Case(
        alert="RolloutAborted",
        title="somebody asked for it",
        series={_phase("Aborted"): ON, _condition("Stalled", "True", "AbortedByUser"): ON},
        at=60,
    ),
    Case(
        alert="RolloutAborted",
        title="there never was an artifact",
        series={
            _phase("Aborted"): ON,
            _condition("Stalled", "True", "SourceNotFound"): ON,
            _condition("ArtifactReady", "False", "SourceNotFound"): ON,
        },
        at=60,
    ),
    Case(
        alert="OptimizationFailed",
        title="no source",
        series={_condition("ArtifactReady", "False", "SourceNotFound"): ON},
        at=1,
        fires={**DIGITS, "reason": "SourceNotFound"},
    ),
    Case(
        alert="OptimizationFailed",
        title="it is still at work",
        series={_condition("ArtifactReady", "Unknown", "Optimizing"): ON},
        at=60,
    ),
    Case(
        alert="CanaryErrorRateHigh",
        title="a tenth of the canary's requests fail",
        series={_revision("canary", "new"): ON, _FAILED: "0+6x60", _ANSWERED: "0+54x60"},
        at=20,
        fires=_CANARY,
        value="10%",
    ),
    Case(
        alert="CanaryErrorRateHigh",
        title="it is the stable revision",
        series={_revision("stable", "new"): ON, _FAILED: "0+6x60", _ANSWERED: "0+54x60"},
        at=20,
    ),
    Case(
        alert="CanaryErrorRateHigh",
        title="clients hang up",
        series={_revision("canary", "new"): ON, _CANCELED: "0+60x60", _FAILED: OFF, _ANSWERED: "0+54x60"},
        at=20,
    ),
    Case(
        alert="ModelErrorRateHigh",
        title="all of them",
        series={_FAILED: "0+60x60", _ANSWERED: OFF},
        at=20,
        fires={"namespace": "team", "model": "digits"},
        value="100%",
    ),
    Case(
        alert="ModelErrorRateHigh",
        title="one in a hundred",
        series={_FAILED: "0+1x60", _ANSWERED: "0+99x60"},
        at=20,
    ),
    Case(alert="ModelErrorRateHigh", title="nobody asks", series={_FAILED: OFF, _ANSWERED: OFF}, at=20),
    Case(
        alert="ModelQueueTimeHigh",
        title="100 ms of 160",
        series={
            _ANSWERED: "0+60x60",
            _triton("queue_duration_us"): "0+6000000x60",
            _triton("request_duration_us"): "0+9600000x60",
        },
        at=20,
        fires={"namespace": "team", "model": "digits"},
        value="62.5%",
    ),
    Case(
        alert="ModelQueueTimeHigh",
        title="2 ms of 3",
        series={
            _ANSWERED: "0+60x60",
            _triton("queue_duration_us"): "0+120000x60",
            _triton("request_duration_us"): "0+180000x60",
        },
        at=20,
    ),
    Case(
        alert="ModelDriftHigh",
        title="other inputs for an hour, in one of two pods",
        series={
            f'pilotfish_model_drift{{{_DRIFTS},pod="a"}}': "0.1+0x90",
            f'pilotfish_model_drift{{{_DRIFTS},pod="b"}}': "0.5+0x90",
        },
        at=60,
        fires={"namespace": "team", "model": "digits", "revision": "new", "of": "classes"},
        value="0.5",
    ),
    Case(
        alert="ModelDriftHigh",
        title="a quarter of an hour of other inputs, then as before",
        series={f"pilotfish_model_drift{{{_DRIFTS}}}": "0.02x30 0.5x15 0.02x60"},
        at=60,
    ),
    Case(
        alert="GpuUnschedulable",
        title="a pod waits for a GPU",
        series={_condition("Ready", "False", "InsufficientGPU"): ON},
        at=12,
        fires=DIGITS,
    ),
    Case(
        alert="GpuUnschedulable",
        title="it waited, for a while",
        series={_condition("Ready", "False", "InsufficientGPU"): "1x5 stale"},
        at=12,
    ),
    Case(
        alert="PodsCannotStart",
        title="no image, told by another condition in between",
        series={
            _condition("Progressing", "True", "ImagePullFailed"): "1x8 stale",
            _condition("Ready", "False", "ImagePullFailed"): "_x7 1x60",
        },
        at=20,
        fires={**DIGITS, "reason": "ImagePullFailed"},
    ),
    Case(
        alert="PodsCannotStart",
        title="they start",
        series={_condition("Progressing", "True", "Starting"): ON},
        at=60,
    ),
    Case(
        alert="SourceCheckFailing",
        title="credentials ran out",
        series={f'pilotfish_source_check_failed{{{WHO},reason="SourceForbidden"}}': ON},
        at=65,
        fires={**DIGITS, "reason": "SourceForbidden"},
    ),
    Case(
        alert="SourceCheckFailing",
        title="the looks go well",
        series={f'pilotfish_source_check_failed{{{WHO},reason=""}}': OFF},
        at=170,
    ),
)
