"""The pages of conditions, phases and events: what the status can say, from the enums that it is made of."""

import re
from pathlib import Path

from pilotfish.api.conditions import ConditionType
from pilotfish.api.reasons import Reason
from pilotfish.api.rollout_status import AnalysisVerdict, RolloutStage
from pilotfish.api.status import Phase
from reference.markdown import cell, table

REASONS = Path(__file__).resolve().parents[2] / "docs" / "reasons.md"
MEANINGS = {
    ConditionType.READY: "The spec as asked is fully served. False while a change is on its way.",
    ConditionType.ARTIFACT_READY: "There is a proven artifact for what the spec asks for.",
    ConditionType.AVAILABLE: "Some revision serves. Stays True through an update, and through one that fails.",
    ConditionType.PROGRESSING: "The newest revision is on its way or has arrived.",
    ConditionType.HEALTHY: "The verdict of the analysis on the revision that is judged.",
    ConditionType.RECONCILING: "Only there while True: work is going on. kstatus reads it as in progress.",
    ConditionType.STALLED: "Only there while True: nothing moves until something changes. kstatus reads it as failed.",
}
MILESTONES = (
    ("PlanCapacity", (Reason.STARTING,), "Where the pods of the new revision get their place, and what that costs."),
    ("Verify", (Reason.VERIFYING,), "The golden set agreed through the loaded server."),
    ("Step", (Reason.CANARYING,), "The canary has reached a step and its share of the requests."),
    ("Act", (Reason.PROMOTING,), "What became of `spec.rollout.action`."),
    (
        "Refresh",
        (Reason.SOURCE_CHANGED, Reason.REFRESH_FAILED),
        "A look for new bytes found some, or went wrong.",
    ),
)
"""Action, reasons and meaning of events that no condition tells. tests/docs compares them with the code."""

CONDITIONS = """\
# Conditions

Made from the code by `hack/generate`. Each condition carries `observedGeneration`; a tool that reads kstatus (Flux,
`helm --wait` of Helm 4, `kubectl wait`) needs nothing else.

```bash
kubectl wait --for=condition=Ready modeldeployment/digits --timeout=10m
```
"""
EVENTS = """\
# Events

Made from the code by `hack/generate`. `kubectl events --for modeldeployment/NAME` shows them. They are sent once the
status that they tell of is stored, and the same thing said again counts the same event up.

## Of conditions

When the reason of one of these changes, its sentence is told; type `Warning` where the reason is a failure. The action
is the condition's type, the reason one of [all reasons](conditions.md#reasons). What one condition has told is not told
by the next.
"""


def conditions_page() -> str:
    """Conditions, phases, stages, verdicts, and each reason with its first sentence."""
    kinds = [(f"`{kind}`", MEANINGS[kind]) for kind in ConditionType]
    said = _first_sentences()
    reasons = [
        (f"[`{one}`](../reasons.md#{one.anchor})", "yes" if one.is_failure else "", cell(said[one.value]))
        for one in Reason
    ]
    return "\n".join(
        (
            CONDITIONS,
            *table(("condition", "True means"), kinds),
            "\n## Phases\n\n`status.phase`: one word for people.\n",
            *_documented(Phase),
            "\n## Stages of a rollout\n\n`status.rollout.stage`.\n",
            *_documented(RolloutStage),
            "\n## Verdicts\n\n`status.rollout.analysis.verdict`, and that of each check.\n",
            *_documented(AnalysisVerdict),
            "\n## Reasons\n\n[Reasons](../reasons.md) says of each what to do.\n",
            *table(("reason", "failure", "what it means"), reasons),
            "",
        )
    )


def events_page() -> str:
    """What events there are."""
    told = ("Stalled", "Ready", "ArtifactReady", "Healthy")
    kinds = [(f"`{kind}`", MEANINGS[ConditionType(kind)]) for kind in told]
    rows = [(f"`{action}`", ", ".join(f"`{one}`" for one in reasons), text) for action, reasons, text in MILESTONES]
    return "\n".join(
        (
            EVENTS,
            *table(("action", "the condition"), kinds),
            "\n## Of milestones\n",
            *table(("action", "reason", "when"), rows),
            "",
        )
    )


def _documented(kind: type[Phase | RolloutStage | AnalysisVerdict]) -> list[str]:
    return table(("word", "means"), [(f"`{one.value}`", cell(one.meaning)) for one in kind])


def _first_sentences() -> dict[str, str]:
    parts = re.split(r"^#{2,3} (.+)$", REASONS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    texts = dict(zip(parts[1::2], parts[2::2], strict=True))
    return {
        name: re.split(r"(?<=[.;])\s", " ".join(text.split()), maxsplit=1)[0].rstrip(";")
        for name, text in texts.items()
    }
