"""What a configuration needs besides its models: checked by `check`, at the start and at a reload."""

import importlib.util
import shutil
from collections.abc import Iterator
from typing import NamedTuple

from edge_agent.config.http_identity import HttpIdentity
from edge_agent.config.loader import Config
from edge_agent.config.yaml_lines import line_of
from edge_agent.errors import ConfigError, MissingExtraError
from edge_agent.settings import CommandSource, MicrophoneSource, SerialSource, VideoSource
from edge_agent.settings.http_access import HttpAccess
from edge_agent.system import limits
from edge_agent.system.terminal import printable

# A section of the configuration, what it does, its extra, and the packages of that.
EXTRAS = (
    ("metrics", "serving metrics", "metrics", ("prometheus_client", "waitress")),
    ("http", "serving http", "http", ("waitress",)),
    ("update", "updating models", "update", ("tuf",)),
)


def check(config: Config, *, at_start: bool = False) -> None:
    """Refuses a configuration that can't work here, whatever its models are.

    Args:
        config: the configuration.
        at_start: whether a device comes up with it. Programs and the broker's secrets are not checked then: while one
            is missing, it is tried again and again, and everything else works.

    Raises:
        ConfigError: with every problem found.
    """
    programs = [] if at_start else _missing_programs(config)
    missing = sorted([*missing_packages(config), *programs], key=lambda problem: problem.line)
    problems = [problem.text for problem in missing]
    problems += [] if at_start else _unusable_secrets(config)
    if problems:
        raise ConfigError(problems)


def check_all(config: Config, *, at_start: bool = False) -> None:
    """Everything in this module; see `check`.

    Raises:
        ConfigError: with every problem found.
        LimitError: the agent would need more open files or threads than it may have.
    """
    check_not_empty(config)
    check(config, at_start=at_start)
    check_limits(config)


def check_not_empty(config: Config) -> None:
    """Refuses a configuration without pipelines, unless they may come from a repository or be set up on the page.

    Raises:
        ConfigError: there are none.
    """
    update, page = config.settings.update, config.settings.http
    may_come = (update is not None and update.config is not None) or (page is not None and page.edit)
    if not config.settings.pipelines and not may_come:
        raise ConfigError([f"{config.path}:1: pipelines: none are configured, so there is nothing to run"])


# Open files and threads of an idle agent without pipelines, and what each pipeline adds at least.
_FILES, _THREADS = 14, 5
_FILES_OF = {"mqtt": 3}
_THREADS_OF = {"mqtt": 3}


def check_limits(config: Config) -> None:
    """Refuses a configuration that certainly needs more open files or threads than this process may have.

    Raises:
        LimitError: the limit and what is needed.
    """
    kinds = [pipeline.source.type for pipeline in config.settings.pipelines.values()]
    what = f"{config.path}: the agent (pipelines: {len(kinds)})"
    limits.check_files(_FILES + sum(_FILES_OF.get(kind, 1) for kind in kinds), what)
    limits.check_threads(_THREADS + sum(_THREADS_OF.get(kind, 2) for kind in kinds), what)


class Problem(NamedTuple):
    """What is missing, as `FILE:LINE: key: …`, and the line."""

    line: int
    text: str


def _problem(config: Config, key: tuple[str, ...], text: str) -> Problem:
    return Problem(line_of(config.lines, key), f"{config.where(*key)}: {text}")


def missing_packages(config: Config) -> Iterator[Problem]:
    """The optional packages that a configuration needs and that are not installed; runtimes are the models' concern."""
    if config.settings.mqtt.url == "embedded" and not _is_installed("amqtt"):
        from edge_agent.mqtt import embedded

        yield _problem(config, ("mqtt", "url"), embedded.not_installed())
    for section, what, extra, packages in EXTRAS:
        if getattr(config.settings, section) is not None and not all(map(_is_installed, packages)):
            yield _problem(config, (section,), str(MissingExtraError(what, extra)))
    yield from _missing_for_buckets(config)
    for name, pipeline in config.settings.pipelines.items():
        if isinstance(pipeline.source, SerialSource) and not _is_installed("serial"):
            missing = MissingExtraError("reading a serial port", "serial")
            yield _problem(config, ("pipelines", name, "source"), str(missing))
        if isinstance(pipeline.source, VideoSource) and not _is_installed("av"):
            for key, default in (("watch", "all"), ("deblocking", True), ("hardware", False)):
                if getattr(pipeline.source, key) != default:
                    missing = MissingExtraError(f"`{key}` with another value than its default", "video")
                    yield _problem(config, ("pipelines", name, "source", key), str(missing))
        if any(action.gpio is not None for action in pipeline.actions) and not _is_installed("gpiod"):
            yield _problem(config, ("pipelines", name, "actions"), str(MissingExtraError("setting GPIO lines", "gpio")))


def _missing_for_buckets(config: Config) -> Iterator[Problem]:
    for key, server in _servers(config):
        if server.access_key_file is not None and not _is_installed("botocore"):
            yield _problem(config, (*key, "access_key_file"), str(MissingExtraError("access to S3", "s3")))


def _servers(config: Config) -> Iterator[tuple[tuple[str, ...], HttpAccess]]:
    """The servers for which the configuration may state credentials, each with its key."""
    if config.settings.update is not None:
        yield ("update",), config.settings.update
    for name, pipeline in config.settings.pipelines.items():
        if pipeline.keep is not None and pipeline.keep.upload is not None:
            yield ("pipelines", name, "keep", "upload"), pipeline.keep.upload


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _missing_programs(config: Config) -> Iterator[Problem]:
    for name, pipeline in config.settings.pipelines.items():
        key = ("pipelines", name, "source")
        match pipeline.source:
            case CommandSource(argv=(program, *_)):
                if shutil.which(str(config.path.parent / program) if "/" in program else program) is None:
                    text = f"there is no program {printable(program)}: install it, or give its path"
                    yield _problem(config, (*key, "argv"), text)
            case MicrophoneSource() if shutil.which("arecord") is None:
                yield _problem(config, key, "the program arecord is missing: apt-get install alsa-utils")


def _unusable_secrets(config: Config) -> Iterator[str]:
    """Certificates, keys, passwords and tokens that can't be read or used."""
    mqtt, http = config.settings.mqtt, config.settings.http
    try:
        if mqtt.ca_file or mqtt.cert_file or mqtt.password_file:
            from edge_agent.mqtt.endpoint import Endpoint

            endpoint = Endpoint.from_settings(mqtt, config.path.parent)
            endpoint.tls_context()
            endpoint.password()
        if http is not None and http.token_file is not None:
            from edge_agent.monitoring.page.access import read_token

            read_token(http.token_file, config.path.parent)
        for key, server in _servers(config):
            HttpIdentity(server, config.path.parent, ".".join(key)).check()
    except ConfigError as error:
        yield from error.problems
