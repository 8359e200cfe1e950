"""What becomes of exceptions of the user's code: the texts about them, and the `Guard` that logs them."""

from __future__ import annotations

from types import BuiltinFunctionType, FunctionType, MethodType

from healthlb.text import printable

_NAMED = (type, FunctionType, MethodType, BuiltinFunctionType)


class Guard:
    """Decides which exceptions of the user's code are raised on, and logs the others.

    This one knows neither threads nor logs; the driver has a subclass that does.
    """

    def is_interrupt(self, error: BaseException) -> bool:
        """Return whether an exception is not the fault of the code that it came through, and must be raised again."""
        return isinstance(error, KeyboardInterrupt)

    def tell(self, text: str, error: BaseException | None = None) -> None:
        """Log `text`: as an error where there is an exception, else as a warning."""


def name_of(code: object) -> str:
    """Return what a piece of user code is called in errors: its own name, or that of its type."""
    name = code.__qualname__ if isinstance(code, _NAMED) else type(code).__qualname__
    return printable(name.rpartition("<locals>.")[2], 80)


def words(error: BaseException) -> str:
    """Return an exception as one line: its type, then its text if it has one."""
    text = printable(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def shown(value: object) -> str:
    """Return a value and its type as one line, whatever its `repr` does."""
    try:
        text = repr(value)
    except BaseException:
        text = object.__repr__(value)
    return f"{printable(text, 120)} ({type(value).__name__})"
