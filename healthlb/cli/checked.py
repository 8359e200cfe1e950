"""What the commands of `healthlb` are made of: the group, kinds of numbers, and the option `--plain`."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

from healthlb.cli.arguments import check_arguments, shown
from healthlb.errors import ConfigError

_Command = TypeVar("_Command", bound=Callable[..., Any])


def plain_option(command: _Command) -> _Command:
    """Add `--plain`, passed as `plain`: nothing is written that only a terminal understands."""
    help_text = "Lines of text; the default where there is no terminal."
    return click.option("--plain", is_flag=True, help=help_text)(command)


def accepts_plain(command: _Command) -> _Command:
    """Add `--plain` to a command whose output is lines of text on a terminal, too."""
    help_text = "Lines of text, as always here: scripts may pass it to every command but `probe`."
    return click.option("--plain", is_flag=True, expose_value=False, help=help_text)(command)


SEED = click.IntRange(-(2**63), 2**63 - 1)


class Number(click.FloatRange):
    """A number between two bounds, which NaN is not."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is no number.", param, ctx)
        return number


class CheckedGroup(click.Group):
    """A group that refuses arguments which no command can take, and says in a sentence what cannot be read or written.

    Errors of other kinds are faults of ours, and keep their traceback.
    """

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Look at the arguments first; those of `probe` are its own to refuse, with exit codes of its own."""
        if args[:1] != ["probe"]:
            try:
                check_arguments(args)
            except ConfigError as error:
                raise click.UsageError(str(error)) from None
        return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            error.message = shown(error.message)  # type: ignore[misc]
            raise
        except ConfigError as error:
            raise click.UsageError(shown(str(error))) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # Whoever read the output has left; click ends without a word.
                raise
            name = f"{error.filename}: " if error.filename else ""
            raise click.UsageError(shown(f"{name}{error.strerror or error}")) from error
