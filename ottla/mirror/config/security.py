"""How connections are made safe: the names of Kafka's clients into a `Security`.

Certificates are PEM files. Java's keystores are refused, with the command that makes PEM of them.
"""

import re
from collections.abc import Mapping
from typing import Final, cast, get_args

from ottla.core.errors import ConfigError
from ottla.mirror.config.model import SaslMechanism, Security, SecurityProtocol

SECURITY_NAMES: Final = (
    "security.protocol",
    "ssl.truststore.location",
    "ssl.truststore.type",
    "ssl.truststore.password",
    "ssl.keystore.location",
    "ssl.keystore.type",
    "ssl.keystore.password",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.endpoint.identification.algorithm",
    "sasl.mechanism",
    "sasl.jaas.config",
    "sasl.username",
    "sasl.password",
)

_OPTION: Final = re.compile(r"""(username|password)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^\s;]+))""")
_JKS_ADVICE: Final = (
    "only PEM is read: make it by `keytool -exportcert -rfc` (truststore) or `openssl pkcs12 -nodes` (keystore) and "
    "set the type to PEM"
)


def parse_security(alias: str, values: Mapping[str, str]) -> Security:
    """The security of the cluster `alias`; ConfigError for what is wrong or not supported, by its name."""
    protocol = values.get("security.protocol", "PLAINTEXT").upper()
    if protocol not in get_args(SecurityProtocol):
        raise ConfigError(
            f"{alias}.security.protocol is one of {', '.join(get_args(SecurityProtocol))}, not {protocol!r}"
        )
    for store in ("ssl.truststore", "ssl.keystore"):
        location, kind = values.get(f"{store}.location", ""), values.get(f"{store}.type", "")
        if kind.upper() not in ("", "PEM") or (not kind and location.endswith((".jks", ".p12", ".pfx"))):
            raise ConfigError(f"{alias}.{store}.location = {location}: {_JKS_ADVICE}")
        if values.get(f"{store}.password"):
            raise ConfigError(f"{alias}.{store}.password: PEM files have none (that of the key: ssl.key.password)")
    username, password, mechanism = _sasl(alias, values) if protocol.startswith("SASL") else (None, None, None)
    certificate = values.get("ssl.keystore.location") or None
    return Security(
        protocol=cast(SecurityProtocol, protocol),
        ssl_cafile=values.get("ssl.truststore.location") or None,
        ssl_certfile=certificate,
        ssl_keyfile=values.get("ssl.key.location") or certificate,
        ssl_key_password=values.get("ssl.key.password") or None,
        ssl_check_hostname=values.get("ssl.endpoint.identification.algorithm", "https") != "",
        sasl_mechanism=mechanism,
        sasl_username=username,
        sasl_password=password,
    )


def _sasl(alias: str, values: Mapping[str, str]) -> tuple[str, str, SaslMechanism]:
    mechanism = values.get("sasl.mechanism", "").upper()
    if mechanism not in get_args(SaslMechanism):
        raise ConfigError(
            f"{alias}.sasl.mechanism is one of {', '.join(get_args(SaslMechanism))}, not {mechanism or 'missing'!r}"
        )
    username, password = values.get("sasl.username"), values.get("sasl.password")
    for match in _OPTION.finditer(values.get("sasl.jaas.config", "")):
        text = next(group for group in match.groups()[1:] if group is not None)
        text = re.sub(r"\\(.)", r"\1", text)
        if match[1] == "username":
            username = text
        else:
            password = text
    if username is None or password is None:
        raise ConfigError(
            f"{alias}: {mechanism} needs a username and a password: write sasl.username and sasl.password, or Java's "
            'sasl.jaas.config with username="…" password="…"'
        )
    return username, password, cast(SaslMechanism, mechanism)
