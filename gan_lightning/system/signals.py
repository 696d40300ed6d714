"""The signals that ask a process to end."""

import signal

SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGXCPU", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)  # not every system has all of them
)
"""Signals that ask a process to end, so that it could go on later. If nobody listens, they end it at once."""

BY_SIGNAL = 128
"""A shell's exit status of a process is this plus the number of the signal that ended it."""


def heard() -> list[signal.Signals]:
    """Return the signals that are not ignored; SIGHUP under nohup is ignored."""
    return [each for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
