"""The expressions of checks: arithmetic, comparisons and calls of given functions; nothing else, and never `eval`.

A text is hostile until it is parsed. Only nodes of a short list are walked; its length, depth, number of
parts and exponents are bounded, and every number is a float, so that no expression takes long or much memory.

    error_ratio < 0.005                               comparisons, chained ones too: 0.02 < error_ratio < 0.08
    retries <= 5 * clients + 0.1 * ok                 + - * / // % **
    share("b*") == 1 and not p99 > "50ms"             and, or, not; a duration as text is its seconds
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from healthlb.errors import ConfigError
from healthlb.simulation.scenario.durations import parse_duration

MOST_CHARACTERS = 1000
MOST_PARTS = 300
MOST_LEVELS = 30
MOST_EXPONENT = 10_000

Value = float | bool
Function = Callable[..., float]

_ARITHMETIC: Mapping[type[ast.AST], tuple[str, Callable[[float, float], float]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
    ast.FloorDiv: ("//", operator.floordiv),
    ast.Mod: ("%", operator.mod),
    ast.Pow: ("**", operator.pow),
}
_COMPARISONS: Mapping[type[ast.AST], tuple[str, Callable[[float, float], bool]]] = {
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
}
_MIRRORED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


class ExpressionError(ConfigError):
    """An expression is malformed, or has no value; the text says where."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an expression came to.

    Attributes:
        holds: whether it is true.
        why: the numbers that went in, as "error_ratio = 0.0092, needed < 0.005".
    """

    holds: bool
    why: str


@dataclass(frozen=True, slots=True)
class Call:
    """A call that an expression makes.

    Attributes:
        function: its name.
        arguments: literal text as it stands, None for a number.
        place: the column, from 1.
    """

    function: str
    arguments: tuple[str | None, ...]
    place: int


class Expression:
    """A parsed expression.

    Args:
        text: at most 1,000 characters, 300 parts and 30 levels.

    Attributes:
        text: as it was given.

    Raises:
        ExpressionError: it is no expression of this language.
    """

    __slots__ = ("_root", "text")

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise ExpressionError(f"an expression must be text, not {text!r}")
        if len(text) > MOST_CHARACTERS:
            raise ExpressionError(f"an expression must have at most {MOST_CHARACTERS} characters, not {len(text)}")
        self.text = text.strip()
        self._root = _parse(self.text)
        _check(self._root, 1)
        parts = sum(1 for _ in ast.walk(self._root))
        if parts > MOST_PARTS:
            raise ExpressionError(f"an expression must have at most {MOST_PARTS} parts, not {parts}")

    @property
    def names(self) -> dict[str, int]:
        """The names of numbers in it, each with the column of its first use."""
        called = {id(node.func) for node in ast.walk(self._root) if isinstance(node, ast.Call)}
        found: dict[str, int] = {}
        for node in ast.walk(self._root):
            if isinstance(node, ast.Name) and id(node) not in called:
                found.setdefault(node.id, node.col_offset + 1)
        return found

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls in it."""
        return tuple(
            Call(_name(node), tuple(map(_text, node.args)), node.col_offset + 1)
            for node in ast.walk(self._root)
            if isinstance(node, ast.Call)
        )

    def value(self, names: Mapping[str, float], functions: Mapping[str, Function] | None = None) -> Value:
        """Return what it comes to.

        Args:
            names: the numbers that it may name.
            functions: what it may call; they get floats, and literal text as it stands.

        Raises:
            ExpressionError: a name is unknown, or there is no value, as of a division by zero.
        """
        return _Evaluation(self.text, names, functions or {}).value(self._root)

    def judge(self, names: Mapping[str, float], functions: Mapping[str, Function] | None = None) -> Verdict:
        """Return whether it is true, and the numbers that went in; a check without a value does not hold."""
        evaluation = _Evaluation(self.text, names, functions or {})
        try:
            holds = bool(evaluation.value(self._root))
            return Verdict(holds, "; ".join(dict.fromkeys(evaluation.reasons(self._root, holds))))
        except ExpressionError as error:
            return Verdict(False, str(error))

    def __repr__(self) -> str:
        return f"<Expression {self.text}>"


