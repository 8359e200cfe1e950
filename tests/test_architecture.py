"""The layers of the architecture, enforced from the source text alone: nothing is imported.

Each rule is a function from one parsed module to its violations; at the end each is shown a module
that breaks it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# The words that the rooms of the core share.
VOCABULARY = (
    "healthlb.core.endpoint", "healthlb.core.messages", "healthlb.core.effects", "healthlb.core.facts", "healthlb.core.states",
    "healthlb.core.load", "healthlb.core.timers", "healthlb.core.random_streams", "healthlb.core.event_context",
    "healthlb.core.backoff", "healthlb.core.rate_limit", "healthlb.core.user_code", "healthlb.core.wire",
    "healthlb.core.remedies", "healthlb.core.shedding", "healthlb.core.wordings", "healthlb.core.values",
)  # fmt: skip
BASE = ("healthlb.errors", "healthlb.text", "healthlb.files", "healthlb.config")
CORE = (
    "vocabulary", "healthlb.core.pickers", "healthlb.core.snapshot", "healthlb.core.subchannel",
    "healthlb.core.exclusion", "healthlb.core.call", "healthlb.core",
)  # fmt: skip
SIMULATOR = tuple(
    f"healthlb.simulation.{name}" for name in ("engine", "scenario", "world", "checks", "scenario_files", "running")
)
# What a room may import of the others, from the ground up. A module is in the room with the longest name it begins with.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "healthlb._lazy": (),
    "healthlb.errors": (),
    "healthlb.text": (),
    "healthlb.files": ("healthlb.errors", "healthlb.text"),
    "healthlb.config": ("healthlb.errors",),
    "vocabulary": ("healthlb.config", "healthlb.text"),
    "healthlb.core.pickers": ("healthlb.config", "healthlb.errors", "vocabulary"),
    "healthlb.core.snapshot": CORE[:2],
    "healthlb.core.subchannel": ("healthlb.config", "vocabulary", "healthlb.core.snapshot"),
    "healthlb.core.exclusion": ("healthlb.config", "vocabulary", "healthlb.core.subchannel"),
    "healthlb.core.call": ("healthlb.config", *CORE[:5]),
    "healthlb.core": ("healthlb.config", *CORE),
    "healthlb.facts": ("vocabulary",),
    "healthlb.pickers": ("vocabulary", "healthlb.core.pickers"),
    "healthlb.presets": ("healthlb.config",),
    "healthlb.resolvers": (*BASE, "vocabulary"),
    "healthlb.control": (*BASE, *CORE, "healthlb.resolvers"),
    "healthlb.calls": (*BASE, *CORE, "healthlb.resolvers", "healthlb.control"),
    "healthlb.health_client": (*BASE, "vocabulary", "healthlb.control"),
    "healthlb.server": (*BASE, "vocabulary", "healthlb.control"),
    "healthlb.server.checks": (
        *BASE, "vocabulary", "healthlb.control", "healthlb.server", "healthlb.health_client", "healthlb.sync",
    ),
    "healthlb.telemetry": (*BASE, "vocabulary", "healthlb.control", "healthlb.server"),
    **dict.fromkeys(
        ("healthlb.sync", "healthlb.aio"),
        (
            *BASE, *CORE, "healthlb.resolvers", "healthlb.control", "healthlb.calls", "healthlb.health_client",
            "healthlb.telemetry", "healthlb._lazy",
        ),
    ),
    "healthlb.testing": ("healthlb.errors", "vocabulary", "healthlb.core.pickers", "healthlb.server"),
    "healthlb.simulation.engine": ("vocabulary",),
    "healthlb.simulation.scenario": (*BASE, "healthlb.core.pickers"),
    "healthlb.simulation.world": (*BASE, *CORE, *SIMULATOR[:2]),
    "healthlb.simulation.checks": (*BASE, *SIMULATOR[:3]),
    "healthlb.simulation.scenario_files": (
        *BASE, "vocabulary", "healthlb.core.pickers", "healthlb.presets", *SIMULATOR[:4],
    ),
    "healthlb.simulation.running": ("healthlb.errors", *SIMULATOR[:4]),
    "healthlb.simulation.report": SIMULATOR,
    "healthlb.simulation.sweep": (*BASE, *SIMULATOR, "healthlb.simulation.report"),
    "healthlb.simulation.fuzzing": (*BASE, *CORE, *SIMULATOR, "healthlb.simulation.sweep"),
    "healthlb.simulation.validation": (*BASE, *CORE, *SIMULATOR),
}  # fmt: skip
# What a package passes on besides its own names.
PASSES_ON = {"healthlb.aio": "healthlb.server", "healthlb.server": "healthlb.server.checks"}
# Real servers, people and terminals: these two rooms of the simulator stand above the faces.
WITH_REAL_SERVERS = ("healthlb.simulation.calibration", "healthlb.simulation.commands")
COMMANDS = ("healthlb.cli", "healthlb.demo", *WITH_REAL_SERVERS)
FACES = ("healthlb.sync", "healthlb.aio")
# A check runs on a thread of its own, and so asks with the sync health client.
USERS_OF_FACES = (*COMMANDS, "healthlb.server.checks.grpc_service")
IMPURE = {
    "asyncio", "concurrent", "datetime", "http", "logging", "multiprocessing", "os", "pathlib", "queue", "sched",
    "secrets", "select", "selectors", "signal", "socket", "socketserver", "ssl", "subprocess", "tempfile", "threading",
    "time", "urllib", "uuid", "_thread",
}  # fmt: skip
# These two are written by calls, from any thread, and each has one small lock.
WRITTEN_BY_CALLS = ("healthlb.core.load", "healthlb.core.call.budget")
# One idea each, which is longer when it is written plainly; splitting one at a limit would make two halves of it.
MOST_LINES = {
    "healthlb.aio.health_watches": 450,
    "healthlb.calls.call_runner": 440,
    "healthlb.control.grpc_transport": 420,
    "healthlb.core.balancer": 350,
    "healthlb.core.call.call_attempts": 440,
    "healthlb.core.load": 440,
    "healthlb.core.subchannel.machine": 460,
    "healthlb.simulation.world.client": 440,
    "healthlb.sync.balanced": 440,
}
# Of fewer lines is a module only where more than one other has a use for it,
LEAST_MODULE_LINES = 60
# where it is one of its kind, as a picker or a command, each in a file of its name,
KINDS = (
    "healthlb.cli",
    "healthlb.core.pickers",
    "healthlb.resolvers",
    "healthlb.server.checks",
    "healthlb.simulation.commands",
)
# or where it is an idea by itself.
SMALL = {
    "healthlb.control.shared_connection",  # what one connection for health and calls needs of grpcio's private names
    "healthlb.core.advice",  # its only user composes all of the balancer's parts, and has none of their rules
    "healthlb.core.subchannel.exclusion",  # a value that five parts of the balancer set, by way of the machine
    "healthlb.core.subchannel.state_reports",  # a rate limit of its own, beside a machine that is long already
    "healthlb.demo.plain",  # one of two views
    # Public: these pass names on.
    "healthlb.facts",
    "healthlb.pickers",
    "healthlb.server.aio",
}  # fmt: skip
MOST_MODULE_LINES = 400
MOST_FUNCTION_LINES = 60
# Constructors that take more than three arguments by position.
BY_POSITION = {
    # One or more for each call. With CPython 3.11 two arguments by name make an object of five 0.14 microseconds dearer
    # (0.31 instead of 0.17), and five 0.3.
    "healthlb.aio.balanced.BalancedCall",
    "healthlb.calls.attempts.Attempts",
    "healthlb.calls.attempts.Live",
    "healthlb.simulation.world.call.Call",
    "healthlb.sync.balanced.BalancedCall",
    "healthlb.sync.intake.Taken",
    "healthlb.sync.live_attempt.LiveAttempt",
    # As grpcio's classes have them.
    "healthlb.aio.calls.UnaryUnaryCall",
    "healthlb.aio.errors.AioRpcError",
    # Public.
    "healthlb.core.load.Subchannel",
}
MACHINE_PATHS = re.compile("|".join(("/" + "work/", "/" + r"tmp/venv", "/" + r"root/", "/" + r"(home|Users)/\w+/")))


@dataclass(frozen=True)
class Module:
    """One source file.

    Attributes:
        name: dotted; of a package, without `__init__`.
        is_package: whether it is an `__init__.py`.
    """

    name: str
    text: str
    is_package: bool = False

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    def is_in(self, *layers: str) -> bool:
        return any(f"{self.name}.".startswith(f"{layer}.") for layer in layers)


def load(path: Path) -> Module:
    parts = path.relative_to(ROOT).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    return Module(".".join(parts[:-1] if is_package else parts), path.read_text(), is_package)


MODULES = [load(path) for path in sorted((ROOT / "healthlb").rglob("*.py"))]


def imports(module: Module) -> Iterator[str]:
    """Every module or name that is imported, `from a import b` as `a.b`."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.name.split(".")
                parts = parts[: len(parts) - node.level + module.is_package]
                base = ".".join([*parts, base] if base else parts)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def is_in(name: str, *layers: str) -> bool:
    return any(f"{name}.".startswith(f"{layer}.") for layer in layers)


