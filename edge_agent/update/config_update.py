"""A configuration that follows a channel: how its versions are checked, adopted, and watched."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from edge_agent.config.loader import Config
from edge_agent.errors import UpdateError
from edge_agent.update.host import Host, RefusedError
from edge_agent.update.probation import MIN_FAILURES, POLL_EVERY
from edge_agent.update.releases import Release, of_machine
from edge_agent.update.store import Store
from edge_agent.update.subject import Passed, Progress

CHECK_WITHIN = 1800.0
# Exit codes of `check` for a configuration that can be used: as it is, or with a model on another accelerator.
USABLE = (0, 3)
MAX_REASON = 500
# Seconds for the agent to begin a reload that it was asked for.
RELOAD_WITHIN = 300.0


class ConfigUpdate:
    """The configuration of a device that follows a channel; see `Subject`.

    Args:
        channel: that it follows.
        store: its versions.
        config: in use.
        host: the agent.
    """

    name = "config"

    def __init__(self, channel: str, store: Store, config: Config, host: Host) -> None:
        assert config.settings.update is not None  # noqa: S101 - for the type checker
        self.channel, self.store = channel, store
        self._file = config.path
        self._options = config.settings.update.probation
        self._host = host

    def check_possible(self) -> None:
        """It always is."""

    def usable(self, releases: Sequence[Release]) -> Sequence[Release]:
        """All of them."""
        return of_machine(releases, ())

    def work_ms(self) -> float:
        """Nothing is compared."""
        return 0.0

    def test(self, release: Release, progress: Progress) -> Passed:
        """Checks it with the device's own file in a process of its own, as `edge-agent check` does."""
        archive = self.store.archive(release.key)
        command = [sys.executable, "-m", "edge_agent", "check", "--json", "-c", str(self._file)]
        command += ["--configuration", str(archive), "--release", release.name]
        environment = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
        try:
            code, said = _run(command, environment, progress)
        except OSError as error:
            raise UpdateError(f"the configuration can't be checked: {error}") from None
        if code not in USABLE:
            raise RefusedError(said or f"its check ended with exit code {code}")
        return Passed()

    def adopt(self, trial: Any, progress: Progress) -> None:  # noqa: ARG002 - see Subject
        """Has the agent reload; this updater ends with that, and the next one watches."""
        self.store.note_silent(name for name, problem in self._host.problems().items() if problem)
        state = self.store.state()
        progress.step("activated", state.name(state.active))
        self._reload(progress)

    def _reload(self, progress: Progress) -> None:
        self._host.request_reload()
        progress.pause(RELOAD_WITHIN)
        raise UpdateError(f"the agent has not begun to reload within {RELOAD_WITHIN:.0f} s")

    def watch(self, progress: Progress) -> None:
        """Each live source delivers, and no pipeline fails too often.

        Pipelines that already had a problem before the change are not held against it.
        """
        silent_before = self.store.state().silent
        start = now = time.monotonic()
        counts = {name: pipeline.counters.as_dict() for name, pipeline in self._host.running().items()}
        began, heard = counts, dict.fromkeys(counts, start)
        waits = min(self._options.input_within, self._options.duration)
        while (now := time.monotonic()) < start + self._options.duration:
            progress.pause(min(POLL_EVERY, self._options.duration))
            before, counts = counts, {n: one.counters.as_dict() for n, one in self._host.running().items()}
            now = time.monotonic()
            for name, count in counts.items():
                if count["captured"] != before.get(name, count)["captured"] or name not in heard:
                    heard[name] = now
                _check_failures(name, began.get(name, before.get(name, count)), count, self._options.max_error_rate)
            problems = self._host.problems()
            for name, pipeline in self._host.running().items():
                last = heard.setdefault(name, now)
                if pipeline.live and not pipeline.ended and name not in silent_before and now - last >= waits:
                    why = f": {problems[name]}" if problems.get(name) else ""
                    raise RefusedError(f"{name}: no input for {now - last:.0f} s{why}")

    def go_back(self, key: str | None, roll_back: Callable[[str], str | None], progress: Progress) -> None:  # noqa: ARG002
        """Has the agent reload; this updater ends with that."""
        self._reload(progress)


def _check_failures(name: str, before: dict[str, Any], now: dict[str, Any], most: float) -> None:
    failures = now["dropped"]["failed"] - before["dropped"]["failed"]
    inputs = now["inferred"] - before["inferred"] + failures
    if failures >= MIN_FAILURES and failures > inputs * most:
        raise RefusedError(f"{name}: it failed at {failures} of {inputs} inputs")


def _run(command: list[str], environment: dict[str, str], progress: Progress) -> tuple[int, str]:
    """Exit code of a program, and the end of what it wrote to standard error."""
    process = subprocess.Popen(  # noqa: S603 - our own interpreter, without a shell
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    deadline = time.monotonic() + CHECK_WITHIN
    try:
        while True:
            try:
                _, said = process.communicate(timeout=POLL_EVERY)
                return process.returncode, "; ".join(said.strip().splitlines())[:MAX_REASON]
            except subprocess.TimeoutExpired:
                progress.check_stop()
                if time.monotonic() > deadline:
                    return -1, f"its check did not end within {CHECK_WITHIN:.0f} s"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