def _parse(text: str) -> ast.expr:
    if not text:
        raise ExpressionError("an expression must not be empty")
    if "\n" in text or "\0" in text or not text.isprintable():
        raise ExpressionError(f"an expression must be one line of printable characters, not {text!r}")
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        place = f" at column {error.offset}" if error.offset else ""
        raise ExpressionError(f"{text!r} is no expression: {error.msg}{place}") from None
    except (ValueError, MemoryError, RecursionError) as error:
        # Python's own limits: digits of a number, nested parentheses.
        raise ExpressionError(f"{text!r} is no expression: {error or 'too deeply nested'}") from None


def _check(node: ast.AST, level: int) -> None:
    """Refuse what is not on the list; children before their siblings, never deeper than the bound."""
    place = _place(node)
    if level > MOST_LEVELS:
        raise ExpressionError(f"an expression must have at most {MOST_LEVELS} levels{place}")
    match node:
        case ast.BoolOp(values=children):
            pass
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.UAdd(), operand=child):
            children = [child]
        case ast.BinOp(left=left, right=right, op=operation) if type(operation) in _ARITHMETIC:
            children = [left, right]
        case ast.Compare(left=left, ops=operations, comparators=comparators) if all(
            type(operation) in _COMPARISONS for operation in operations
        ):
            children = [left, *comparators]
        case ast.Call(func=ast.Name(), args=children, keywords=[]):
            pass
        case ast.Name():
            children = []
        case ast.Constant(value=value) if isinstance(value, bool | int | float | str):
            children = []
        case _:
            raise ExpressionError(f"{_what(node)} is not allowed{place}")
    for child in children:
        _check(child, level + 1)


def _what(node: ast.AST) -> str:
    match node:
        case ast.Attribute(attr=name):
            return f"the attribute .{name}"
        case ast.Call(keywords=[_, *_]):
            return "an argument by name"
        case ast.Constant(value=value):
            return f"{value!r}"
        case ast.BinOp(op=operation) | ast.UnaryOp(op=operation):
            return type(operation).__name__
        case ast.Compare(ops=operations):
            return next(type(operation).__name__ for operation in operations if type(operation) not in _COMPARISONS)
    return type(node).__name__


def _place(node: ast.AST) -> str:
    return f" (column {node.col_offset + 1})" if isinstance(node, ast.expr) else ""


def _name(node: ast.Call) -> str:
    assert isinstance(node.func, ast.Name)
    return node.func.id