# --- rules ---------------------------------------------------------------------------------------


def room_of(name: str) -> str:
    """Return the room of a module or of a name in one."""
    if is_in(name, *VOCABULARY):
        return "vocabulary"
    return max((room for room in MAY_IMPORT if is_in(name, room)), key=len, default="above")


def imports_point_down(module: Module) -> list[str]:
    """A room imports itself and what stands below it."""
    room = room_of(module.name)
    if room == "above":
        return []
    allowed = {room, *MAY_IMPORT[room]} | ({PASSES_ON.get(module.name)} if module.is_package else set())
    return [name for name in imports(module) if is_in(name, "healthlb") and room_of(name) not in allowed]


def core_is_pure(module: Module) -> list[str]:
    """No I/O, clock, threads or event loop in the core; of others' code the `backoff` library alone."""
    if not module.is_in("healthlb.core"):
        return []
    allowed = {"threading"} if module.name in WRITTEN_BY_CALLS else set()
    roots = {name.split(".")[0] for name in imports(module)} - {"healthlb", "backoff"} - allowed
    return sorted(name for name in roots if name in IMPURE or name not in sys.stdlib_module_names)


def faces_are_apart(module: Module) -> list[str]:
    """The twins never import each other; beside themselves, only `__init__` files and their users here know them."""
    own = tuple(face for face in FACES if module.is_in(face))
    if not own and (module.is_package or module.is_in(*USERS_OF_FACES)):
        return []
    names = list(imports(module))
    # What the root package re-exports is the faces' too.
    root = [name for name in names if re.fullmatch(r"healthlb\.[A-Z]\w*", name)]
    return root + [name for name in names if is_in(name, *FACES) and not is_in(name, *own)]


