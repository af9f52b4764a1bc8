"""The one error that a user's mistake ends in."""


class InputError(ValueError):
    """What was asked for or given cannot be used. The message is one sentence that says what to do."""
