"""Publish features into PostgreSQL, every vintage kept: all in one transaction, or nothing.

A view becomes a table of the same name.  Its key is the view's grain with ``as_of`` and
``available_at``, so a later vintage stands beside the earlier one.  Rows go through a file of
CSV and ``COPY``, so memory holds none of them.
"""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from etl import engine, sqlfiles
from etl.datapackage import Column
from etl.errors import BadInput, LakeBusy, LakeError, VendorError
from etl.export import columns_of, opened

try:
    import psycopg
    from psycopg import sql
    from psycopg.conninfo import conninfo_to_dict
except ImportError:
    raise BadInput("publishing needs an extra: pip install 'hydra-lake[publish]'") from None

__all__ = ["SCHEMA", "Published", "publish"]

#: The schema that tables are made in.
SCHEMA = "hydra"

#: DuckDB's types as PostgreSQL names them.
_TYPES: Mapping[str, str] = {
    "VARCHAR": "text",
    "TINYINT": "smallint",
    "INTEGER": "integer",
    "BIGINT": "bigint",
    "DOUBLE": "double precision",
    "DOUBLE[]": "double precision[]",
    "BOOLEAN": "boolean",
    "DATE": "date",
    "TIMESTAMP WITH TIME ZONE": "timestamp with time zone",
}

#: Its strikes follow from the fit: of a slice that was fitted anew, the old ones would stay among
#: the new.
_REDRAWN = "density_"

#: ``long_v1`` as one join needs it: not a table of values, and rows leave it when others come.
_PREPARED = "known_"

_ADDRESS = (
    "the address to publish to is postgresql://user@host:port/database, special characters "
    "percent-encoded, the password in PGPASSWORD or ~/.pgpass"
)
_DEFAULTS: dict[str, Any] = {"connect_timeout": 10, "application_name": "hydra publish"}
_OLDEST = 15  # the first with unique indexes under which two NULLs are the same
_BLOCK = 1 << 20
_SAMPLE = "SAMPLE DATA, synthetic. "


@dataclass(frozen=True)
class Published:
    """What publishing a view came to."""

    view: str
    added: int
    changed: int


@dataclass(frozen=True)
class _Table:
    """A view as it is to stand on the server."""

    schema: str
    name: str
    comment: str
    key: tuple[str, ...]
    columns: Sequence[Column]

    @property
    def view(self) -> str:
        return f"features.{self.name}"

    @property
    def types(self) -> dict[str, str]:
        return {column.name: _TYPES[column.type] for column in self.columns}

    @property
    def target(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


def publish(
    database: Path, url: str, views: Sequence[str] = (), schema: str = SCHEMA
) -> list[Published]:
    """Upsert views of ``features`` into PostgreSQL in one transaction.

    Parameters
    ----------
    database : the lake's
    url : ``postgresql://…``; what it leaves out, libpq's environment and ``~/.pgpass`` give
    views : versioned views, ``features.surface_v1``; all but the prepared one by default
    schema : the schema of the tables, made where there is none

    Raises
    ------
    BadInput
        The address or a view is not what it must be, or what was published there before is of
        another origin or has other columns.
    LakeBusy
        Another process is publishing to the same schema.
    VendorError
        The server is away, or refused.
    """
    with opened(database, "cannot publish") as connection:
        tables = _tables(connection, views, schema)
        ((origin,),) = connection.sql("select origin from meta.builds").fetchall()
        with (
            _transaction(url) as server,
            tempfile.TemporaryDirectory(prefix="hydra-publish-") as folder,
        ):
            _claim(server, schema, [table.name for table in tables], origin)
            rows = Path(folder, "rows.csv")
            return [_publish(connection, server, table, rows) for table in tables]


def _tables(
    connection: duckdb.DuckDBPyConnection, views: Sequence[str], schema: str
) -> list[_Table]:
    known = connection.sql("select view_name, grain from meta.sql_versions order by all").fetchall()
    grains = {f"features.{name}": grain for name, grain in known if not name.startswith(_PREPARED)}
    for view in views:
        if "://" in view:  # an address, maybe with a password
            raise BadInput("only the first argument is an address; after it come views")
        if view not in grains:
            near = difflib.get_close_matches(view, grains, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(grains))}"
            raise BadInput(f"no view {view!r} to publish: {hint}")
    comments = dict(connection.sql(sqlfiles.text("publish/comments.sql")).fetchall())
    tables = []
    for view in dict.fromkeys(views) if views else grains:
        name = view.removeprefix("features.")
        columns = columns_of(connection, view)
        for column in columns:
            if column.type not in _TYPES:
                raise LakeError(f"{view}: PostgreSQL has no type for {column.name} {column.type}")
        grain = [part.strip() for part in grains[view].split(",")]
        key = tuple(dict.fromkeys([*grain, "as_of", "available_at"]))
        tables.append(_Table(schema, name, comments[name], key, columns))
    return tables


