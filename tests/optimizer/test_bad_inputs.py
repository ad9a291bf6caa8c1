"""Bad inputs through the real commands: each ends with its own reason, one sentence, and nothing written elsewhere."""

import pytest

from support.bad import Bad
from support.bad.graphs import GRAPHS
from support.bad.lessons import KERAS, TENSORFLOW, TORCHSERVE, TRAINING, USER_CODE
from support.bad.samples import SAMPLES, SIGNATURES
from support.bad.sources import FETCH, FILES, SAFETENSORS
from support.bad.trial import refuse, sandbox
from support.bad.weights import FOLDERS, PICKLES, STATES

__all__ = ["sandbox"]

TAUGHT = (*TRAINING, *USER_CODE, *TORCHSERVE, *TENSORFLOW, *KERAS)
ALL = (*TAUGHT, *FETCH, *FILES, *SAFETENSORS, *GRAPHS, *PICKLES, *STATES, *FOLDERS, *SAMPLES, *SIGNATURES)


def _cases():
    for bad in ALL:
        yield pytest.param(bad, id=bad.name, marks=[pytest.mark.torch] if bad.torch else [])


@pytest.mark.parametrize("bad", _cases())
def test_it_ends_with_its_reason_and_a_sentence(bad: Bad, sandbox, capfd):
    refuse(bad, sandbox, capfd)


def test_there_are_enough_of_them_and_no_name_twice():
    names = [bad.name for bad in ALL]
    assert len(set(names)) == len(names) >= 100


_SMALL = {
    "num_hidden_layers": 1,
    "vocab_size": 64,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


@pytest.mark.torch
@pytest.mark.parametrize(
    "name", ["BertModel", "BertForMaskedLM", "GPT2LMHeadModel", "DistilBertForSequenceClassification"]
)
def test_sound_folders_lack_no_weights(name, tmp_path):
    import transformers

    from pilotfish.optimizer.pytorch.huggingface import load_folder

    kind = getattr(transformers, name)
    wide = {"dim": 32, "hidden_dim": 32, "n_heads": 2, "n_layers": 1} if "Distil" in name else {}
    kind(kind.config_class(**(_SMALL | wide))).save_pretrained(tmp_path)
    assert type(load_folder(tmp_path)) is kind
