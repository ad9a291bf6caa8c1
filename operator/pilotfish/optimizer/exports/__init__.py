"""Exports: artifacts for elsewhere, each checked against the original, reported and never served.

One module per format, named in `frame.MODULES`. A module has two functions:

- `write(shop: frame.ExportShop, folder: Path) -> frame.Written`: make the files in the empty `folder`. Raise ValueError
  with a sentence for the user where the model or the image does not allow it; any other exception is told as it comes.
- `load(subject: worker.Subject) -> model.Runner`: read the main file (`subject.path`) back. Called in a worker process,
  so that a runtime that crashes takes nothing with it. Input names in the signature's order are
  `[t["name"] for t in subject.source["inputs"]]`, output names are `subject.outputs`.

The frame runs `load` on the golden set in batch 1 and in a larger one, compares with the original's answers and writes
`api.report_sections.Export`. A new format: its member of `api.optimization.ExportFormat`, its module here, its line in
`MODULES`. An export that fails says why and never fails the run.
"""
