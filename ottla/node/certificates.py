"""A private certificate authority for trials and small clusters: it, a certificate for each node, and one for clients.

    DIR/ca.pem  DIR/ca.key  DIR/node-1.pem  DIR/node-1.key  …  DIR/client.pem  DIR/client.key

Whoever holds `ca.key` can make certificates that the cluster trusts; only making further ones needs it. A directory
that holds an authority already keeps it, and its nodes get new certificates: that is a renewal. Needs the package
`cryptography` (`pip install 'ottla[tls]'`).
"""

import datetime
import ipaddress
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ottla.core.errors import ConfigError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

CA_DAYS: Final = 3650
DAYS: Final = 825  # macOS trusts no server's certificate for longer
CLOCK_SKEW: Final = datetime.timedelta(hours=1)  # of a machine that is to accept what was made a moment ago
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A certificate's file and its key's."""

    certificate: Path
    key: Path


class Certificates:
    """What lies in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def ca(self) -> Path:
        """What everybody checks certificates with."""
        return self.directory / "ca.pem"

    def node(self, number: int) -> Pair:
        """A node's."""
        return self._pair(f"node-{number}")

    @property
    def client(self) -> Pair:
        """For clients, where the nodes ask for a certificate."""
        return self._pair("client")

    def covers(self, hosts: Sequence[str], nodes: int) -> bool:
        """Whether these nodes have certificates that are valid and bear these names, as far as that can be found out
        without `cryptography`. Raises ConfigError.
        """
        pairs = [self.node(number) for number in range(1, nodes + 1)]
        if not all(path.exists() for pair in pairs for path in (self.ca, pair.certificate, pair.key)):
            return False
        try:
            from cryptography import x509
        except ImportError:
            return True
        now = datetime.datetime.now(datetime.UTC)
        for pair in pairs:
            try:
                certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
                names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            except (OSError, ValueError, x509.ExtensionNotFound) as error:
                raise ConfigError(
                    f"{pair.certificate} cannot be used ({error}): delete it to have another made"
                ) from None
            if certificate.not_valid_after_utc <= now or not set(map(_name, hosts)) <= set(names):
                return False
        return True

    def create(self, hosts: Sequence[str], nodes: int) -> None:
        """Make the authority if there is none, and certificates for these names. Raises ConfigError, OSError."""
        _require()
        names = [_name(host) for host in hosts]
        if not names:
            raise ConfigError("--hosts is empty: name every host by which the nodes are reached")
        if nodes < 1:
            raise ConfigError(f"--nodes {nodes}: there is at least one")
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority = self._authority()
        for number in range(1, nodes + 1):
            authority.issue(self.node(number), f"ottla node {number}", names, is_server=True)
        authority.issue(self.client, "ottla client", [], is_server=False)

    def _authority(self) -> "_Authority":
        pair = self._pair("ca")
        if pair.certificate.exists() or pair.key.exists():
            return _Authority.read(pair)
        return _Authority.found(pair)

    def _pair(self, name: str) -> Pair:
        return Pair(certificate=self.directory / f"{name}.pem", key=self.directory / f"{name}.key")


class _Authority:
    """Signs."""

    def __init__(self, certificate: "x509.Certificate", key: "EllipticCurvePrivateKey") -> None:
        self._certificate, self._key = certificate, key

    @classmethod
    def read(cls, pair: Pair) -> "_Authority":
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
            key = load_pem_private_key(pair.key.read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"{pair.certificate.parent} holds half of an authority or a damaged one ({error}): "
                "restore ca.pem and ca.key, or name another directory"
            ) from None
        if not isinstance(key, EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ConfigError(f"{pair.key} is not the key of {pair.certificate}: restore it, or name another directory")
        return cls(certificate, key)

    @classmethod
    def found(cls, pair: Pair) -> "_Authority":
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.x509.oid import NameOID

        key = _new_key()
        # The random part tells authorities apart that were made one after the other.
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"ottla trial authority {os.urandom(4).hex()}")])
        usage = _usage(signs_certificates=True)
        certificate = (
            _builder(name, name, key, CA_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        authority = cls(certificate, key)
        _write(pair, certificate, key)
        return authority

    def issue(self, pair: Pair, subject: str, names: "Sequence[x509.GeneralName]", *, is_server: bool) -> None:
        """A new key and its certificate. Nodes dial each other, so they are clients too."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

        key = _new_key()
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if is_server:
            purposes.insert(0, ExtendedKeyUsageOID.SERVER_AUTH)
        builder = (
            _builder(
                x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]), self._certificate.subject, key, DAYS
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        _write(pair, builder.sign(self._key, hashes.SHA256()), key)


def _require() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise ConfigError(
            "making certificates needs the package cryptography: pip install 'ottla[tls]' (using them does not)"
        ) from None


def _name(host: str) -> "x509.GeneralName":
    from cryptography import x509

    host = host.strip().removeprefix("[").removesuffix("]")
    with suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(host))
    try:
        return x509.DNSName(host.encode("idna").decode())
    except UnicodeError:
        raise ConfigError(f"{host!r} is no host name") from None


def _new_key() -> "EllipticCurvePrivateKey":
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _builder(
    subject: "x509.Name", issuer: "x509.Name", key: "EllipticCurvePrivateKey", days: int
) -> "x509.CertificateBuilder":
    from cryptography import x509

    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> "x509.KeyUsage":
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write(pair: Pair, certificate: "x509.Certificate", key: "EllipticCurvePrivateKey") -> None:
    """The key first: a node that looks in between finds a pair that does not match, and waits for the next change."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    _replace(pair.key, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    _replace(pair.certificate, certificate.public_bytes(Encoding.PEM), 0o644)


def _replace(path: Path, content: bytes, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)
