"""TLS to a loaded server: whom the verification trusts, and what it shows. Says why a certificate does not hold.

gRPC tells a failed handshake like any other silence, so the certificate is looked at once with a plain connection.
"""

import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotfish.api.job_input import CLIENT_TLS, SERVER_TLS, VerifyTls
from pilotfish.api.report import OptimizerReason, one_line
from pilotfish.optimizer.errors import OptimizerError

_CERTIFICATE, _KEY, _AUTHORITY = "tls.crt", "tls.key", "ca.crt"
_LOOK_SECONDS = 5.0
_SPEC = "spec.serving.access.tls"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTls:
    """PEM: `trusted` authorities of the server, and the certificate and key that are shown. `host`: its name."""

    host: str
    trusted: bytes
    certificate: bytes | None = None
    key: bytes | None = None

    def channel(self) -> tuple[Any, list[tuple[str, str]]]:
        """Credentials and arguments of a gRPC channel to any of the pods' addresses."""
        import grpc

        credentials = grpc.ssl_channel_credentials(self.trusted, self.key, self.certificate)
        return credentials, [("grpc.ssl_target_name_override", self.host)]


def read_tls(told: VerifyTls, run: Path) -> ServerTls:
    """The files of the Secrets; without an authority the server's certificate itself is trusted.

    Raises:
        OptimizerError: VerificationError when a Secret lacks what is needed.
    """
    server, client = run / SERVER_TLS, run / CLIENT_TLS
    trusted = [path.read_bytes() for path in (server / _AUTHORITY, server / _CERTIFICATE) if path.is_file()]
    if not trusted:
        raise _refused(f"the Secret of {_SPEC}.secretName has no {_CERTIFICATE}")
    shown = [client / _CERTIFICATE, client / _KEY] if told.shows_certificate else []
    if lacking := [path.name for path in shown if not path.is_file()]:
        raise _refused(f"the Secret of {_SPEC}.clientCA has no {lacking[0]}: a client's, which the verification shows")
    certificate, key = (path.read_bytes() for path in shown) if shown else (None, None)
    return ServerTls(host=told.host, trusted=b"\n".join(trusted), certificate=certificate, key=key)


def check_certificate(tls: ServerTls, addresses: Sequence[str]) -> None:
    """Look at the certificate that each address shows; one that cannot be reached is somebody else's matter.

    Raises:
        OptimizerError: VerificationError with what is wrong with the certificate.
    """
    for address in addresses:
        try:
            _look(tls, address)
        except ssl.SSLCertVerificationError as error:
            said = one_line(error.verify_message, limit=200)
            raise _refused(f"the certificate of {_SPEC}.secretName does not hold for {tls.host}: {said}") from error
        except OSError:
            continue


def _look(tls: ServerTls, address: str) -> None:
    host, _, port = address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols(["h2"])
    context.load_verify_locations(cadata=tls.trusted.decode("ascii", "ignore"))
    with (
        socket.create_connection((host.strip("[]"), int(port)), timeout=_LOOK_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=tls.host),
    ):
        pass


def _refused(sentence: str) -> OptimizerError:
    return OptimizerError(OptimizerReason.VERIFICATION_ERROR, sentence)
