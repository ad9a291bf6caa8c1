"""A report with everything in it, for whatever shows reports."""

from typing import Any

from pilotfish.api.report import Report

DIGEST = "sha256:" + "ab" * 32


def measurement(batch: int, median: float, *, loads: bool = True) -> dict[str, Any]:
    """One candidate at one batch size."""
    edges = [round(median * (0.9 + 0.05 * i), 6) for i in range(8)] + [median * 3]
    return {
        "batch": batch,
        "latencyMs": {"median": median, "p95": median * 1.2, "p99": median * 1.5},
        "throughput": batch / median * 1000,
        "spread": 0.01,
        "runs": 120,
        "rounds": [median] * 5,
        "histogram": {"edges": edges, "counts": [5, 20, 50, 20, 10, 8, 5, 2]},
        "loads": [{"concurrency": 2, "throughput": 1500 / median, "latencyMs": median * 1.4}] if loads else [],
    }


def candidate(variant: str, **fields: Any) -> dict[str, Any]:
    """One line of the table."""
    precision = "INT8" if "int8" in variant else "FP32"
    return {
        "variant": variant,
        "format": "ONNX" if "onnx" in variant else "TorchScript",
        "precision": precision,
        "runtime": "onnxruntime 1.31.0",
        "verdict": "Accepted",
        **fields,
    }


def error(relative: float, **fields: Any) -> dict[str, Any]:
    """Figures of a candidate whose relative error is this."""
    return {"maxAbs": relative * 10, "maxRel": relative, "cosine": 1 - relative, "batchParity": 1e-7, **fields}


def load(concurrency: int, throughput: float) -> dict[str, Any]:
    """One tuned point under load."""
    figures = {"p50Ms": 1.0, "p95Ms": 2.5, "p99Ms": 3.0, "requests": 1000, "spread": 0.01, "p95Spread": 0.02}
    return {"concurrency": concurrency, "throughput": throughput, **figures}