def core_draws_from_streams(module: Module) -> list[str]:
    """Every random number comes from a seeded stream: only the type `random.Random` is used."""
    if not module.is_in("healthlb.core"):
        return []
    found = []
    for node in ast.walk(module.tree):
        match node:
            case ast.ImportFrom(module="random"):
                found += [f"line {node.lineno}: from random import ..."]
            case ast.Attribute(value=ast.Name(id="random"), attr=attribute) if attribute != "Random":
                found += [f"line {node.lineno}: random.{attribute}"]
            case ast.Call(func=ast.Attribute(value=ast.Name(id="random"))) if (
                module.name != "healthlb.core.random_streams"
            ):
                found += [f"line {node.lineno}: a stream that Streams did not make"]
    return found


def core_iterates_over_no_set(module: Module) -> list[str]:
    """The order of a set changes from run to run, so nothing may depend on it."""
    if not module.is_in("healthlb.core"):
        return []
    sets = {name for node in ast.walk(module.tree) for name in _names_of_sets(node)}
    iterated = (part for node in ast.walk(module.tree) for part in _iterated(node))
    return [f"line {part.lineno}: {ast.unparse(part)}" for part in iterated if _is_set(part, sets)]


def _names_of_sets(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Assign(targets=targets, value=value) if _is_set(value, set()):
            yield from (ast.unparse(target) for target in targets)
        case ast.AnnAssign(target=target, annotation=annotation):
            if re.match(r"(frozen)?set\b|(Abstract|Mutable)?Set\b", ast.unparse(annotation)):
                yield ast.unparse(target)


def _is_set(node: ast.AST, names: set[str]) -> bool:
    match node:
        case ast.Set() | ast.SetComp() | ast.Call(func=ast.Name(id="set" | "frozenset")):
            return True
        case ast.BinOp(left=left, right=right):
            return _is_set(left, names) or _is_set(right, names)
        case ast.Name() | ast.Attribute():
            return ast.unparse(node) in names
    return False


def _iterated(node: ast.AST) -> Iterator[ast.expr]:
    match node:
        case ast.For(iter=iterable) | ast.comprehension(iter=iterable):
            yield iterable
        case ast.Call(func=ast.Name(id="list" | "tuple" | "iter" | "enumerate" | "zip" | "map"), args=args):
            yield from args
        case ast.Starred(value=value):
            yield value


def modules_are_short(module: Module) -> list[str]:
    """A module is one idea: 400 lines at most, the docstring apart."""
    lines = len(module.text.splitlines()) - _docstring_lines(module.tree)
    most = MOST_LINES.get(module.name, MOST_MODULE_LINES)
    return [f"{lines} lines, more than {most}"] if lines > most else []


def functions_are_short(module: Module) -> list[str]:
    """No function is longer than 60 lines, the docstring apart."""
    found = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1 - _docstring_lines(node)
            if lines > MOST_FUNCTION_LINES:
                found.append(f"{node.name}: {lines} lines, more than {MOST_FUNCTION_LINES}")
    return found


def constructors_take_few_by_position(module: Module) -> list[str]:
    """A constructor takes at most three arguments by position, and the rest by their names."""
    found = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef) and f"{module.name}.{node.name}" not in BY_POSITION:
            made = next((one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), None)
            if made is not None and len(made.args.posonlyargs + made.args.args) > 4:
                found.append(f"{node.name}: {ast.unparse(made.args)}")
    return found


