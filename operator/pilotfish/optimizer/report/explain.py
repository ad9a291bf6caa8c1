"""`optimization.explanations`: what each value of an input adds to the original's answers, in a process of its own.

A model that cannot be explained is told in the report, and no failure.
"""

import subprocess
from dataclasses import asdict

from pydantic import ValidationError

from pilotfish.api.optimization import Explanations
from pilotfish.api.report import one_line
from pilotfish.api.report_sections import Explanation
from pilotfish.optimizer.memory import room_here
from pilotfish.optimizer.report.errand import ErrandError, send
from pilotfish.optimizer.tensorflow.process import FORMATS as TENSORFLOW
from pilotfish.optimizer.worker import Subject
from pilotfish.optimizer.workers import HEAVY_LIBRARIES

WORKER = "pilotfish.optimizer.report.explain_worker"
MOST_SECONDS = 600.0
HELD = 3
"""Times the model's bytes that the process needs: the file, the weights, and gradients on the way."""


def explain_original(
    asked: Explanations, subject: Subject | None, *, variant: str, most_seconds: float = MOST_SECONDS
) -> Explanation:
    """The explanation of the first samples that the subject is measured with, or the reason why there is none."""
    none = Explanation(method=asked.method, tool="none", variant=variant)
    if subject is None or _problem(subject):
        return none.model_copy(update={"problem": _problem(subject) if subject else "the original was not measured"})
    order = {
        "subject": asdict(subject),
        "method": asked.method.value,
        "samples": asked.samples,
        "variant": variant,
    }
    try:
        return Explanation.model_validate_json(send(WORKER, order, threads=subject.threads, seconds=most_seconds))
    except subprocess.TimeoutExpired:
        problem = f"it took more than {most_seconds:.0f} s; write fewer samples in optimization.explanations"
        return none.model_copy(update={"problem": problem})
    except ErrandError as error:
        return none.model_copy(update={"problem": error.said or f"the process ended with {error}"})
    except ValidationError as error:
        return none.model_copy(update={"problem": one_line(f"the process told no explanation: {error}", limit=300)})


def _problem(subject: Subject) -> str | None:
    """What is known before anything is loaded."""
    source = (subject.source or {}).get("format")
    if subject.kind not in {"original", "torchscript"} or source in {f.value for f in TENSORFLOW}:
        return "Captum explains models that came from PyTorch, and this one did not"
    needed, left = HEAVY_LIBRARIES + HELD * subject.bytes(), room_here()
    if needed > left:
        return (
            f"it needs about {needed >> 20} MiB and {left >> 20} MiB are left; raise spec.optimization.resources.memory"
        )
    return None
