"""The one exception of the project that a user should see as a sentence rather than as a traceback."""


class InputError(ValueError):
    """The user's input or configuration is at fault.

    The message is one clear sentence: what was found and where, which constraint it breaks, what to do.
    The command line prints it without a traceback and exits with code 2.
    """


def input_error(error: BaseException | None) -> InputError | None:
    """The InputError at the root of a chain of exceptions: Hydra wraps what its targets raise."""
    while error is not None:
        if isinstance(error, InputError):
            return error
        error = error.__cause__
    return None
