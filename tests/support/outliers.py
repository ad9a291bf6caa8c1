"""Networks that answer as before and that 8 bits hurt: some channels a thousand times as large as the others.

A ReLU lets a positive factor through, so what one layer's channel gains the next layer's weights give back. One range
for the whole tensor then leaves nothing for the small channels.
"""

import copy
from collections.abc import Sequence

import torch
from torch import nn

CHANNELS = 3


def with_outliers(model: nn.Module, pairs: Sequence[tuple[str, str]], *, factor: float = 1000.0) -> nn.Module:
    """A copy of `model`; for each pair the first channels of the former layer's output are `factor` times as large, and
    the latter's weights make up for it. A linear layer after a flattened image has several inputs for each channel."""
    changed = copy.deepcopy(model).eval()
    parts = dict(changed.named_modules())
    with torch.no_grad():
        for former, latter in pairs:
            source, sink = parts[former], parts[latter]
            width = sink.weight.shape[1] // source.weight.shape[0]
            source.weight[:CHANNELS] *= factor
            source.bias[:CHANNELS] *= factor
            sink.weight[:, : CHANNELS * width] /= factor
    return changed
