"""Artifacts that their store cannot read, and stores that encrypt with the customer's key: through the Job's commands.

Artifacts that age encrypts lie in a folder in the place of a bucket, which is one code and ten times as fast. For keys of
the store it is a real S3 API with a gate before it that demands what Amazon demands: with a policy that refuses plain
writes every write names the key of KMS, and an object with a key of the customer's own is not even looked at without it.
"""

import base64
import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import boto3
import pyrage
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
from werkzeug.wrappers import Response

from pilotfish.api.job_input import InstallInput, JobInput, VerifyInput
from pilotfish.api.report import Manifest
from pilotfish.api.report import OptimizerReason as Reason
from pilotfish.optimizer.digest import folder_digest, hash_folder
from pilotfish.optimizer.errors import OptimizerError
from pilotfish.optimizer.store import artifacts, steps
from pilotfish.optimizer.store.keys import artifact_key
from pilotfish.optimizer.store.shelf import Shelf, open_shelf
from pilotfish.resources import JobIntent, ServingIntent, make_deployment, make_job
from pilotfish.resources.refresh_job import make_refresh_job
from pilotfish.resources.revision import RevisionObjects, RevisionRecord
from pilotfish.resources.verify_job import VerifyIntent, make_verify_job
from support.builders import OWNER, POLICY, make_artifact, make_signature, make_spec
from support.onnx_models import save_mlp
from support.stores import write_artifact

KEYS = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-1"}
URI = "s3://artifacts/team"
CANARY = b"nobody but the pods shall read this"
AGE = b"age-encryption.org/v1"
KMS = "arn:aws:kms:us-east-1:111122223333:key/1234abcd"
PLAIN = {"manifest.json", "report.json"}


class Gate:
    """Before the store: what a request must bring along. Everything passes until a rule is set."""

    def __init__(self, app):
        self.app, self.rule, self.seen = app, None, []

    def __call__(self, environ, start_response):
        refusal = self.rule(environ) if self.rule and environ["PATH_INFO"].count("/") > 1 else None
        if refusal is not None:
            return Response(f"<Error><Code>{refusal}</Code></Error>", 403, content_type="application/xml")(
                environ, start_response
            )
        return self.app(environ, start_response)


def names_the_kms_key(environ):
    """The bucket policy that Amazon's handbook has: no write without this key."""
    if environ["REQUEST_METHOD"] not in {"PUT", "POST"}:
        return None
    wanted = {"SERVER_SIDE_ENCRYPTION": "aws:kms", "SERVER_SIDE_ENCRYPTION_AWS_KMS_KEY_ID": KMS}
    told = {name: environ.get(f"HTTP_X_AMZ_{name}") for name in wanted}
    return None if told == wanted or "partNumber" in environ["QUERY_STRING"] else "AccessDenied"


class OfTheCustomer:
    """SSE-C: an object is written, read and looked at with the same key, or not at all."""

    def __init__(self):
        self.keys = {}

    def __call__(self, environ):
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        key = environ.get("HTTP_X_AMZ_SERVER_SIDE_ENCRYPTION_CUSTOMER_KEY")
        told = environ.get("HTTP_X_AMZ_SERVER_SIDE_ENCRYPTION_CUSTOMER_KEY_MD5")
        if method in {"DELETE", "POST"} and "uploads" not in environ["QUERY_STRING"]:
            return None
        if key is None or base64.b64encode(hashlib.md5(base64.b64decode(key)).digest()).decode() != told:
            return "InvalidRequest"
        if method == "PUT":
            self.keys[path] = key
        return None if self.keys.get(path, key) == key else "AccessDenied"


