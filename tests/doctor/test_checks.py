"""How the checks are run: side by side, each with a deadline."""

import threading
from pathlib import Path

import pytest

from edge_agent.doctor.checks import CHECKS, Check, examine
from edge_agent.doctor.machine import Finding, Machine, failure, ok
from tests.doctor.made_up import machine


def test_every_check_looks_at_a_machine_of_which_nothing_is_known(tmp_path: Path) -> None:
    bare = machine(tmp_path, environ={"PATH": ""}, python_path=(str(tmp_path),))
    found = list(examine(bare, CHECKS, 60.0))
    assert {name for name, _ in found} == set(CHECKS)
    assert all(bool(finding.fix) == (finding.state != "ok") for _, finding in found)


def test_a_check_that_hangs_is_told_and_holds_up_no_other(tmp_path: Path) -> None:
    released = threading.Event()

    def hang(_: Machine) -> list[Finding]:
        released.wait()
        return []

    checks: dict[str, Check] = {"disk": hang, "clock": lambda _: [ok("right")]}
    found = list(examine(machine(tmp_path), checks, 0.2))
    released.set()
    assert [(name, finding.state) for name, finding in found] == [("disk", "failure"), ("clock", "ok")]
    assert found[0][1].text.startswith("does not answer within 0.2 s")


def test_what_can_not_be_looked_at_is_told_and_a_defect_of_ours_is_not_hidden(tmp_path: Path) -> None:
    def barred(_: Machine) -> list[Finding]:
        raise PermissionError(13, "Permission denied", "/sys/x")

    def broken(_: Machine) -> list[Finding]:
        raise ZeroDivisionError

    ((_, found),) = examine(machine(tmp_path), {"disk": barred}, 10.0)
    assert found == failure("can't be looked at: [Errno 13] Permission denied: '/sys/x'", "sudo edge-agent doctor")
    with pytest.raises(ZeroDivisionError):
        list(examine(machine(tmp_path), {"disk": broken}, 10.0))
