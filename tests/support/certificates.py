"""Authorities and certificates for tests, valid for an hour, as files named like the keys of Secrets."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

HOUR = timedelta(hours=1)


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs certificates."""

    name: str
    key: ec.EllipticCurvePrivateKey = field(default_factory=_key)

    @property
    def certificate(self) -> x509.Certificate:
        """Its own."""
        return (
            self._builder(self.name, self.key, ends=datetime.now(tz=UTC) + HOUR)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self.key, SHA256())
        )

    def issue(self, folder: Path, *names: str, ends_in: timedelta = HOUR) -> Path:
        """tls.crt, tls.key and ca.crt for these DNS names, or for a client without any, in a folder."""
        key = _key()
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = self._builder(names[0] if names else "client", key, ends=datetime.now(tz=UTC) + ends_in)
        made = (builder.add_extension(alternatives, critical=False) if names else builder).sign(self.key, SHA256())
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tls.crt").write_bytes(made.public_bytes(Encoding.PEM))
        (folder / "tls.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        (folder / "ca.crt").write_bytes(self.certificate.public_bytes(Encoding.PEM))
        return folder

    def _builder(self, common: str, key: ec.EllipticCurvePrivateKey, *, ends: datetime) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_name(common))
            .issuer_name(_name(self.name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.now(tz=UTC) - 2 * HOUR)
            .not_valid_after(ends)
        )
