"""The package's annotations are executed wherever the suite calls it; not with OMD_ANNOTATIONS=0.

Except where wrong types come in on purpose, and the package's own sentence is what a test is about:
inside of `with pytest.raises(...)`, and for what a user types at the command line.
"""

import contextlib
import functools

import beartype
import jaxtyping
import pytest

# an int is a float, as the language's typing rules and mypy have it
executed = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))


@contextlib.contextmanager
def ignored():
    """In here annotations aren't executed."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


def execute():
    """From here on functions of the package are checked; it must not be imported yet."""
    jaxtyping.install_import_hook("omd", "annotations.executed")
    from omd import cli

    cli.main = ignored()(cli.main)
    _ignore_inside(pytest.RaisesExc)


def _ignore_inside(manager):
    enter, leave = manager.__enter__, manager.__exit__

    @functools.wraps(enter)
    def entered(self):
        self.annotations = ignored()
        self.annotations.__enter__()
        return enter(self)

    @functools.wraps(leave)
    def left(self, *error):
        self.annotations.__exit__(None, None, None)
        return leave(self, *error)

    manager.__enter__, manager.__exit__ = entered, left
