"""Who releases with a plan, and follows it with the online key alone."""

import json
import os
import subprocess

from edge_agent.release.upload import upload
from tests.command_line import command, environment
from tests.update.kit import PASSPHRASE, Scene

# Of a plan, with all that its devices do meanwhile.
ENDS_WITHIN_S = 1000.0
PLAN = """
steps:
  - {groups: [canary], soak: 0}
  - {percent: 100, soak: 0, devices: 2}
silence: 20s
"""


class Operator:
    """Who releases with a plan, and follows it with the online key alone."""

    def __init__(self, stage: Scene, plan: str = PLAN) -> None:
        self.stage, self.folder = stage, stage.folder
        self.www = stage.folder / "www"
        upload(stage.folder / "repository", str(self.www))
        stage.server.folder = self.www
        (self.folder / "plan.yaml").write_text(plan)
        mqtt = {"mqtt": {"url": stage.broker.url}}
        (self.folder / "operator.yaml").write_text(json.dumps(mqtt))

    def release(self, version: str) -> None:
        self.stage.release(version, share=0)
        self.plan(f"digits/{version}")

    def plan(self, release: str) -> None:
        done = self.run("plan", release, "plan.yaml")
        assert done.returncode == 0, done.stderr

    def watch(self, release: str, timeout: str) -> "subprocess.CompletedProcess[str]":
        offline = [self.folder / "repository" / "keys" / f"{name}.pem" for name in ("root", "targets")]
        for key in offline:
            key.rename(key.with_suffix(".away"))
        try:
            options = ("--promote", "--upload", str(self.www), "-c", "operator.yaml", "--timeout", timeout)
            return self.run("watch", release, *options)
        finally:
            for key in offline:
                key.with_suffix(".away").rename(key)

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        os.environ["EDGE_AGENT_PASSPHRASE"] = PASSPHRASE.decode()
        return subprocess.run(
            command("release", *arguments, "-r", "repository"),
            cwd=self.folder,
            env=environment(None),
            capture_output=True,
            text=True,
            timeout=ENDS_WITHIN_S,
            check=False,
        )
