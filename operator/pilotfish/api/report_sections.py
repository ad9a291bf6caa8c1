"""Parts of report.json that not every run has: distributions of latency, load, layers, training, profiles.

Wire types only. All of them came after the first version of the report: a reader must take their absence for "not
measured", never for zero.
"""

from pydantic import Field

from pilotfish.api.optimization import ExplanationMethod, ExportFormat
from pilotfish.api.wire import WireModel


class Histogram(WireModel):
    """How often a call took how long. `counts[i]` calls took from `edges[i]` to `edges[i + 1]` milliseconds."""

    edges: tuple[float, ...] = Field(description="Milliseconds, one more than counts; the last bin holds the tail.")
    counts: tuple[int, ...]


class Load(WireModel):
    """Several callers at once, each asking again as soon as it is answered."""

    concurrency: int
    throughput: float = Field(description="Samples per second over all callers.")
    latency_ms: float = Field(description="Median that one caller sees, milliseconds.")


class LayerError(WireModel):
    """How far one layer's answer is from the same layer's in full precision."""

    layer: str = Field(description="Name of the node or of the tensor that it makes.")
    op: str | None = Field(default=None, description="Type of the operator.")
    error: float = Field(description="Frobenius norm of the difference over that of the full-precision answer.")
    kept: bool = Field(default=False, description="Left in higher precision because of its error.")


class TaskMetric(WireModel):
    """The task's own figure of merit on the golden set; larger is better unless it is an error."""

    name: str = Field(examples=["Accuracy", "MeanSquaredError"])
    reference: float = Field(description="Of the model that candidates are compared with.")
    source: float | None = Field(default=None, description="Of the model as it came, where training changed it.")


class Epoch(WireModel):
    """One pass over the training data."""

    epoch: int = Field(description="From 1.")
    loss: float = Field(description="Mean over the epoch's batches.")
    validation_loss: float | None = None
    metric: float | None = Field(default=None, description="The task metric on the data that was held out.")
    learning_rate: float | None = None
    seconds: float | None = None


class TrainingStage(WireModel):
    """What one stage of training did to the model."""

    stage: str = Field(examples=["fineTune", "prune", "distill"])
    epochs: tuple[Epoch, ...] = ()
    seconds: float | None = None
    samples: int | None = Field(default=None, description="Trained on.")
    held_out: int | None = Field(default=None, description="Kept apart to judge by.")
    metric: str | None = Field(default=None, examples=["accuracy"])
    metric_before: float | None = None
    metric_after: float | None = None
    parameters_before: int | None = None
    parameters_after: int | None = None
    seed: int | None = None
    notes: tuple[str, ...] = ()


class OperatorTime(WireModel):
    """All calls of one type of operator."""

    op: str
    calls: float = Field(description="Per run of the model.")
    milliseconds: float = Field(description="Per run of the model.")
    share: float = Field(description="Of the time in all operators, 0 to 1.")


class TraceFile(WireModel):
    """A trace in Chrome's format, gzip; open it in a browser's trace viewer or in Perfetto."""

    path: str = Field(description="Relative to the report.")
    bytes: int
    sha256: str
    cut: bool = Field(default=False, description="Only the first events are kept, the whole would be too large.")


class Profile(WireModel):
    """Where the time of one model goes."""

    variant: str
    role: str = Field(examples=["baseline", "winner"])
    tool: str = Field(examples=["onnxruntime", "torch.profiler"])
    batch: int
    runs: int
    operators: tuple[OperatorTime, ...] = Field(default=(), description="Longest first.")
    trace: TraceFile | None = None
    problem: str | None = Field(default=None, description="Why there is no profile.")


class Export(WireModel):
    """An artifact for elsewhere: checked against the original, never served."""

    format: ExportFormat
    path: str | None = Field(default=None, description="Main file or folder, relative to the report; null: none.")
    bytes: int | None = Field(default=None, description="Of all its files.")
    digest: str | None = Field(default=None, description="Of its folder, by the folder rule.")
    runtime: str | None = Field(default=None, description="What it was run by to compare its answers.")
    max_rel: float | None = Field(default=None, description="Relative error of its answers to the golden set.")
    problem: str | None = Field(default=None, description="Why there is none; the run goes on without it.")
    notes: tuple[str, ...] = ()


class InputAttribution(WireModel):
    """What the values of one input add to an answer, as a grid read row by row.

    Channels of an image are summed up, and so are neighbours where a grid would be larger than 32 by 32: the sum over
    the grid stays that over all values.
    """

    input: str
    rows: int = Field(description="1 for features and for positions of a text.")
    columns: int
    values: tuple[float, ...] = Field(description="rows times columns.")


class ExplainedSample(WireModel):
    """One sample of the golden set."""

    sample: int = Field(description="Its place in the golden set, from 0.")
    target: str = Field(description="Which figure of the answer is explained.", examples=["logits[3]", "mean of y"])
    answer: float | None = Field(default=None, description="That figure.")
    baseline_answer: float | None = Field(default=None, description="The same figure of zeros.")
    delta: float | None = Field(
        default=None,
        description="Completeness error of IntegratedGradients: sum of attributions - (answer - baselineAnswer).",
    )
    inputs: tuple[InputAttribution, ...] = ()
    problem: str | None = Field(default=None, description="Why this sample has no attributions.")


class Explanation(WireModel):
    """Attributions of the original's answers to its inputs."""

    method: ExplanationMethod
    tool: str = Field(examples=["captum 0.8.0"])
    variant: str = Field(description="The model that is explained, as it came.")
    baseline: str = Field(default="zeros", description="What a sample is compared with.")
    samples: tuple[ExplainedSample, ...] = ()
    importance: tuple[InputAttribution, ...] = Field(
        default=(), description="Mean over the samples of the absolute attributions."
    )
    seconds: float | None = None
    problem: str | None = Field(default=None, description="Why there are none; the run goes on without them.")
    notes: tuple[str, ...] = ()