def make_wire(**fields: Any) -> dict[str, Any]:
    """report.json as it is written, with these fields in the place of its own."""
    tensor = {"name": "image", "dtype": "FP32", "shape": [1, 8, 8]}
    return {
        "schemaVersion": 1,
        "name": "digits",
        "recipeKey": "abcd2345",
        "source": {"digest": DIGEST, "format": "ExportedProgram", "bytes": 123456},
        "recipe": {"model": {"uri": "s3://models/digits/v1/"}, "optimization": {"precisions": ["FP32", "INT8"]}},
        "environment": {
            "cpu": "AMD EPYC", "cpuFlags": ["avx2", "avx512_vnni"], "cpuCount": 2, "threads": 2,
            "python": "3.11.2", "packages": {"onnxruntime": "1.31.0", "torch": "2.15.0"},
        },
        "samples": "Given",
        "sampleCount": 40,
        "seed": 0,
        "signature": {"inputs": [tensor], "outputs": [{"name": "logits", "dtype": "FP32", "shape": [10]}], "batched": True},
        "baseline": {
            "variant": "torch-fp32", "runtime": "torch 2.15.0", "peakMemoryBytes": 300 << 20,
            "measurements": [measurement(1, 0.6), measurement(8, 2.1, loads=False)],
        },
        "candidates": [
            candidate("onnx-fp32", bytes=40000, error=error(1.2e-6), speedup=3.0, peakMemoryBytes=90 << 20, metric=0.97,
                      measurements=[measurement(1, 0.2), measurement(8, 0.9, loads=False)]),
            candidate("onnx-int8-static", bytes=12000, error=error(0.012, top1Agreement=1.0), speedup=5.0, metric=0.965,
                      measurements=[measurement(1, 0.12), measurement(8, 0.5, loads=False)],
                      layers=[{"layer": "/features/0/Conv", "op": "Conv", "error": 0.05, "kept": True},
                              {"layer": "/head/Gemm", "op": "Gemm", "error": 0.004}]),
            candidate("onnx-int8-dynamic", bytes=13000, verdict="Refused", error=error(0.31),
                      reason="relative error 0.31 is above 0.05 (the default for this precision)"),
            candidate("torchscript-fp32", verdict="Failed", reason="ValueError: the graph cannot be traced"),
        ],
        "winner": "onnx-int8-static",
        "why": "best by Latency of 2 accepted candidates",
        "artifact": {
            "digest": DIGEST, "path": "artifacts/abcd2345", "bytes": 12345, "format": "ONNX", "precision": "INT8",
            "variant": "onnx-int8-static", "backend": "onnxruntime", "golden": DIGEST,
        },
        "files": [{"path": "digits/1/model.onnx", "bytes": 12000, "sha256": "ab" * 32}],
        "notes": ["the batch dimension was free"],
        "stages": [{"stage": "load", "seconds": 1.234}, {"stage": "benchmark", "seconds": 12.0}],
        "metric": {"name": "accuracy", "reference": 0.97, "source": 0.95},
        "training": [{
            "stage": "distill", "seconds": 61.5, "samples": 1000, "heldOut": 200, "metric": "accuracy", "seed": 3,
            "metricBefore": 0.95, "metricAfter": 0.97, "parametersBefore": 50000, "parametersAfter": 9000,
            "epochs": [{"epoch": n, "loss": 1 / n, "validationLoss": 1.2 / n, "metric": 0.9 + n / 100, "learningRate": 0.001}
                       for n in range(1, 6)],
        }],
        "profile": [{
            "variant": "onnx-int8-static", "role": "winner", "tool": "onnxruntime", "batch": 1, "runs": 20,
            "operators": [{"op": "QLinearConv", "calls": 4, "milliseconds": 0.08, "share": 0.8},
                          {"op": "QGemm", "calls": 1, "milliseconds": 0.02, "share": 0.2}],
            "trace": {"path": "profile/winner.trace.json.gz", "bytes": 4096, "sha256": "ab" * 32},
        }, {"variant": "torch-fp32", "role": "baseline", "tool": "torch.profiler", "batch": 1, "runs": 0,
            "problem": "the profiler ended with exit code 1"}],
        "explanation": {
            "method": "IntegratedGradients", "tool": "captum 0.8.0", "variant": "torch-fp32", "seconds": 1.5,
            "samples": [
                {"sample": 0, "target": "logits[3]", "answer": 4.25, "baselineAnswer": 0.125, "delta": 0.0002, "inputs": [
                    {"input": "image", "rows": 2, "columns": 3, "values": [0.5, -0.25, 0.0, 3.0, 0.875, 0.0]},
                    {"input": "age", "rows": 1, "columns": 2, "values": [0.1, -0.7]}]},
                {"sample": 1, "target": "logits[7]", "problem": "its attributions are not finite numbers"},
            ],
            "importance": [{"input": "image", "rows": 2, "columns": 3, "values": [0.5, 0.25, 0.0, 3.0, 0.875, 0.0]},
                           {"input": "age", "rows": 1, "columns": 2, "values": [0.1, 0.7]}],
        },
        "tuning": {
            "objective": "Throughput", "server": "triton 2.51.0", "cores": 2, "concurrency": 16, "winner": 1,
            "why": "2 instances give 1.4 times the throughput of the default", "complete": True,
            "points": [
                {"maxBatchSize": 8, "maxQueueDelayMicroseconds": 0, "instances": 1, "intraOpThreads": 2,
                 "verdict": "Measured", "reason": "another one is better", "loads": [load(4, 900.0), load(16, 1000.0)]},
                {"maxBatchSize": 8, "preferredSizes": [4, 8], "maxQueueDelayMicroseconds": 500, "instances": 2,
                 "intraOpThreads": 1, "verdict": "Won", "reason": "most inferences per second", "loads": [load(16, 1400.0)]},
                {"maxBatchSize": 64, "maxQueueDelayMicroseconds": 500, "instances": 2, "intraOpThreads": 2,
                 "verdict": "Failed", "reason": "the server did not load it"},
            ],
        },
        "exports": [
            {"format": "TFLite", "path": "exports/model.tflite", "bytes": 20480, "digest": DIGEST, "runtime": "tflite",
             "maxRel": 2e-6, "notes": ["batch of one"]},
            {"format": "TFLite", "problem": "the operator Loop has no counterpart"},
        ],
        **fields,
    }  # fmt: skip


def make_report(**fields: Any) -> Report:
    """The same, read."""
    return Report.model_validate(make_wire(**fields))
