"""How broker configs are written down: a field with what most of them leave out."""

from typing import Final

from ottla.core.config_fields import ConfigField, ConfigType, UpdateMode

CLUSTER_WIDE, PER_BROKER, READ_ONLY = UpdateMode.CLUSTER_WIDE, UpdateMode.PER_BROKER, UpdateMode.READ_ONLY
BOOLEAN, STRING, LIST = ConfigType.BOOLEAN, ConfigType.STRING, ConfigType.LIST
INT, SHORT, LONG = ConfigType.INT, ConfigType.SHORT, ConfigType.LONG
DOUBLE = ConfigType.DOUBLE

UNLIMITED: Final = 2**31 - 1


def broker_field(
    name: str,
    config_type: ConfigType,
    default: object,
    doc: str,
    mode: UpdateMode = READ_ONLY,
    minimum: float | None = None,
    unit: str = "",
    maximum: float | None = None,
) -> ConfigField:
    if isinstance(default, bool):
        default = str(default).lower()
    return ConfigField(
        name=name,
        type=config_type,
        default=None if default is None else str(default),
        doc=doc,
        update_mode=mode,
        minimum=minimum,
        maximum=maximum,
        unit=unit,
    )
