"""Notifications to the service manager: ready, reloading, stopping, a line of status, watchdog.

The protocol is a datagram of `KEY=value` lines to the socket named in $NOTIFY_SOCKET:
https://www.freedesktop.org/software/systemd/man/sd_notify.html. Without that variable nothing is sent.
"""

import contextlib
import os
import socket
import time

STATUS_MAX_CHARACTERS = 200
SEND_TIMEOUT_S = 1.0


def notify_ready() -> None:
    """Start-up, or the reload begun by `notify_reloading`, is complete."""
    _notify("READY=1")


def notify_reloading() -> None:
    """The configuration is being read again; to be followed by `notify_ready`."""
    # Type=notify-reload needs the time, to tell this reload from an earlier one.
    _notify(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def notify_stopping() -> None:
    """Shutdown has begun."""
    _notify("STOPPING=1")


def notify_status(text: str) -> None:
    """Show `text` in `systemctl status`: cut at 200 characters, line breaks and controls made spaces."""
    line = "".join(char if char.isprintable() else " " for char in text[:STATUS_MAX_CHARACTERS])
    _notify(f"STATUS={line}")


def notify_watchdog() -> None:
    """Watchdog ping: to be sent every `watchdog_interval` seconds, and only while work makes progress."""
    _notify("WATCHDOG=1")


def watchdog_interval() -> float | None:
    """Seconds between two calls of `notify_watchdog`: half the time after which systemd would end us.

    None when this process is not watched: no $WATCHDOG_USEC, or $WATCHDOG_PID names another process.
    """
    limit_us = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", "")
    if not limit_us.isdecimal() or int(limit_us) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(limit_us) / 1e6 / 2


def _notify(state: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):  # a name in Linux's abstract namespace, without a file
        address = "\0" + address[1:]
    # A service manager that does not listen, or too few open files, must neither end the work nor hold it up for long.
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection,
    ):
        connection.settimeout(SEND_TIMEOUT_S)
        connection.sendto(state.encode(), address)
