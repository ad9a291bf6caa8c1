"""Builders of whole Kubernetes objects. Data in, data out."""

from pilotfish.resources.budget import make_pod_disruption_budget
from pilotfish.resources.config_map import make_config_map
from pilotfish.resources.deployment import ServingIntent, make_deployment, with_scale
from pilotfish.resources.event import make_event
from pilotfish.resources.job import JobIntent, make_job
from pilotfish.resources.meta import Owner
from pilotfish.resources.policy import Compute, Images, Policy
from pilotfish.resources.refresh_job import make_refresh_job
from pilotfish.resources.revision import RevisionObjects, RevisionRecord, make_controller_revision, read_record
from pilotfish.resources.routes import make_grpc_route, make_http_route, make_route_service
from pilotfish.resources.services import make_headless_service, make_service
from pilotfish.resources.shadow import ShadowIntent, make_shadow
from pilotfish.resources.store import make_store_claim
from pilotfish.resources.verify_job import VerifyIntent, make_verify_job

__all__ = [
    "Compute",
    "Images",
    "JobIntent",
    "Owner",
    "Policy",
    "RevisionObjects",
    "RevisionRecord",
    "ServingIntent",
    "ShadowIntent",
    "VerifyIntent",
    "make_config_map",
    "make_controller_revision",
    "make_deployment",
    "make_event",
    "make_grpc_route",
    "make_headless_service",
    "make_http_route",
    "make_job",
    "make_pod_disruption_budget",
    "make_refresh_job",
    "make_route_service",
    "make_service",
    "make_shadow",
    "make_store_claim",
    "make_verify_job",
    "read_record",
    "with_scale",
]
