"""The public names are imported at their first use, but the asyncio channel, and look as if they were there from the start."""

from __future__ import annotations

import ast
import importlib
import os
import statistics
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import healthlb
import healthlb.aio
from healthlb import _lazy

FACES = pytest.mark.parametrize("face", [healthlb, healthlb.aio], ids=lambda face: face.__name__)
ROUNDS = 9
FACES_OWN = {"HealthAwareChannel", "HealthClient", "follow_state"}


def run(code: str) -> str:
    """Return what a fresh interpreter prints."""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


@FACES
def test_every_name_is_the_one_of_its_module(face: ModuleType) -> None:
    assert face.__file__ is not None
    shown_to_type_checkers = {
        alias.name: node.module
        for node in ast.walk(ast.parse(Path(face.__file__).read_text()))
        if isinstance(node, ast.ImportFrom) and node.module not in ("typing", "healthlb", "healthlb._lazy")
        for alias in node.names
    }

    assert sorted(shown_to_type_checkers) == sorted(face.__all__)
    for name, module in shown_to_type_checkers.items():
        assert getattr(face, name) is getattr(importlib.import_module(str(module)), name)


def test_type_checkers_know_the_modules_that_need_no_import() -> None:
    tree = ast.parse(Path(str(healthlb.__file__)).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "healthlb"]
    shown = {alias.name for node in imports for alias in node.names}
    (offered,) = (
        ast.literal_eval(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg == "submodules"
    )

    assert shown == set(offered)
    for name in offered:
        assert run(f"import healthlb; print(healthlb.{name}.__name__)") == f"healthlb.{name}"


@FACES
def test_names_in_any_order(face: ModuleType) -> None:
    for name in (face.__all__[0], face.__all__[-1]):
        assert run(f"import {face.__name__} as face; print(face.{name}.__name__)")


@FACES
def test_a_name_is_looked_for_once(face: ModuleType) -> None:
    assert face.Backoff is vars(face)["Backoff"]


@FACES
def test_star_import(face: ModuleType) -> None:
    assert run(f"from {face.__name__} import *; print(HealthAwareChannel.__module__)").endswith(".channel")


@FACES
def test_a_wrong_name(face: ModuleType) -> None:
    with pytest.raises(AttributeError, match=rf"^module '{face.__name__}' has no attribute 'Nope'$"):
        face.Nope  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Nope'"):
        exec(f"from {face.__name__} import Nope")


@FACES
def test_dir_has_them_before_they_are_used(face: ModuleType) -> None:
    missing = f"import {face.__name__} as face; print(sorted(set(face.__all__) - set(dir(face))))"

    assert run(missing) == "[]"


def test_modules_that_need_no_import_of_their_own() -> None:
    names = ("aio", "config", "errors", "resolvers", "server")

    assert run(f"import healthlb; print([getattr(healthlb, name).__name__ for name in {names}])") == str(
        [f"healthlb.{name}" for name in names]
    )


def test_importing_healthlb_imports_no_grpc() -> None:
    code = "import sys, healthlb, healthlb.cli; print('grpc' in sys.modules, 'asyncio' in sys.modules)"

    assert run(code) == "False False"


def test_common_names_are_those_of_both_faces() -> None:
    common = {name for names in _lazy.COMMON.values() for name in names.split()}

    assert common == set(healthlb.__all__) & set(healthlb.aio.__all__) - FACES_OWN


# --- the start of the probe --------------------------------------------------------------------------


def cpu_seconds(*arguments: str) -> float:
    """Return what a Python with these arguments takes of the processors."""
    process = os.posix_spawn(
        sys.executable,
        [sys.executable, *arguments],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)],
    )
    _, _, used = os.wait4(process, 0)
    return used.ru_utime + used.ru_stime


def test_the_probe_starts_in_less_than_twice_the_time_of_importing_grpc() -> None:
    probe = ("-m", "healthlb.cli", "probe", "-addr=127.0.0.1:1", "-connect-timeout=1ms")
    figures = [(cpu_seconds("-c", "import grpc"), cpu_seconds(*probe)) for _ in range(ROUNDS)]
    grpc_alone, probing = (statistics.median(column) for column in zip(*figures, strict=True))
    print(
        f"import grpc: {grpc_alone:.3f} s, probe: {probing:.3f} s of the processors, ratio {probing / grpc_alone:.2f}"
    )

    assert probing < 2 * grpc_alone


# --- the import of a channel -------------------------------------------------------------------------


def test_a_channel_is_imported_in_little_more_than_the_time_of_grpc() -> None:
    """The difference is 20 to 30 ms where grpc takes 80; the rest is imported with the first channel."""
    channel = "import healthlb; healthlb.HealthAwareChannel"
    figures = [(cpu_seconds("-c", "import grpc"), cpu_seconds("-c", channel)) for _ in range(ROUNDS)]
    grpc_alone, both = (statistics.median(column) for column in zip(*figures, strict=True))
    print(f"import grpc: {grpc_alone:.3f} s, the channel: {both:.3f} s of the processors")

    assert both < 1.75 * grpc_alone


def test_what_type_checkers_see_of_a_channel_is_what_is_imported_later() -> None:
    module = sys.modules[healthlb.HealthAwareChannel.__module__]
    assert module.__file__ is not None
    seen = {
        alias.name: node.module
        for branch in ast.parse(Path(module.__file__).read_text()).body
        if isinstance(branch, ast.If)
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    later = {name: value._module for name, value in vars(module).items() if isinstance(value, _lazy.Lazy)}

    assert seen == later
    assert all(getattr(importlib.import_module(str(seen[name])), name) is not None for name in seen)


@FACES
def test_type_hints_can_be_evaluated(face: ModuleType) -> None:
    code = (
        f"import typing, {face.__name__} as face; print(len(typing.get_type_hints(face.HealthAwareChannel.__init__)))"
    )

    assert int(run(code)) > 10
