"""What may listen where: closed by default, in the terms of the node's settings and of Kafka's.

An address that other machines can reach needs TLS, or somebody who says that it does not. Of Kafka's many names for TLS
those that mean the same here are fields of the node (`settings`); the others are refused with what to write instead,
since a key store that is silently left aside is the worst answer.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from ottla.core.errors import ConfigError
from ottla.node.listeners import Endpoint

STORE_TYPES: Final = frozenset({"ssl.keystore.type", "ssl.truststore.type"})
_INLINE: Final = "is a text, and nodes read files"
REFUSED: Final[Mapping[str, str]] = {
    "ssl.keystore.certificate.chain": f"{_INLINE}: name the file in tls_certificate",
    "ssl.keystore.key": f"{_INLINE}: name the file in tls_key",
    "ssl.truststore.certificates": f"{_INLINE}: name the file in tls_ca",
    "ssl.keystore.password": "is for Java's key stores: PEM files have none, and are kept by their mode (0600)",
    "ssl.truststore.password": "is for Java's key stores: PEM files have none",
    "ssl.key.password": "is not supported: decrypt the key with `openssl pkey`, and keep it by its mode (0600)",
    "security.inter.broker.protocol": "is not needed: nodes speak TLS to each other when tls_certificate is set",
    "inter.broker.listener.name": "is not needed: nodes meet at internal_listener and replication_listener",
    "listener.security.protocol.map": "is not needed: the listener named SSL speaks TLS, the others do not",
    "ssl.endpoint.identification.algorithm": "cannot be changed: nodes always check the names of nodes",
    "ssl.enabled.protocols": "cannot be changed: TLS 1.2 and 1.3",
    "ssl.protocol": "cannot be changed: TLS 1.2 and 1.3",
    "ssl.cipher.suites": "cannot be changed: those of OpenSSL's default",
}


def check_exposure(endpoints: Iterable[Endpoint], *, has_certificate: bool, is_insecure: bool) -> None:
    """`endpoints`: every one of the node. Raises ConfigError that says what to change."""
    for endpoint in endpoints:
        if endpoint.is_tls_listener and not has_certificate:
            raise ConfigError(
                f"{endpoint} needs a certificate: set tls_certificate, tls_key and tls_ca "
                "(`ottla tls create` makes them for a trial, `ottla up --tls` uses them)"
            )
        if is_insecure or endpoint.is_loopback:
            continue
        if endpoint.name and not endpoint.is_tls_listener:
            remedy = f"write SSL://{endpoint.address} and set tls_certificate, tls_key and tls_ca"
        elif not has_certificate:
            remedy = "set tls_certificate, tls_key and tls_ca"
        else:
            continue
        raise ConfigError(
            f"{endpoint} can be reached from other machines, and nothing there is encrypted: listen on localhost, "
            f"{remedy}, or say --insecure (insecure = true) on a trusted network"
        )


def check_kafkas_tls_names(kafka: Mapping[str, object], origin: str) -> Mapping[str, object]:
    """Kafka's configs without those that only say that key stores are PEM. Raises ConfigError for what is refused."""
    for name, value in kafka.items():
        if name in REFUSED:
            raise ConfigError(f"{origin}: {name} {REFUSED[name]}")
        if name in STORE_TYPES and str(value).upper() != "PEM":
            raise ConfigError(f"{origin}: {name} = {value}: only PEM is read; `openssl pkcs12` makes it of key stores")
    if STORE_TYPES.isdisjoint(kafka):
        return kafka
    return {name: value for name, value in kafka.items() if name not in STORE_TYPES}