def _docstring_lines(node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    if ast.get_docstring(node) is None:
        return 0
    first = node.body[0]
    assert first.end_lineno is not None
    return first.end_lineno - first.lineno + 1


def public_names_are_documented(module: Module) -> list[str]:
    """Every public module, class, function, method and property says what it is for."""
    missing = [] if not module.text or ast.get_docstring(module.tree) else ["the module"]
    return missing + [name for name, node in _public(module.tree, "") if not ast.get_docstring(node)]


def all_classes_are_documented(module: Module) -> list[str]:
    """A private class says what it is for, too, and so do the methods and properties that others use."""
    missing = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef):
            missing += [] if ast.get_docstring(node) else [node.name]
            missing += [name for name, method in _public(node, f"{node.name}.") if not ast.get_docstring(method)]
    return missing


Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _public(node: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, Definition]]:
    for child in node.body:
        if isinstance(child, Definition) and not child.name.startswith("_"):
            is_overload = any("overload" in ast.unparse(decorator) for decorator in child.decorator_list)
            if not is_overload and not any(".setter" in ast.unparse(d) for d in child.decorator_list):
                yield prefix + child.name, child
            if isinstance(child, ast.ClassDef):
                yield from _public(child, f"{prefix}{child.name}.")


def simulation_needs_nothing(module: Module) -> list[str]:
    """The standard library is enough to simulate; the core brings `backoff`."""
    if not module.is_in("healthlb.simulation") or module.is_in(*WITH_REAL_SERVERS):
        return []
    roots = {name.split(".")[0] for name in imports(module)} - {"healthlb"}
    return sorted(name for name in roots if name not in sys.stdlib_module_names)


