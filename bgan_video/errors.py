"""The one exception a user is meant to read."""


class UserError(Exception):
    """A mistake in what the user gave: one line that says what, where, what is allowed, what to do.

    The command line prints it without a traceback and exits with code 2.
    """
