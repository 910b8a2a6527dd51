"""An authority of one's own and certificates of it, as an operator makes them for the nodes of a Ray cluster."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Authority:
    folder: Path
    name: x509.Name
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls, folder: Path) -> Authority:
        folder.mkdir()
        authority = cls(folder, _named("the authority"), ec.generate_private_key(ec.SECP256R1()))
        authority._write("ca.crt", authority._sign(authority.name, authority.key, is_authority=True))
        return authority

    def certify(self, *addresses: str) -> dict[str, str]:
        """What a node or a driver of these addresses needs in its environment."""
        key = ec.generate_private_key(ec.SECP256R1())
        self._write("node.crt", self._sign(_named("a node"), key, addresses=addresses))
        self._write("node.key", key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ))  # fmt: skip
        return {
            "RAY_USE_TLS": "1",
            "RAY_TLS_SERVER_CERT": str(self.folder / "node.crt"),
            "RAY_TLS_SERVER_KEY": str(self.folder / "node.key"),
            "RAY_TLS_CA_CERT": str(self.folder / "ca.crt"),
        }

    def _sign(
        self,
        name: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *,
        addresses: tuple[str, ...] = (),
        is_authority: bool = False,
    ) -> bytes:
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if addresses:
            names = [x509.DNSName("localhost"), *(x509.IPAddress(ip_address(one)) for one in addresses)]
            made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return made.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _write(self, name: str, content: bytes) -> None:
        (self.folder / name).write_bytes(content)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