RULES: list[Callable[[Module], list[str]]] = [
    imports_point_down,
    core_is_pure,
    faces_are_apart,
    core_draws_from_streams,
    core_iterates_over_no_set,
    simulation_needs_nothing,
    modules_are_short,
    functions_are_short,
    constructors_take_few_by_position,
    public_names_are_documented,
    all_classes_are_documented,
]


def simulation_reaches_no_grpc(modules: list[Module]) -> list[str]:
    """Nothing that the simulation imports, over any number of steps, imports grpc."""
    by_name = {module.name: module for module in modules}
    waiting = [
        module.name
        for module in modules
        if module.is_in("healthlb.simulation") and not module.is_in(*WITH_REAL_SERVERS)
    ]
    seen: set[str] = set(waiting)
    found = []
    while waiting:
        module = by_name[waiting.pop()]
        names = sorted(set(imports(module)))
        found += [f"{module.name} imports {name}" for name in names if name.split(".")[0] in ("grpc", "grpc_health")]
        # The root package re-exports the faces; whoever imports any part of healthlb runs it.
        known = {part for name in names for part in _with_parents(name)} & by_name.keys() - {"healthlb"} - seen
        seen |= known
        waiting += sorted(known)
    return found


def small_with_one_user(modules: list[Module]) -> list[str]:
    """Return the modules of few lines that only one other imports: such a one belongs into that other."""
    names = {module.name for module in modules}
    users: dict[str, set[str]] = {name: set() for name in names}
    for module in modules:
        for imported in {_owner(name, names) for name in imports(module)} - {module.name, ""}:
            users[imported].add(module.name)
    return [
        module.name
        for module in modules
        if len(module.text.splitlines()) < LEAST_MODULE_LINES
        and len(users[module.name]) == 1
        and not (module.is_package or module.is_in(*KINDS) or module.name in SMALL)
    ]


def circles(modules: list[Module]) -> list[list[str]]:
    """Return which of these modules import each other, be it over others, and be it for their types alone."""
    names = {module.name for module in modules}
    reached = {module.name: {_owner(name, names) for name in imports(module)} & names for module in modules}
    for name in names:
        reached[name].discard(name)
    for middle in sorted(names):
        for name in names:
            if middle in reached[name]:
                reached[name] |= reached[middle]
    found = {
        tuple(sorted(other for other in names if other in reached[name] and name in reached[other])) for name in names
    }
    return [list(circle) for circle in sorted(found) if circle]


def _owner(name: str, names: Collection[str]) -> str:
    return next((parent for parent in reversed(list(_with_parents(name))) if parent in names), "")


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        yield ".".join(parts[:length])


# --- healthlb obeys them ---------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_module_obeys(rule: Callable[[Module], list[str]]) -> None:
    broken = {module.name: violations for module in MODULES if (violations := rule(module))}

    assert broken == {}, rule.__doc__


def test_simulation_reaches_no_grpc() -> None:
    assert simulation_reaches_no_grpc(MODULES) == []


def test_no_modules_import_each_other() -> None:
    assert circles(MODULES) == []


def test_small_modules_have_users_or_a_reason() -> None:
    assert small_with_one_user(MODULES) == []


def test_a_small_module_with_one_user_is_seen() -> None:
    texts = {
        "a": "from x import b",
        "b": "import x.c",
        "c": "",
        "d": "import x.c",
        "e": "x = 1\n" * 60,
        "f": "import x.e",
    }

    assert small_with_one_user([Module(f"x.{name}", text) for name, text in texts.items()]) == ["x.b"]


def test_every_module_is_in_a_room() -> None:
    """What is in no room of the table is a command, or passes names on."""
    above = [module.name for module in MODULES if room_of(module.name) == "above" and not module.is_in(*COMMANDS)]

    assert above == ["healthlb", "healthlb.__main__", "healthlb.simulation"]


