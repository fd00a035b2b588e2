"""A mirror's configuration: our TOML, or MirrorMaker 2's `mm2.properties` as it is; one model for both."""

from pathlib import Path

from ottla.core.errors import ConfigError
from ottla.mirror.config.build import build_config
from ottla.mirror.config.model import ClusterConfig, FlowConfig, MirrorConfig, Security
from ottla.mirror.config.properties import parse_properties
from ottla.mirror.config.toml import parse_toml

__all__ = ["ClusterConfig", "FlowConfig", "MirrorConfig", "Security", "build_config", "load_config"]


def load_config(path: Path) -> MirrorConfig:
    """Read a file: TOML when its name ends so, properties otherwise. ConfigError names the file and what is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None
    try:
        values = parse_toml(text) if path.suffix == ".toml" else parse_properties(text)
        return build_config(values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
