"""All checks in the order of the report, and how they are run: side by side, each with a deadline."""

import queue
import threading
import time
from collections.abc import Callable, Iterator

from edge_agent.doctor import accelerators, ai_camera, broker, devices, hailo, packages, repository, rockchip, state
from edge_agent.doctor.machine import Finding, Machine, failure

Check = Callable[[Machine], list[Finding]]

CHECKS: dict[str, Check] = {
    "configuration": state.configuration,
    "python": packages.python,
    "runtimes": packages.engines,
    "opencv": packages.opencv,
    "versions": packages.versions,
    "accelerators": accelerators.accelerators,
    "hailo": hailo.hailo,
    "rockchip": rockchip.rockchip,
    "ai camera": ai_camera.ai_camera,
    "user": devices.user,
    "cameras": devices.cameras,
    "programs": devices.programs,
    "microphones": devices.microphones,
    "serial ports": devices.serial_ports,
    "sensors": devices.sensors,
    "temperature": state.temperature,
    "memory": state.memory,
    "disk": state.disk,
    "clock": state.clock,
    "broker": broker.broker,
    "repository": repository.repository,
}
# Seconds; longer than what any check waits for by itself.
DEADLINE = 60.0


def examine(machine: Machine, checks: dict[str, Check], deadline: float) -> Iterator[tuple[str, Finding]]:
    """What the checks find, in their order.

    They run side by side, each in a thread of its own, which is abandoned if it hangs.

    Args:
        machine: that they look at.
        checks: by name.
        deadline: seconds for all of them.

    Yields:
        The name of a check and one of its findings.
    """
    answers = {name: _begin(check, machine) for name, check in checks.items()}
    until = time.monotonic() + deadline
    for name, answer in answers.items():
        try:
            found = answer.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            text = f"does not answer within {deadline:g} s: a device or a disk that hangs?"
            found = [failure(text, "sudo dmesg --level=err,warn | tail")]
        if isinstance(found, Exception):
            raise found
        for finding in found:
            yield name, finding


def _begin(check: Check, machine: Machine) -> "queue.SimpleQueue[list[Finding] | Exception]":
    answer: queue.SimpleQueue[list[Finding] | Exception] = queue.SimpleQueue()

    def answer_or_fail() -> None:
        try:
            answer.put(check(machine))
        except (OSError, ImportError) as error:
            answer.put([failure(f"can't be looked at: {error}", "sudo edge-agent doctor")])
        except Exception as error:  # noqa: BLE001 - a defect of ours is raised in the calling thread
            answer.put(error)

    threading.Thread(target=answer_or_fail, name=f"doctor {check.__name__}", daemon=True).start()
    return answer
