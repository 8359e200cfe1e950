"""Whether a database answers `SELECT 1`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import closing
from typing import Any

from healthlb.errors import ConfigError
from healthlb.server.check import check_no_arguments
from healthlb.server.checks.unhealthy import Unhealthy, check_text


def database(source: Any, query: str = "SELECT 1") -> Callable[[], None]:
    """Return a check that asks a database.

    Args:
        source: a function that opens a DB-API connection (it is closed after each run), or a SQLAlchemy engine (its
            pool is used). Give connections a timeout of their own: a hung one outlives the check's.
        query: must return a row.

    Raises:
        ConfigError: `source` is neither (the name of a file, an open connection, an asynchronous engine), or a function
            that needs arguments, or `query` no string.
    """
    check_text("query", query)
    is_engine = hasattr(source, "connect") and hasattr(source, "dialect")
    is_connection = hasattr(source, "cursor") and not isinstance(source, type)
    is_asynchronous = inspect.iscoroutinefunction(source) or hasattr(source, "sync_engine")
    if is_asynchronous or is_connection or not (is_engine or callable(source)):
        raise ConfigError(
            "source must be a function that opens a connection (as in database(lambda: sqlite3.connect('x.db'))) "
            f"or a SQLAlchemy engine, not {source!r}"
        )
    if not is_engine:
        check_no_arguments("source", source)
    ask = _ask_engine if is_engine else _ask_connection

    def check() -> None:
        if ask(source, query) is None:
            raise Unhealthy(f"{query!r} returned no row")

    return check


def _ask_connection(connect: Callable[[], Any], query: str) -> Any:
    with closing(connect()) as connection, closing(connection.cursor()) as cursor:
        cursor.execute(query)
        return cursor.fetchone()


def _ask_engine(engine: Any, query: str) -> Any:
    with engine.connect() as connection:
        return connection.exec_driver_sql(query).fetchone()
