"""The one error that stands for bad input. Imports nothing, so that the command line can catch it
without JAX."""


class InputError(ValueError):
    """Bad input from a user: one sentence with what was wrong, the value seen, what to do."""
