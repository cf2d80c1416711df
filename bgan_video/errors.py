"""The exceptions a user is meant to read."""


class UserError(Exception):
    """A mistake in what the user gave: one line that says what, where, what is allowed, what to do.

    The command line prints it without a traceback and exits with code 2.
    """


class Stopped(KeyboardInterrupt):
    """A run was asked to end by a signal, saved what it had, and ended; says how to go on.

    Attributes:
        signal: The signal's number. The command line exits with 128 and this.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal
