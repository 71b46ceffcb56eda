"""`release watch --promote`: takes a release through its plan, by what its devices say."""

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path

from edge_agent.commands.upload_destination import destination
from edge_agent.errors import ReleaseError
from edge_agent.release.repository import SignedRepository
from edge_agent.release.rollout import Rollout, Row
from edge_agent.release.upload import upload
from edge_agent.release.waves import decide
from edge_agent.samples import timestamp
from edge_agent.system.terminal import printable
from edge_agent.update.waves import REVOKED, Plan, Progress

RETRY_S = 30.0
# What the broker keeps has arrived this many seconds after a connection is up.
SETTLE_S = 2.0


class Steering:
    """Signs and uploads the next step of a release, or its revocation; needs the online key alone.

    How far the release has come is in the signed timestamp.json, so that another run goes on from there.

    Args:
        repository: of the release.
        args: of the command.

    Attributes:
        name: of the release.
        plan: of the release.
        complete: whether the last step has passed.

    Raises:
        ReleaseError: the release has no plan.
    """

    def __init__(self, repository: SignedRepository, args: argparse.Namespace) -> None:
        self.name: str = args.release
        plan = repository.find(self.name)[0].plan
        if plan is None:
            raise ReleaseError(
                f"{self.name}: has no plan: `edge-agent release plan {self.name} PLAN.yaml` gives it one"
            )
        repository.unlock(["online"])
        self.plan: Plan = plan
        self.complete = False
        self._progress = repository.progress().get(self.name) or Progress(0, timestamp(time.time()))
        self._repository = repository
        self._folder: Path = args.repository
        self._destination = None if args.upload is None else destination(args.upload, args)
        self._uploaded, self._retry_at = False, 0.0
        self._problem = ""
        self._up_since: float | None = None

    def is_settled(self, *, connected: bool) -> bool:
        """Whether what is known of the devices is as it is now; without the broker, nothing is decided."""
        if not connected:
            self._up_since = None
            return False
        self._up_since = self._up_since or time.monotonic()
        return time.monotonic() - self._up_since > SETTLE_S

    def go_on(self, rollout: Rollout, rows: list[Row]) -> bool:
        """Does what is to be done now; returns whether that was the last thing."""
        progress = self._progress
        if not self._upload():
            return False
        if progress.state == REVOKED:
            return True
        decision = decide(self.plan, progress, rows, datetime.now(UTC))
        if decision == "next":
            self._sign(Progress(progress.step + 1, timestamp(time.time())))
            print(f"{self.name}: step {progress.step + 2} of {len(self.plan.steps)}", flush=True)
        elif decision == "revoke":
            self._sign(Progress(progress.step, timestamp(time.time()), REVOKED))
            print(f"{self.name}: revoked in step {progress.step + 1}", flush=True)
        if decision in ("next", "revoke"):
            rollout.use(self._repository.find(self.name))
        self.complete = decision == "complete"
        return self.complete

    def _sign(self, progress: Progress) -> None:
        self._repository.advance(self.name, progress)
        self._progress = progress
        self._uploaded, self._retry_at = False, 0.0
        self._upload()

    def _upload(self) -> bool:
        """Uploads what has been signed, also by a run before; tries again later if it fails."""
        if self._uploaded or self._destination is None:
            return True
        if time.monotonic() < self._retry_at:
            return False
        try:
            upload(self._folder, self._destination)
        except ReleaseError as error:
            if str(error) != self._problem:
                print(printable(f"{error}: trying again every {RETRY_S:.0f} s"), flush=True)
            self._problem, self._retry_at = str(error), time.monotonic() + RETRY_S
            return False
        self._uploaded, self._problem = True, ""
        return True

    def summary(self) -> str:
        """What came of it, in words."""
        progress = self._progress
        if progress.state == REVOKED:
            done = "devices that have it go back" if self._uploaded or self._destination is None else "NOT UPLOADED YET"
            return f"revoked in step {progress.step + 1} of {len(self.plan.steps)}: {done}"
        if self.complete:
            return "all steps have passed"
        return f"the time is over in step {progress.step + 1} of {len(self.plan.steps)}: run the command again to go on"