@contextmanager
def _transaction(url: str) -> Iterator[psycopg.Connection]:
    """One transaction on a server; its errors are one line without a secret."""
    parts = _parts(url)
    try:
        with psycopg.connect(**_DEFAULTS | parts) as server:
            if server.info.server_version < _OLDEST * 10_000:
                raise VendorError(f"PostgreSQL {_OLDEST} or newer is needed to publish to")
            yield server
    except psycopg.Error as error:
        reason = str(error).strip().partition("\n")[0]
        for secret in (parts.get("password"), parts.get("sslpassword")):
            reason = reason.replace(str(secret), "…") if secret else reason
        # The error itself knows what it was called with: nobody is to see it in a traceback.
        raise VendorError(f"cannot publish, nothing was changed: {reason}") from None


def _parts(url: str) -> dict[str, Any]:
    """What an address says; one that cannot be read is not shown, since a password is in it."""
    try:
        if not url.startswith(("postgresql://", "postgres://")):
            raise ValueError
        parts = dict(conninfo_to_dict(url, client_encoding="utf8"))
    except (psycopg.Error, ValueError):
        raise BadInput(_ADDRESS) from None
    # A password that is not encoded and has an @ or a / puts a part of itself where these are.
    if any("@" in str(parts.get(name)) for name in ("host", "port", "dbname")):
        raise BadInput(_ADDRESS)
    return parts


def _claim(server: psycopg.Connection, schema: str, names: Sequence[str], origin: str) -> None:
    """Be the only publisher to a schema, which is made where there is none, of one origin."""
    lock = "select pg_try_advisory_xact_lock(hashtext(%s))"
    if not _rows(server, lock, [f"hydra publish {schema}"])[0][0]:
        raise LakeBusy(f"another hydra publish is writing to the schema {schema}: wait for it")
    if not _rows(server, "select 1 from pg_namespace where nspname = %s", [schema]):
        note = _SAMPLE if origin == "sample" else ""
        about = sql.Literal(f"{note}Features of a HYDRA lake, every vintage.")
        name = sql.Identifier(schema)
        server.execute(sql.SQL("create schema {}").format(name))
        server.execute(sql.SQL("comment on schema {} is {}").format(name, about))
    found = {"schema": schema, "names": list(names)}
    for (is_sample,) in _rows(server, sqlfiles.text("publish/origins.sql"), found):
        if is_sample is not None and is_sample != (origin == "sample"):
            held = "sample" if is_sample else "vendor"
            raise BadInput(
                f"the schema {schema} holds {held} data and the lake {origin} data: "
                "name another with --schema"
            )


