"""The option `--plain`, which every command but `probe` takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


def plain_option(command: _Command) -> _Command:
    """Add `--plain`, passed as `plain`: nothing is written that only a terminal understands."""
    help_text = "Lines of text; the default where there is no terminal."
    return click.option("--plain", is_flag=True, help=help_text)(command)


def accepts_plain(command: _Command) -> _Command:
    """Add `--plain` to a command whose output is lines of text on a terminal, too."""
    help_text = "Lines of text, as always here: scripts may pass it to every command but `probe`."
    return click.option("--plain", is_flag=True, expose_value=False, help=help_text)(command)
