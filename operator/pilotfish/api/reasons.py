"""Every reason that a condition, an event or the history can carry. A closed list, each with its place in the docs.

The optimizer's own reasons (`api.report.OptimizerReason`) are part of it word for word.
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why something is as it is: one word for machines, one heading in docs/reasons.md."""

    # Going well
    SERVING = "Serving"
    UP_TO_DATE = "UpToDate"
    ALL_PODS_READY = "AllPodsReady"
    SCALED_TO_ZERO = "ScaledToZero"
    SUCCEEDED = "Succeeded"
    ARTIFACT_REUSED = "ArtifactReused"
    # On the way
    OPTIMIZING = "Optimizing"
    STARTING = "Starting"
    VERIFYING = "Verifying"
    CANARYING = "Canarying"
    HOLDING = "Holding"
    WAITING_FOR_DATA = "WaitingForData"
    WAITING_FOR_WINDOW = "WaitingForWindow"
    WAITING_FOR_ROUTES = "WaitingForRoutes"
    PROMOTING = "Promoting"
    BAKING = "Baking"
    PAUSED = "Paused"
    UNDONE = "Undone"
    NOT_SERVING = "NotServing"
    # The object itself and its neighbours
    INVALID_SPEC = "InvalidSpec"
    NOT_OWNED = "NotOwned"
    SUPERSEDED = "Superseded"
    SOURCE_CHANGED = "SourceChanged"
    REFRESH_FAILED = "RefreshFailed"
    # Pods that cannot start; they recover when the cause is gone
    IMAGE_PULL_FAILED = "ImagePullFailed"
    INSUFFICIENT_GPU = "InsufficientGPU"
    UNSCHEDULABLE = "Unschedulable"
    VOLUME_UNBOUND = "VolumeUnbound"
    QUOTA_EXCEEDED = "QuotaExceeded"
    PODS_NOT_CREATED = "PodsNotCreated"
    CREDENTIALS_MISSING = "CredentialsMissing"
    CHILD_REFUSED = "ChildRefused"
    CONTAINER_CONFIG_INVALID = "ContainerConfigInvalid"
    POD_EVICTED = "PodEvicted"
    # Pods that start and fail
    MODEL_LOAD_FAILED = "ModelLoadFailed"
    SERVING_OUT_OF_MEMORY = "ServingOutOfMemory"
    INSTALL_FAILED = "InstallFailed"
    PROGRESS_DEADLINE_EXCEEDED = "ProgressDeadlineExceeded"
    # Revisions that are judged and sent back
    VERIFICATION_FAILED = "VerificationFailed"
    VERIFICATION_ERROR = "VerificationError"
    ANALYSIS_FAILED = "AnalysisFailed"
    ANALYSIS_INCONCLUSIVE = "AnalysisInconclusive"
    ANALYSIS_ERROR = "AnalysisError"
    NO_DATA = "NoData"
    ABORTED_BY_USER = "AbortedByUser"
    UNDO_IMPOSSIBLE = "UndoImpossible"
    GATEWAY_UNAVAILABLE = "GatewayUnavailable"
    ROUTES_NOT_CONFIRMED = "RoutesNotConfirmed"
    # The optimization Job, as the operator sees it
    OPTIMIZER_FAILED = "OptimizerFailed"
    OPTIMIZER_OUT_OF_MEMORY = "OptimizerOutOfMemory"
    OPTIMIZER_DEADLINE_EXCEEDED = "OptimizerDeadlineExceeded"
    SIGNATURE_UNSERVABLE = "SignatureUnservable"
    # The optimization Job, as it says itself
    SOURCE_NOT_FOUND = "SourceNotFound"
    SOURCE_FORBIDDEN = "SourceForbidden"
    SOURCE_UNREACHABLE = "SourceUnreachable"
    SOURCE_DIGEST_MISMATCH = "SourceDigestMismatch"
    SOURCE_SIGNATURE_INVALID = "SourceSignatureInvalid"
    SOURCE_TRUNCATED = "SourceTruncated"
    SOURCE_TOO_LARGE = "SourceTooLarge"
    SOURCE_UNSUPPORTED = "SourceUnsupported"
    UNSAFE_MODEL = "UnsafeModel"
    UNKNOWN_FORMAT = "UnknownFormat"
    UNSUPPORTED_FORMAT = "UnsupportedFormat"
    MODEL_INVALID = "ModelInvalid"
    ARCHITECTURE_INVALID = "ArchitectureInvalid"
    SIGNATURE_MISSING = "SignatureMissing"
    SIGNATURE_MISMATCH = "SignatureMismatch"
    SAMPLES_INVALID = "SamplesInvalid"
    TRAINING_DATA_INVALID = "TrainingDataInvalid"
    TRAINING_FAILED = "TrainingFailed"
    CONVERSION_FAILED = "ConversionFailed"
    REFERENCE_INVALID = "ReferenceInvalid"
    MODEL_NOT_DETERMINISTIC = "ModelNotDeterministic"
    BATCH_DEPENDENT = "BatchDependent"
    NO_CANDIDATE_WITHIN_TOLERANCE = "NoCandidateWithinTolerance"
    STORE_FULL = "StoreFull"
    STORE_NOT_FOUND = "StoreNotFound"
    STORE_FORBIDDEN = "StoreForbidden"
    STORE_UNREACHABLE = "StoreUnreachable"
    ARTIFACT_MISSING = "ArtifactMissing"
    ARTIFACT_DIGEST_MISMATCH = "ArtifactDigestMismatch"
    ARTIFACT_KEY_INVALID = "ArtifactKeyInvalid"
    INPUT_INVALID = "InputInvalid"
    WRONG_IMAGE = "WrongImage"
    INTERRUPTED = "Interrupted"
    INTERNAL_ERROR = "InternalError"

    @property
    def is_failure(self) -> bool:
        """Whether it is worth a warning."""
        return self not in _CALM

    @property
    def anchor(self) -> str:
        """Where docs/reasons.md explains it, as the heading becomes an anchor: `insufficientgpu`."""
        return self.value.lower()


_CALM = frozenset(
    {
        Reason.SERVING,
        Reason.UP_TO_DATE,
        Reason.ALL_PODS_READY,
        Reason.SCALED_TO_ZERO,
        Reason.SUCCEEDED,
        Reason.ARTIFACT_REUSED,
        Reason.OPTIMIZING,
        Reason.STARTING,
        Reason.VERIFYING,
        Reason.CANARYING,
        Reason.HOLDING,
        Reason.WAITING_FOR_DATA,
        Reason.WAITING_FOR_WINDOW,
        Reason.WAITING_FOR_ROUTES,
        Reason.PROMOTING,
        Reason.BAKING,
        Reason.PAUSED,
        Reason.UNDONE,
        Reason.NOT_SERVING,
        Reason.SUPERSEDED,
        Reason.SOURCE_CHANGED,
    }
)
