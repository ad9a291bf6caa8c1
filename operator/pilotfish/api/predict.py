"""`spec.serving.predict`: plain JSON in, labels out, answered beside the model by a second one in the same server."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from pilotfish.api.base import ApiModel, Share
from pilotfish.api.markers import DocumentedEnum, Rule, full_match, marked

_NUMBER = r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?"
_NUMBER_LENGTH = 24
Number = Annotated[
    str,
    Field(
        pattern=f"^{_NUMBER}$",
        max_length=_NUMBER_LENGTH,
        json_schema_extra=marked(full_match(_NUMBER, 'write a decimal number in quotes such as "0.485" or "-1.5"')),
    ),
]
"""A decimal number, written as a string because floats do not survive every client."""


class PredictInput(DocumentedEnum):
    """What a request holds."""

    VALUES = "Values", "one flat list of numbers for each input of the model"
    IMAGE = "Image", "a JPEG or PNG file as base64"
    TEXT = "Text", "a text, made into tokens by the `tokenizer.json` that lies beside the model's weights"


class Scores(DocumentedEnum):
    """What the model's first output is."""

    LOGITS = "Logits", "scores of classes before softmax"
    PROBABILITIES = "Probabilities", "scores of classes that add up to 1 already"
    NONE = "None", "no classes: every output is answered as it is"


def _same_length(preprocessing: dict[str, Any]) -> bool:
    mean, std = (len(preprocessing.get(key, ())) for key in ("mean", "std"))
    return 0 in (mean, std) or mean == std


class Preprocessing(ApiModel):
    """How a JSON request becomes the model's input."""

    model_config = ConfigDict(
        json_schema_extra=marked(
            Rule(
                cel="!has(self.mean) || !has(self.std) || size(self.mean) == 0 || size(self.std) == 0 || "
                "size(self.mean) == size(self.std)",
                message="write as many numbers in std as in mean",
                holds=_same_length,
                field_path=".std",
            ),
            Rule(
                cel="!has(self.resize) || size(self.resize) != 1",
                message="write height and width such as [224, 224]",
                holds=lambda preprocessing: len(preprocessing.get("resize", ())) != 1,
                field_path=".resize",
            ),
        )
    )

    resize: tuple[Annotated[int, Field(ge=1, le=16384)], ...] = Field(default=(), max_length=2)
    """Height and width in pixels; the model's own when left out. Example: `[224, 224]`."""
    mean: tuple[Number, ...] = Field(default=(), max_length=256)
    """Subtracted from each channel after scaling to 0…1, or from each value of a list. Example: `["0.485", "0.456", "0.406"]`."""  # noqa: E501 - one example
    std: tuple[Number, ...] = Field(default=(), max_length=256)
    """Each channel, or each value of a list, is divided by it. Example: `["0.229", "0.224", "0.225"]`."""
    max_tokens: int | None = Field(default=None, ge=1, le=131072)
    """Tokens after which a text is cut; as many as the model or its tokenizer takes, else 512, when left out.
    Example: `128`."""


class Predict(ApiModel):
    """A plain-JSON endpoint: preprocessing, labels, revision and variant in the answer, statistics of what it says."""

    model_config = ConfigDict(
        json_schema_extra=marked(
            Rule(
                cel="self.scores != 'None' || !has(self.labels) || size(self.labels) == 0",
                message="remove labels, or say in scores what the model's first output is: Logits or Probabilities",
                holds=lambda predict: predict.get("scores") != Scores.NONE or not predict.get("labels"),
                field_path=".labels",
            ),
            Rule(
                cel="self.input == 'Image' || !has(self.preprocessing) || !has(self.preprocessing.resize) || "
                "size(self.preprocessing.resize) == 0",
                message="write input: Image, or remove preprocessing.resize: lists of numbers are not resized",
                holds=lambda predict: (
                    predict.get("input") == PredictInput.IMAGE or not predict.get("preprocessing", {}).get("resize")
                ),
                field_path=".preprocessing",
            ),
            Rule(
                cel="self.input == 'Text' || !has(self.preprocessing) || !has(self.preprocessing.maxTokens)",
                message="write input: Text, or remove preprocessing.maxTokens: only texts are made into tokens",
                holds=lambda predict: (
                    predict.get("input") == PredictInput.TEXT or "maxTokens" not in predict.get("preprocessing", {})
                ),
                field_path=".preprocessing",
            ),
            Rule(
                cel="self.input != 'Text' || !has(self.preprocessing) || "
                "((!has(self.preprocessing.mean) || size(self.preprocessing.mean) == 0) && "
                "(!has(self.preprocessing.std) || size(self.preprocessing.std) == 0))",
                message="remove preprocessing.mean and preprocessing.std: tokens of a text are no measurements",
                holds=lambda predict: (
                    predict.get("input") != PredictInput.TEXT
                    or not any(predict.get("preprocessing", {}).get(key) for key in ("mean", "std"))
                ),
                field_path=".preprocessing",
            ),
        )
    )

    input: PredictInput = PredictInput.VALUES
    """What a request holds."""
    preprocessing: Preprocessing | None = None
    """How a JSON request becomes the model's input. Example: `{resize: [224, 224]}`."""
    scores: Scores = Scores.LOGITS
    """What the model's first output is."""
    labels: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] = Field(default=(), max_length=10000)
    """Names of the classes in the order of the output; numbers when left out. Example: `[cat, dog]`."""
    top: int = Field(default=3, ge=1, le=100)
    """How many of the likeliest classes an answer lists."""
    sample_rate: Share = "1"
    """Share of requests that statistics are made of; `"0"` for none."""


PREDICT_RULES = (
    Rule(
        cel="!has(self.predict) || 'HTTP' in self.protocols",
        message="add HTTP to protocols, or remove predict: plain JSON comes in over HTTP",
        holds=lambda serving: "predict" not in serving or "HTTP" in serving["protocols"],
        field_path=".predict",
    ),
)
"""Rules of the block around it."""