@pytest.fixture(scope="module")
def gate():
    gate = Gate(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, gate, threaded=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    gate.address = f"http://127.0.0.1:{server.server_port}"
    yield gate
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def s3(gate):
    client = boto3.client(
        "s3", endpoint_url=gate.address, region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s"
    )
    client.create_bucket(Bucket="artifacts")
    _empty(client)  # moto has one world in a process: other files may have left something
    yield client
    gate.rule = None
    _empty(client)


def _empty(client):
    for item in client.list_objects_v2(Bucket="artifacts").get("Contents", ()):
        client.delete_object(Bucket="artifacts", Key=item["Key"])


@dataclass
class Place:
    """A Job's pod and the pods that serve, over one bucket."""

    uri: str
    pod: object

    def secret(self, name, **files):
        folder = self.pod.run / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for key, value in files.items():
            (folder / key).write_text(value)

    def told(self, *, namespace="a", **place):
        where = {"uri": self.uri, "namespace": namespace, "name": "m", "uid": f"uid-{namespace}", **place}
        job = {"name": "m", "revision": "abcd2345", "recipeKey": "abcd2345", "bucket": where}
        return JobInput.model_validate({**job, "model": {"uri": "pvc://claim/model.onnx"}})

    def job(self, **place):
        """fetch, something in the place of optimize, publish; the result of the last."""
        for folder in ("work", "store", "order"):
            shutil.rmtree(self.pod.folder / folder, ignore_errors=True)
        self.pod.environment.setenv("PILOTFISH_JOB", self.told(**place).to_json())
        code, told = self.pod.command("fetch")
        assert code == 0, told.message
        if told.reason is not Reason.ARTIFACT_REUSED:
            optimized(self.pod.store)
        code, told = self.pod.command("publish")
        assert code == 0, told.message
        return told

    def install(self, told):
        artifact = told.artifact
        order = InstallInput(
            artifact=artifact.path,
            digest=artifact.digest,
            model="m",
            bucket=self.uri,
            encrypted=True if artifact.encrypted_for else None,
        )
        self.pod.environment.setenv("PILOTFISH_INSTALL", order.to_json())
        return self.pod.command("install")

    def golden(self, told):
        order = VerifyInput(
            model="m", host="localhost", pods=1, artifact=told.artifact, signature=told.signature, bucket=self.uri
        )
        self.pod.environment.setenv("PILOTFISH_VERIFY", order.to_json())
        return self.pod.command("golden")

    def files(self):
        """What lies in the store, by path."""
        root = Path(self.uri)
        return {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}


def optimized(store):
    """What the optimizer leaves: a model, a golden set, a page, a report."""
    manifest = write_artifact(store, "artifacts/abcd2345")
    folder = store / "artifacts" / "abcd2345"
    (folder / "model_repository" / "m" / "1" / "model.onnx").write_bytes(CANARY * 20_000)
    for name in ("golden/inputs.safetensors", "golden/outputs.safetensors", "report.html", "exports/model.tflite"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(CANARY)
    artifact = manifest.artifact.model_copy(
        update={
            "digest": folder_digest(hash_folder(folder / "model_repository")),
            "golden": folder_digest(hash_folder(folder / "golden")),
        }
    )
    result = manifest.result.model_copy(update={"artifact": artifact})
    whole = manifest.model_copy(update={"artifact": artifact, "result": result})
    (folder / "manifest.json").write_text(whole.to_json())
    (folder / "report.json").write_text(json.dumps({"artifact": {"path": artifact.path}}))


@pytest.fixture
def place(pod, tmp_path):
    """A folder in the place of a bucket."""
    save_mlp(pod.source / "model.onnx")
    return Place(str(tmp_path / "bucket"), pod)


@pytest.fixture
def bucket(s3, gate, pod):
    save_mlp(pod.source / "model.onnx")
    place = Place(URI, pod)
    place.secret("store-credentials", AWS_ENDPOINT_URL=gate.address, **KEYS)
    return place


@pytest.fixture(scope="module")
def identity():
    return pyrage.x25519.Identity.generate()


@pytest.fixture
def mounted(place, identity):
    place.secret("identity", **{"key.txt": f"# created: today\n# public key: {identity.to_public()}\n{identity}\n"})


class TestAge:
    @pytest.fixture
    def told(self, place, identity):
        return place.job(recipient=str(identity.to_public()))

    def test_the_store_never_sees_the_model_nor_a_sample(self, place, told, identity):
        assert told.artifact.encrypted_for == str(identity.to_public())
        for name, path in place.files().items():
            if not name.startswith("artifacts/"):
                continue
            body = path.read_bytes()
            assert CANARY not in body, name
            assert body.startswith(AGE) == (name.rpartition("/")[2] not in PLAIN), name

    def test_the_pods_get_the_bytes_that_were_proven(self, place, told, mounted):
        code, message = place.install(told)

        assert code == 0, message.message
        assert told.artifact.digest in message.message
        assert (place.pod.models / "m" / "1" / "model.onnx").read_bytes() == CANARY * 20_000

    def test_the_golden_set_is_brought_in_plain(self, place, told, mounted):
        code, message = place.golden(told)

        assert code == 0, message.message
        golden = place.pod.store / told.artifact.path / "golden"
        assert folder_digest(hash_folder(golden)) == told.artifact.golden

    @pytest.mark.parametrize("what", ["install", "golden"])
    @pytest.mark.parametrize(
        ("files", "says"),
        [
            (None, "holds no line that begins with AGE-SECRET-KEY-1"),
            ({"key.txt": "hello"}, "holds no line that begins with AGE-SECRET-KEY-1"),
            ({"key.txt": "AGE-SECRET-KEY-1QQQQ"}, "is no age private key"),
            ({"key.txt": str(pyrage.x25519.Identity.generate())}, "is encrypted for another key"),
        ],
        ids=["no Secret", "no key", "a broken key", "another key"],
    )
    def test_without_the_key_nothing_is_served(self, place, told, what, files, says):
        if files is not None:
            place.secret("identity", **files)

        code, message = getattr(place, what)(told)

        assert (code, message.reason) == (10, Reason.ARTIFACT_KEY_INVALID), message.message
        assert says in message.message
        assert "AGE-SECRET-KEY-1Q" not in message.message
        assert not list(place.pod.models.rglob("*.onnx"))

    def test_two_keys_in_the_secret_so_that_one_can_be_replaced(self, place, told, identity):
        place.secret("identity", new=str(pyrage.x25519.Identity.generate()), old=str(identity))

        assert place.install(told)[0] == 0

    @pytest.mark.parametrize("where", ["head", "middle", "end", "cut", "plain"])
    def test_changed_bytes_are_not_served(self, place, told, mounted, where):
        file = place.files()[f"{told.artifact.path}/model_repository/m/1/model.onnx"]
        body = bytearray(file.read_bytes())
        if where == "cut":
            del body[-1]
        elif where == "plain":
            body = bytearray(CANARY)
        else:
            body[{"head": body.index(b"\n---") + 6, "middle": len(body) // 2, "end": -1}[where]] ^= 1
        file.write_bytes(body)

        code, message = place.install(told)

        assert (code, message.reason) == (10, Reason.ARTIFACT_DIGEST_MISMATCH), message.message
        assert not list(place.pod.models.rglob("*.onnx"))

    def test_another_file_encrypted_for_the_same_key_is_not_served(self, place, told, mounted, identity):
        """Whoever knows the public key can encrypt; the digest is what is proven."""
        file = place.files()[f"{told.artifact.path}/model_repository/m/1/model.onnx"]
        file.write_bytes(pyrage.encrypt(b"another", [identity.to_public()]))

        assert place.install(told)[1].reason is Reason.ARTIFACT_DIGEST_MISMATCH

    def test_it_is_shared_with_who_has_the_same_key_and_nobody_else(self, place, told, identity):
        other = str(pyrage.x25519.Identity.generate().to_public())

        same = place.job(namespace="b", recipient=str(identity.to_public()))
        another = place.job(namespace="c", recipient=other)
        plain = place.job(namespace="d")

        assert same.reason is Reason.ARTIFACT_REUSED
        assert same.artifact == told.artifact
        assert another.artifact.encrypted_for == other
        assert plain.artifact.encrypted_for is None
        assert len({told.artifact.path, another.artifact.path, plain.artifact.path}) == 3

    def test_damage_is_found_without_the_key(self, place, told, identity):
        place.files()[f"{told.artifact.path}/golden/inputs.safetensors"].write_bytes(AGE)

        again = place.job(namespace="b", recipient=str(identity.to_public()))

        assert again.reason is Reason.SUCCEEDED, "made again"
        assert again.artifact.path != told.artifact.path

    def test_an_artifact_in_plain_is_not_taken_where_encryption_is_asked_for(self, place, told, identity):
        """Whoever may write to the bucket could lay one there: its bytes would be anybody's."""
        folder = Path(place.uri) / told.artifact.path
        manifest = json.loads((folder / "manifest.json").read_text())
        for name in ("model_repository", "golden"):
            for path in (path for path in (folder / name).rglob("*") if path.is_file()):
                path.write_bytes(pyrage.decrypt(path.read_bytes(), [identity]))
        del manifest["encrypted"], manifest["artifact"]["encryptedFor"]
        (folder / "manifest.json").write_text(json.dumps(manifest))

        again = place.job(namespace="b", recipient=str(identity.to_public()))

        assert again.reason is Reason.SUCCEEDED, "made again"
        assert again.artifact.encrypted_for

    def test_what_lies_there_in_plain_is_served_as_before(self, place, mounted):
        told = place.job()
        assert told.artifact.encrypted_for is None
        assert place.install(told)[0] == 0
        manifest = json.loads(place.files()[f"{told.artifact.path}/manifest.json"].read_text())
        assert "encrypted" not in manifest
        assert "encryptedFor" not in manifest["artifact"]

    def test_a_store_that_goes_away_is_told_as_that(self, place, told, mounted, monkeypatch):
        stream = Shelf.stream

        def breaks_off(shelf, path):
            yield next(stream(shelf, path))[:1000]
            raise OptimizerError(Reason.STORE_UNREACHABLE, "gone")

        monkeypatch.setattr(Shelf, "stream", breaks_off)
        monkeypatch.setattr(steps, "ATTEMPTS", 1)

        assert place.install(told)[1].reason is Reason.STORE_UNREACHABLE


class TestPods:
    """Who gets the private key."""

    RECIPIENT = str(pyrage.x25519.Identity.generate().to_public())

    def pods(self, artifact):
        encryption = {"recipient": self.RECIPIENT, "identitySecret": "artifacts-key"}
        place = {"uri": URI, "secretName": "bucket", "encryption": encryption}
        spec = make_spec({"model": {"uri": "s3://m/d/"}, "storage": {"kind": "Bucket", "bucket": place}})
        serving = ServingIntent(serving=spec.serving, revision="r", artifact=artifact, storage=spec.storage)
        deployment = make_deployment(OWNER, serving, POLICY)
        record = RevisionRecord(
            hash_version=1,
            revision="r",
            recipe_key="k",
            intent={},
            artifact=artifact,
            signature=make_signature(),
            objects=RevisionObjects(deployment=deployment, config_map={}, service={}),
        )
        verify = VerifyIntent(
            record=record, tolerance=None, tolerance_field="", pods=1, deployment_uid="u", storage=spec.storage
        )
        job = JobIntent(spec=spec, revision="r", recipe_key="k", generation=1)
        made = (
            deployment,
            make_verify_job(OWNER, verify, POLICY),
            make_job(OWNER, job, POLICY),
            make_refresh_job(OWNER, spec.model, POLICY, storage=spec.storage),
        )
        return [body["spec"]["template"]["spec"] for body in made]

    def test_it_is_where_artifacts_are_brought_and_nowhere_else(self):
        has = set()
        for pod in self.pods(make_artifact().model_copy(update={"encrypted_for": self.RECIPIENT})):
            for container in (*pod.get("initContainers", ()), *pod["containers"]):
                if any(mount["mountPath"].endswith("/identity") for mount in container["volumeMounts"]):
                    has.add(container["name"])
        assert has == {"install", "golden"}

    def test_an_artifact_in_plain_needs_none(self):
        assert "artifacts-key" not in json.dumps(self.pods(make_artifact()))

    def test_who_writes_is_told_the_public_key_alone(self):
        _, _, job, refresh = self.pods(make_artifact())
        assert self.RECIPIENT in json.dumps(job)
        assert "artifacts-key" not in json.dumps([job, refresh])


class TestKeysOfTheStore:
    def test_sse_kms_every_write_names_the_key(self, bucket, gate, s3, identity):
        gate.rule = names_the_kms_key
        with pytest.raises(AssertionError, match="refuses access"):
            bucket.job()
        bucket.secret("identity", key=str(identity))

        told = bucket.job(kms_key=KMS, recipient=str(identity.to_public()))

        assert bucket.install(told)[0] == 0
        for item in s3.list_objects_v2(Bucket="artifacts")["Contents"]:
            head = s3.head_object(Bucket="artifacts", Key=item["Key"])
            assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", KMS), item["Key"]

    def test_sse_c_nothing_is_read_without_the_key(self, bucket, gate, s3):
        key = base64.b64encode(b"k" * 32).decode()
        gate.rule = OfTheCustomer()
        bucket.secret("store-credentials", AWS_ENDPOINT_URL=gate.address, AWS_SSE_CUSTOMER_KEY=key, **KEYS)
        told = bucket.job()
        assert bucket.install(told)[0] == 0
        assert gate.rule.keys

        other = base64.b64encode(b"o" * 32).decode()
        bucket.secret("store-credentials", AWS_ENDPOINT_URL=gate.address, AWS_SSE_CUSTOMER_KEY=other, **KEYS)
        assert bucket.install(told)[1].reason is Reason.STORE_FORBIDDEN

    def test_sse_c_in_parts(self, bucket, gate, tmp_path):
        """A large file is sent in parts, each with the key."""
        key = base64.b64encode(b"k" * 32).decode()
        gate.rule = OfTheCustomer()
        shelf = open_shelf(URI, KEYS | {"AWS_ENDPOINT_URL": gate.address, "AWS_SSE_CUSTOMER_KEY": key})
        large = tmp_path / "large"
        large.write_bytes(b"x" * (60 << 20))

        shelf.upload(large, "large")

        assert sum(len(block) for block in shelf.stream("large")) == 60 << 20

    def test_sse_c_of_a_source(self, pod, gate, s3):
        key = base64.b64encode(b"k" * 32).decode()
        s3.put_object(Bucket="artifacts", Key="models/digits.onnx", Body=b"x" * 100)
        gate.rule = OfTheCustomer()
        keys = KEYS | {"AWS_ENDPOINT_URL": gate.address}
        pod.mount_keys(keys)
        assert pod.fetch("s3://artifacts/models/digits.onnx")[0] != 0

        pod.mount_keys(keys | {"AWS_SSE_CUSTOMER_KEY": key})
        code, told = pod.fetch("s3://artifacts/models/digits.onnx")

        assert (code, told.source.bytes) == (0, 100), told.message

    @pytest.mark.parametrize(
        ("keys", "says"),
        [
            ({"AWS_SSE_CUSTOMER_KEY": "c2hvcnQ="}, "is not 256 bits in base64"),
            ({"AWS_SSE_CUSTOMER_KEY": "!"}, "is not 256 bits in base64"),
            ({"AWS_SSE_CUSTOMER_KEY": "x", "AWS_SSE_KMS_KEY_ID": "y"}, "S3 takes one of both"),
        ],
    )
    def test_keys_that_cannot_be_used_are_named_and_not_printed(self, pod, gate, keys, says):
        pod.mount_keys(KEYS | {"AWS_ENDPOINT_URL": gate.address} | keys)

        code, told = pod.fetch("s3://artifacts/models/digits.onnx")

        assert (code, told.reason) == (10, Reason.SOURCE_FORBIDDEN)
        assert says in told.message
        assert "c2hvcnQ=" not in told.message


def test_the_key_of_an_artifact_is_what_it_was_and_changes_with_the_recipient():
    digests = {"source": "sha256:" + "a" * 64}
    told = Place(URI, None).told
    assert artifact_key(told(), digests) == artifact_key(told(kms_key=KMS), digests)
    assert (
        len(
            {
                artifact_key(told(), digests),
                artifact_key(told(recipient="a"), digests),
                artifact_key(told(recipient="b"), digests),
            }
        )
        == 3
    )


def test_a_manifest_of_before_is_read(tmp_path):
    written = write_artifact(tmp_path, "artifacts/k")
    wire = json.loads((tmp_path / "artifacts" / "k" / "manifest.json").read_text())
    assert "encrypted" not in wire
    assert Manifest.model_validate(wire) == written
    assert artifacts.read_manifest(open_shelf(str(tmp_path), {}), "artifacts/k") == written
