"""The arguments that name a broker, and the settings that they become."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.commands.config_argument import any_config_file

if TYPE_CHECKING:
    from edge_agent.settings import Mqtt

# Key of the `mqtt` part -> the option for it.
OPTIONS = {"url": "--url", "username": "--username", "password_file": "--password-file", "topic_prefix": "--prefix"}


def add_broker_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the configuration file, and options that override its `mqtt` part."""
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="a configuration file, for its `mqtt` part")
    parser.add_argument("--url", metavar="URL", help="the broker: mqtt://HOST:PORT, mqtts://, ws:// or wss://")
    parser.add_argument("--username", metavar="NAME", help="user name at the broker")
    parser.add_argument("--password-file", metavar="FILE", help="holds the password, or ${env:NAME}")


def fleet_broker(args: argparse.Namespace) -> "tuple[Mqtt, Path]":
    """The broker of a fleet, and the folder that its files are relative to: of the arguments, or of a configuration.

    Raises:
        ConfigError: the configuration or the arguments can't be used.
    """
    from edge_agent.config import loader
    from edge_agent.errors import ConfigError

    file = args.config or (None if args.url else any_config_file())
    loaded = loader.load(file) if file else None
    mqtt = mqtt_settings(args, loaded.settings.mqtt if loaded else None)
    if mqtt.url == "embedded":
        raise ConfigError(["--url: give the address of the embedded broker, which the agent's log shows"])
    return mqtt, file.parent if file else Path.cwd()


def mqtt_settings(args: argparse.Namespace, configured: "Mqtt | None") -> "Mqtt":
    """The configured settings with those of the arguments in place of them.

    Raises:
        ConfigError: they are wrong; one line each, as `--url: must be …`.
    """
    from pydantic import ValidationError

    from edge_agent.config.validation import in_plain_words
    from edge_agent.errors import ConfigError
    from edge_agent.settings import Mqtt
    from edge_agent.system.secret import ENV

    stated: dict[str, Any] = configured.model_dump(exclude_unset=True) if configured else {}
    for key, option in OPTIONS.items():
        value = getattr(args, option.removeprefix("--").replace("-", "_"), None)
        stated |= {} if value is None else {key: value}
    if args.password_file is not None and not ENV.fullmatch(args.password_file):
        stated["password_file"] = str(Path(args.password_file).absolute())  # not relative to the configuration
    try:
        return Mqtt.model_validate(stated)
    except ValidationError as error:
        lines = []
        for details in error.errors(include_url=False):
            key = str(details["loc"][0])
            lines.append(f"{OPTIONS.get(key, f'mqtt.{key}')}: {in_plain_words(details, stated.get(key))}")
        raise ConfigError(lines) from None