def _text(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


class _Evaluation:
    """One expression over one set of numbers."""

    __slots__ = ("_functions", "_names", "_text")

    def __init__(self, text: str, names: Mapping[str, float], functions: Mapping[str, Function]) -> None:
        self._text = text
        self._names = names
        self._functions = functions

    def value(self, node: ast.expr) -> Value:
        """Return what a part of the expression comes to; ExpressionError as for the whole."""
        match node:
            case ast.Constant(value=bool() as value):
                return value
            case ast.Constant(value=value):
                return _constant(value, node)
            case ast.Name(id=name):
                if name not in self._names:
                    raise ExpressionError(f"unknown name {name!r}{_place(node)}")
                return self._names[name]
            case ast.BoolOp(op=ast.And(), values=values):
                return all(self.value(part) for part in values)
            case ast.BoolOp(values=values):
                return any(self.value(part) for part in values)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not self.value(operand)
            case ast.UnaryOp(op=operation, operand=operand):
                number = float(self.value(operand))
                return -number if isinstance(operation, ast.USub) else number
            case ast.BinOp():
                return self._arithmetic(node)
            case ast.Compare():
                return self._compare(node)
        assert isinstance(node, ast.Call)
        return self._call(node)

    def _arithmetic(self, node: ast.BinOp) -> float:
        left, right = float(self.value(node.left)), float(self.value(node.right))
        sign, operate = _ARITHMETIC[type(node.op)]
        if sign == "**" and abs(right) > MOST_EXPONENT:
            raise ExpressionError(f"an exponent must be at most {MOST_EXPONENT}, not {right:g}{_place(node.right)}")
        try:
            result = operate(left, right)
        except ZeroDivisionError:
            raise ExpressionError(f"{self._source(node)} divides by zero{_place(node)}") from None
        except OverflowError:
            raise ExpressionError(f"{self._source(node)} is too large{_place(node)}") from None
        if isinstance(result, complex):
            raise ExpressionError(f"{self._source(node)} is no real number{_place(node)}")
        return result

    def _compare(self, node: ast.Compare) -> bool:
        left = self._number(node.left)
        for operation, comparator in zip(node.ops, node.comparators, strict=True):
            right = self._number(comparator)
            if not _COMPARISONS[type(operation)][1](left, right):
                return False
            left = right
        return True

    def _number(self, node: ast.expr) -> float:
        number = float(self.value(node))
        if math.isnan(number):
            # Every comparison with it is false, and so would say something of nothing.
            raise ExpressionError(f"{self._source(node)} is not a number{_place(node)}")
        return number

    def _call(self, node: ast.Call) -> Value:
        name = _name(node)
        if name not in self._functions:
            raise ExpressionError(f"unknown function {name!r}{_place(node)}")
        texts = ((argument, _text(argument)) for argument in node.args)
        arguments = [float(self.value(argument)) if text is None else text for argument, text in texts]
        try:
            result = self._functions[name](*arguments)
            return result if isinstance(result, bool) else float(result)
        except ExpressionError as error:
            raise ExpressionError(f"{self._source(node)}: {error}{_place(node)}") from None
        except (ArithmeticError, ConfigError, TypeError, ValueError) as error:
            raise ExpressionError(f"{self._source(node)} has no value: {error}{_place(node)}") from None

    # --- the explanation ---------------------------------------------------------------------------

    def reasons(self, node: ast.expr, holds: bool) -> Iterator[str]:
        """Yield what made `node` true or false."""
        match node:
            case ast.BoolOp(op=operation, values=values):
                # Of what decided: the first false part of an "and", the first true one of an "or"; else all.
                for part in values:
                    truth = bool(self.value(part))
                    decides = truth != isinstance(operation, ast.And)
                    if decides or truth == holds:
                        yield from self.reasons(part, truth)
                    if decides:
                        return
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inner = "; ".join(self.reasons(operand, not holds))
                yield f"not ({inner})"
            case ast.Compare():
                yield self._comparison(node)
            case _:
                yield self._told(node)

    def _comparison(self, node: ast.Compare) -> str:
        """Return "what = value, needed < bound", with the operand that varies in front."""
        operands = [node.left, *node.comparators]
        signs = [_COMPARISONS[type(operation)][0] for operation in node.ops]
        if len(operands) == 3 and _is_fixed(operands[0]) and not _is_fixed(operands[1]):
            low, high = self._told(operands[0]), self._told(operands[2])
            return f"{self._told(operands[1])}, needed {_MIRRORED[signs[0]]} {low} and {signs[1]} {high}"
        if len(operands) == 2:
            left, right = operands
            sign = signs[0]
            if _is_fixed(left) and not _is_fixed(right):
                left, right, sign = right, left, _MIRRORED[sign]
            return f"{self._told(left)}, needed {sign} {self._told(right)}"
        return f"{', '.join(self._told(part) for part in operands)}, needed {self._source(node)}"

    def _told(self, node: ast.expr) -> str:
        if _is_fixed(node) and not isinstance(node, ast.BinOp | ast.Call):
            return self._source(node)
        inputs = self._inputs(node)
        text = f"{self._source(node)} = {_shown(self.value(node))}"
        return f"{text} ({inputs})" if inputs else text

    def _inputs(self, node: ast.expr) -> str:
        """Return the names and calls inside of `node`, with their values; "" where it is one of them itself."""
        if isinstance(node, ast.Name | ast.Call):
            return ""
        found: dict[str, str] = {}
        waiting: list[ast.AST] = [node]
        while waiting:
            part = waiting.pop(0)
            if isinstance(part, ast.Name | ast.Call):
                found[self._source(part)] = _shown(self.value(part))
            else:
                waiting.extend(ast.iter_child_nodes(part))
        return ", ".join(f"{name} = {value}" for name, value in found.items())

    def _source(self, node: ast.expr) -> str:
        return ast.get_source_segment(self._text, node) or ast.unparse(node)


def _constant(value: object, node: ast.expr) -> float:
    try:
        if isinstance(value, str):
            return parse_duration(repr(value), value) / 1e9
        return float(value)  # type: ignore[arg-type]
    except (ConfigError, OverflowError) as error:
        raise ExpressionError(f"{error}{_place(node)}") from None


def _is_fixed(node: ast.expr) -> bool:
    """Whether no name is in it, so that it is the bound and not what is bounded."""
    return not any(isinstance(part, ast.Name) for part in ast.walk(node))


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.0f}" if abs(value) < 1e15 and value == int(value) else f"{value:.4g}"
