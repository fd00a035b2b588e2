"""A node's certificate, key and authority: read and checked at start, read again when the files change.

Whoever serves or dials takes what is `current` for each new connection; what is open stays as it is. A file that cannot
be used changes nothing: it is told with one line, and what was read before stays in force. OpenSSL's contexts serve the
doors on the event loop, gRPC has credentials of its own.

Between nodes both ends show a certificate of the authority. The proof of the cluster's secret comes on top of it.
"""

import asyncio
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from ottla.core.errors import ConfigError

if TYPE_CHECKING:
    import grpc

    from ottla.node.config import NodeConfig

LOOK_S: Final = 1.0  # a change is taken when two looks in a row saw the same files: they are written one by one
_VERIFY: Final = {"none": ssl.CERT_NONE, "requested": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Where they lie (PEM), and whether clients have to show certificates: none, requested or required."""

    certificate: Path
    key: Path
    ca: Path
    client_auth: str = "none"

    @classmethod
    def of(cls, config: "NodeConfig") -> "TlsFiles":
        """What a node is configured with, which is a certificate at least."""
        return cls(
            certificate=Path(config.tls_certificate),
            key=Path(config.tls_key or config.tls_certificate),
            ca=Path(config.tls_ca),
            client_auth=config.tls_client_auth,
        )

    def signature(self) -> tuple[object, ...]:
        """Changes when a file does."""
        return tuple(_stamp(path) for path in dict.fromkeys((self.certificate, self.key, self.ca)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What was read at one moment."""

    certificate: bytes
    key: bytes
    ca: bytes
    door: ssl.SSLContext  # for clients
    node_server: ssl.SSLContext
    node_client: ssl.SSLContext

    @classmethod
    def read(cls, files: TlsFiles) -> "Material":
        """Raises ConfigError that names the file and says what is wrong with it."""
        return cls(
            certificate=_read(files.certificate, "tls_certificate"),
            key=_read(files.key, "tls_key"),
            ca=_read(files.ca, "tls_ca"),
            door=_context(files, ssl.PROTOCOL_TLS_SERVER, _VERIFY[files.client_auth]),
            node_server=_context(files, ssl.PROTOCOL_TLS_SERVER, ssl.CERT_REQUIRED),
            node_client=_context(files, ssl.PROTOCOL_TLS_CLIENT, ssl.CERT_REQUIRED),
        )


class Tls:
    """One node's. Raises ConfigError when the files cannot be used."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._signature = self._seen = files.signature()
        self.current = Material.read(files)
        self._watch: asyncio.TimerHandle | None = None

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look at the files again and again, until `close`."""
        self._watch = loop.call_later(LOOK_S, self._look, loop)

    def close(self) -> None:
        """Look no more."""
        if self._watch is not None:
            self._watch.cancel()

    def look(self) -> None:
        """See whether the files changed, and take them when they are complete."""
        seen, self._seen = self._seen, self._files.signature()
        if self._seen == self._signature or self._seen != seen:
            return
        self._signature = self._seen
        try:
            material = Material.read(self._files)
        except ConfigError as error:
            _log.error("the changed TLS files cannot be used, the ones read before stay in force", error=str(error))
            return
        self.current = material
        _log.info("the changed TLS files are in force for new connections", certificate=str(self._files.certificate))

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self.look()
        self.watch(loop)

    def door_context(self) -> ssl.SSLContext:
        """For the next client."""
        return self.current.door

    def node_server_context(self) -> ssl.SSLContext:
        """For the next node that comes."""
        return self.current.node_server

    def node_client_context(self) -> ssl.SSLContext:
        """For dialling another node."""
        return self.current.node_client

    # -- gRPC's side of it: each port needs credentials of its own, as they remember what it was told last

    def door_credentials(self) -> "grpc.ServerCredentials":
        """For the clients' door. gRPC for Python knows no optional certificates: `requested` is `none` there."""
        return self._server_credentials(is_required=self._files.client_auth == "required")

    def node_server_credentials(self) -> "grpc.ServerCredentials":
        """For other nodes."""
        return self._server_credentials(is_required=True)

    def node_client_credentials(self) -> "grpc.ChannelCredentials":
        """For dialling other nodes, with what is in force now."""
        import grpc

        now = self.current
        return grpc.ssl_channel_credentials(now.ca, now.key, now.certificate)

    def _server_credentials(self, *, is_required: bool) -> "grpc.ServerCredentials":
        import grpc

        used = self.current

        def configuration(material: Material) -> "grpc.ServerCertificateConfiguration":
            return grpc.ssl_server_certificate_configuration([(material.key, material.certificate)], material.ca)

        def changed() -> "grpc.ServerCertificateConfiguration | None":
            """Called by gRPC at each handshake, on a thread of its own; None: as before."""
            nonlocal used
            now = self.current
            if now is used:
                return None
            used = now
            return configuration(now)

        return grpc.dynamic_ssl_server_credentials(
            configuration(used),
            changed,  # type: ignore[arg-type]  # its annotation forgets None
            is_required,
        )


def _context(files: TlsFiles, protocol: int, verify: ssl.VerifyMode) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # it costs the server much and the client nothing
    context.verify_mode = verify
    try:
        context.load_cert_chain(files.certificate, files.key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        pair = f"tls_certificate {files.certificate} and tls_key {files.key}"
        raise ConfigError(f"{pair}: {_cause(error)}; both are PEM, and the key is the certificate's own") from None
    try:
        context.load_verify_locations(files.ca)
    except ssl.SSLError as error:
        raise ConfigError(f"tls_ca {files.ca}: {_cause(error)}; it holds the authority's certificates as PEM") from None
    return context


def _no_password() -> bytes:
    """Else OpenSSL would ask on the terminal."""
    raise ValueError("the key is encrypted, and a node cannot ask for its password: `openssl pkey` decrypts it")


def _cause(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or error.strerror or str(error)).replace("_", " ").lower()
    return str(error)


def _read(path: Path, setting: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{setting}: cannot read {path}: {error.strerror}") from None


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        found = os.stat(path)  # noqa: PTH116 - looked at again and again
    except OSError:
        return ()
    return (found.st_mtime_ns, found.st_size, found.st_ino)