def test_a_circle_is_seen() -> None:
    texts = {
        "a": "from x import b",
        "b": "if TYPE_CHECKING:\n    from x.c import C",
        "c": "import x.a",
        "d": "import x.a",
    }

    assert circles([Module(f"x.{name}", text) for name, text in texts.items()]) == [["x.a", "x.b", "x.c"]]


def test_no_file_mentions_a_path_of_this_machine() -> None:
    folders = ("healthlb", "tests", "docs", "simulations", "benchmarks", "examples")
    suffixes = (".py", ".md", ".toml", ".json", ".yaml", ".yml", ".cfg", ".txt", ".sh", ".proto")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in suffixes]
    files += [path for path in ROOT.glob("*") if path.is_file() and path.suffix in suffixes]

    mentions = [str(path.relative_to(ROOT)) for path in files if MACHINE_PATHS.search(path.read_text())]

    assert mentions == []


def test_all_layers_are_found() -> None:
    names = {module.name for module in MODULES}

    assert names >= {"healthlb", "healthlb.core", "healthlb.core.balancer", "healthlb.control.driver", "healthlb.sync"}


# --- and they can fail -------------------------------------------------------------------------------

CORE = "healthlb.core.thing"

BAD = [
    (imports_point_down, CORE, "from healthlb.control import driver"),
    (imports_point_down, CORE, "from healthlb import sync"),
    (imports_point_down, CORE, "from ..sync import channel"),
    (imports_point_down, CORE, "def f():\n    import healthlb.resolvers.dns"),
    (imports_point_down, CORE, "if TYPE_CHECKING:\n    from healthlb.sync.channel import HealthAwareChannel"),
    (imports_point_down, "healthlb.errors", "from healthlb.config import Backoff"),
    (imports_point_down, "healthlb.config", "from healthlb.core.messages import SECOND"),
    (imports_point_down, "healthlb.resolvers.dns", "from healthlb.control.transport import Transport"),
    (core_is_pure, CORE, "import grpc.aio"),
    (core_is_pure, CORE, "import asyncio"),
    (core_is_pure, CORE, "import threading"),
    (core_is_pure, CORE, "from time import monotonic_ns"),
    (core_is_pure, CORE, "def f():\n    from datetime import datetime"),
    (core_is_pure, CORE, "import logging"),
    (core_is_pure, CORE, "import os.path"),
    (core_is_pure, CORE, "import numpy"),
    (core_is_pure, "healthlb.core.load", "import socket"),
    (faces_are_apart, "healthlb.aio.channel", "from healthlb.sync.subchannels import Pool"),
    (faces_are_apart, "healthlb.aio.channel", "from ..sync import pool"),
    (faces_are_apart, "healthlb.sync.channel", "import healthlb.aio"),
    (faces_are_apart, "healthlb.control.driver", "from healthlb.sync import subchannels"),
    (faces_are_apart, "healthlb.sync.subchannels", "from healthlb import HealthAwareChannel"),
    (faces_are_apart, "healthlb.telemetry.logs", "from healthlb.aio.channel import HealthAwareChannel"),
    (core_draws_from_streams, CORE, "import random\nx = random.random()"),
    (core_draws_from_streams, CORE, "import random\nx = random.SystemRandom"),
    (core_draws_from_streams, CORE, "from random import shuffle"),
    (core_draws_from_streams, CORE, "import random\nrng = random.Random()"),
    (core_iterates_over_no_set, CORE, "for x in {1, 2}: pass"),
    (core_iterates_over_no_set, CORE, "y = [x for x in set(z)]"),
    (core_iterates_over_no_set, CORE, "y = list({x for x in z})"),
    (core_iterates_over_no_set, CORE, "y = frozenset(z)\nfor x in y - w: pass"),
    (core_iterates_over_no_set, CORE, "class A:\n  def f(self):\n    self.b: set[int] = c\n    return [*self.b]"),
    (imports_point_down, "healthlb.simulation.world.world", "from healthlb.control.driver import Driver"),
    (simulation_needs_nothing, "healthlb.simulation.report.page", "import jinja2"),
    (modules_are_short, CORE, '"""Doc."""\n' + "x = 1\n" * 401),
    (modules_are_short, "healthlb.core.balancer", "x = 1\n" * 351),
    (functions_are_short, CORE, "def f():\n" + "    x = 1\n" * 60),
    (functions_are_short, CORE, 'class A:\n  async def f():\n    """Doc."""\n' + "    x = 1\n" * 60),
    (constructors_take_few_by_position, CORE, "class A:\n  def __init__(self, a, b, c, d): pass"),
    (public_names_are_documented, CORE, "x = 1"),
    (public_names_are_documented, CORE, '"""Doc."""\ndef f(): pass'),
    (public_names_are_documented, CORE, '"""Doc."""\nclass A:\n  """Doc."""\n  @property\n  def f(self): pass'),
    (all_classes_are_documented, CORE, "class _A: pass"),
    (all_classes_are_documented, CORE, 'class _A:\n  """Doc."""\n  def f(self): pass'),
]


