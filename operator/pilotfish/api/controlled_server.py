"""The command line of a Triton that is measured: it loads what it is told to, so it listens on the loopback alone.

Pure. All flags are older than the oldest server that Pilotfish knows.
"""

LOOPBACK = "127.0.0.1"


def controlled_arguments(*, model_repository: str, port: int, backend_directory: str | None = None) -> tuple[str, ...]:
    """Arguments for `tritonserver`, in a stable order; `backend_directory` None uses the server's own."""
    return (
        f"--model-repository={model_repository}",
        *([f"--backend-directory={backend_directory}"] if backend_directory else []),
        "--model-control-mode=explicit",
        "--disable-auto-complete-config",
        "--allow-http=false",
        "--allow-metrics=false",
        "--allow-sagemaker=false",
        "--allow-vertex-ai=false",
        f"--grpc-address={LOOPBACK}",
        f"--grpc-port={port}",
        "--exit-on-error=false",
        "--log-info=false",
        "--exit-timeout-secs=1",
    )
