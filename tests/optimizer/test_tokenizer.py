"""The tokenizer of a source stays beside the model in its artifact, and is hashed with it."""

from pilotfish.api.report import Manifest
from support.onnx_models import save_mlp


def test_it_is_kept_hashed_and_told(local):
    source = local.folder / "source"
    source.mkdir()
    save_mlp(source / "model.onnx")
    (source / "tokenizer.json").write_text('{"version": "1.0"}')

    message = local.run({"uri": str(source)}, optimization={"formats": ["ONNX"], "batchSizes": [1]})

    assert message.artifact is not None, message.message
    folder = local.artifact(message)
    (kept,) = folder.glob("model_repository/*/tokenizer.json")
    assert kept.read_bytes() == (source / "tokenizer.json").read_bytes()
    manifest = Manifest.model_validate_json((folder / "manifest.json").read_text())
    assert message.artifact.tokenizer is manifest.artifact.tokenizer is True
    assert kept.relative_to(folder / "model_repository").as_posix() in {file.path for file in manifest.files}