@pytest.mark.parametrize(("rule", "name", "text"), BAD)
def test_a_rule_sees_what_breaks_it(rule: Callable[[Module], list[str]], name: str, text: str) -> None:
    assert rule(Module(name, text)) != []


GOOD = [
    (imports_point_down, CORE, "from healthlb.core import health\nfrom healthlb.config import Backoff"),
    (imports_point_down, "healthlb.sync.channel", "from healthlb.control.driver import Driver"),
    (core_is_pure, "healthlb.core.load", "import threading"),
    (core_is_pure, CORE, "import heapq, backoff\nfrom collections.abc import Set"),
    (faces_are_apart, "healthlb.cli.app", "from healthlb.sync.channel import HealthAwareChannel"),
    (faces_are_apart, "healthlb.sync.channel", "from healthlb.sync import subchannels"),
    (core_draws_from_streams, CORE, "import random\ndef f(rng: random.Random): return rng.random()"),
    (core_draws_from_streams, "healthlb.core.random_streams", "import random\nrng = random.Random(b'seed')"),
    (core_iterates_over_no_set, CORE, "y = {1, 2}\nfor x in sorted(y): pass\nz = 1 in y"),
    (functions_are_short, CORE, 'def f():\n    """Doc.\n\n    More."""\n' + "    x = 1\n" * 59),
    (constructors_take_few_by_position, CORE, "class A:\n  def __init__(self, a, b, c, *, d): pass"),
    (public_names_are_documented, CORE, '"""Doc."""\ndef _f(): pass\nclass _A:\n  def f(self): pass'),
    (all_classes_are_documented, CORE, 'class _A:\n  """Doc."""\n  def _f(self): pass'),
]


@pytest.mark.parametrize(("rule", "name", "text"), GOOD)
def test_a_rule_lets_pass_what_keeps_it(rule: Callable[[Module], list[str]], name: str, text: str) -> None:
    assert rule(Module(name, text)) == []


def test_packages_may_re_export_the_faces() -> None:
    assert faces_are_apart(Module("healthlb", "from healthlb.sync.channel import X", is_package=True)) == []


def test_the_simulation_rule_follows_imports() -> None:
    modules = [
        Module("healthlb", "import grpc", is_package=True),
        Module("healthlb.simulation.world.world", "from healthlb.control import driver"),
        Module("healthlb.control.driver", "from healthlb.control.grpc_transport import GrpcTransport"),
        Module("healthlb.control.grpc_transport", "import grpc.aio"),
    ]

    assert simulation_reaches_no_grpc(modules) == ["healthlb.control.grpc_transport imports grpc.aio"]


def test_machine_paths_are_seen() -> None:
    texts = ["/" + "work/main", "/" + "root/.cache", "/" + "home/me/src", "/" + "tmp/venv/bin/python"]

    assert [bool(MACHINE_PATHS.search(text)) for text in texts] == [True] * 4
    assert not MACHINE_PATHS.search("unix:/run/s.sock, file:///path/backends.json")