def _publish(
    connection: duckdb.DuckDBPyConnection, server: psycopg.Connection, table: _Table, rows: Path
) -> Published:
    """Make the table fit, bring the view's rows to the server, and merge them."""
    _fit(server, table)
    names = _list(table.types)
    values = [name for name in table.types if name not in table.key]
    given = sql.SQL(", ").join(sql.Identifier("excluded", name) for name in values)
    _write(connection, table, rows)
    server.execute(
        sql.SQL("create temporary table incoming (like {}) on commit drop").format(table.target)
    )
    copy = sql.SQL(r"copy incoming ({}) from stdin (format csv, null '\N')").format(names)
    with open(rows, "rb") as file, server.cursor().copy(copy) as stream:
        while block := file.read(_BLOCK):
            stream.write(block)
    server.execute("analyze incoming")  # else the server plans the merge for a handful of rows
    if table.name.startswith(_REDRAWN):
        redrawn = _filled(
            server,
            "publish/redrawn.sql",
            target=table.target,
            key=_list(table.key),
            slice=_list([name for name in table.key if name != "strike"]),
        )
        server.execute(redrawn)
    upsert = _filled(
        server,
        "publish/upsert.sql",
        target=table.target,
        columns=names,
        key=_list(table.key),
        values=_list(values),
        new_values=given,
    )
    ((added, changed),) = server.execute(upsert).fetchall()
    server.execute("drop table incoming")
    return Published(table.view, added, changed)


def _write(connection: duckdb.DuckDBPyConnection, table: _Table, rows: Path) -> None:
    """The view as CSV that ``COPY`` reads: NULL is not the empty text, a list is an array."""
    values = []
    for column in table.columns:
        name = engine.identifier(column.name)
        array = f"translate({name}::varchar, '[]', '{{}}')"
        values.append(array if column.type.endswith("[]") else name)
    select = f"select {', '.join(values)} from {table.view}"
    options = r"format csv, header false, nullstr '\N'"
    connection.execute(f"copy ({select}) to {engine.quoted(rows)} ({options})").fetchall()


def _fit(server: psycopg.Connection, table: _Table) -> None:
    """Make the table where there is none, else add the columns that are new in the view.

    Raises
    ------
    BadInput
        It has columns that the view lacks, or of other types.
    """
    place = {"schema": table.schema, "name": table.name}
    found = _rows(server, sqlfiles.text("publish/columns.sql"), place)
    types = {name: kind for name, kind, _ in found}
    comments = {name: comment for name, _, comment in found}
    if wrong := [name for name, kind in types.items() if table.types.get(name) != kind]:
        raise BadInput(
            f"{table.schema}.{table.name} has the column {wrong[0]}, which is not the view's or "
            "not of its type: drop the table, or name another --schema"
        )
    typed = [
        sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind))
        for name, kind in table.types.items()
        if name not in types
    ]
    if not found:
        _create(server, table, typed)
    elif typed:
        added = sql.SQL(", ").join(sql.SQL("add column {}").format(column) for column in typed)
        server.execute(sql.SQL("alter table {} {}").format(table.target, added))
    for column in table.columns:
        if column.comment != comments.get(column.name):
            target = sql.Identifier(table.schema, table.name, column.name)
            about = sql.Literal(column.comment)
            server.execute(sql.SQL("comment on column {} is {}").format(target, about))


def _create(server: psycopg.Connection, table: _Table, typed: Sequence[sql.Composed]) -> None:
    """A new table with its key, and where TimescaleDB is there a hypertable."""
    columns = sql.SQL(", ").join(typed)
    server.execute(sql.SQL("create table {} ({})").format(table.target, columns))
    about = sql.Literal(table.comment)
    server.execute(sql.SQL("comment on table {} is {}").format(table.target, about))
    for (timescale,) in _rows(server, sqlfiles.text("publish/timescale.sql")):
        place = table.target.as_string(server)
        names = {"timescale": sql.Identifier(timescale), "target": sql.Literal(place)}
        server.execute(_filled(server, "publish/hypertable.sql", **names))
    index, key = sql.Identifier(f"{table.name}_vintage"), _list(table.key)
    unique = "create unique index {} on {} ({}) nulls not distinct"
    server.execute(sql.SQL(unique).format(index, table.target, key))


def _list(names: Sequence[str] | Mapping[str, str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _filled(server: psycopg.Connection, name: str, **parts: sql.Composable) -> bytes:
    """The text of an SQL file with names in the places that it leaves for them."""
    texts = {key: part.as_string(server) for key, part in parts.items()}
    return (sqlfiles.text(name) % texts).encode()


def _rows(
    server: psycopg.Connection,
    text: str,
    values: Sequence[object] | Mapping[str, object] | None = None,
) -> list[tuple[Any, ...]]:
    return server.execute(text.encode(), values).fetchall()
