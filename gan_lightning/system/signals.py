"""The signals that ask a process to end."""

import signal

SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGXCPU", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)  # not every system has all of them
)
"""Those that end a process at once where nobody listens, so that it could go on later."""

BY_SIGNAL = 128
"""What a shell adds to the number of the signal that ended a process."""


def heard() -> list[signal.Signals]:
    """Return those that are not ignored: SIGHUP under nohup stays so."""
    return [each for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
