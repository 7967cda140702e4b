"""Export a view or a query to a file, the same bytes each time, with a descriptor beside it."""

from __future__ import annotations

import difflib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb

from etl import datapackage, engine
from etl.datapackage import Column, Content
from etl.errors import BadInput, LakeError, beneath, refusal
from etl.lake import Lake, replace_whole, sync_folder

#: How each format is written: UTC times in ISO 8601 with their zone, floats in full; lines of a
#: CSV file end as RFC 4180 has it.
_COPIED: Mapping[str, str] = {
    "csv": r"format csv, header true, timestampformat '%Y-%m-%dT%H:%M:%S.%fZ', new_line '\r\n'",
    "parquet": "format parquet, compression zstd",
}
FORMATS = (*_COPIED, "arrow", "xlsx")

#: Rows that go through memory at a time on their way to an Arrow or Excel file.
_BATCH = 65_536
#: Memory that sorting may take before it spills to disk.
_MEMORY = "512MB"
_SHEET_ROWS = 1_048_575  # beside the header

#: The columns that --start and --end speak of, the first that a view has.
_DATES = ("session_date", "report_date", "as_of")

#: What must be at or before --at.
_KNOWN = ("as_of", "available_at")


def open_database(path: Path) -> duckdb.DuckDBPyConnection:
    """Open the lake's database for reading.

    Raises
    ------
    BadInput
        There is none yet, or the file is not a DuckDB database.
    """
    if not os.path.exists(path):
        raise BadInput(f"{path}: no database yet: run hydra daily, or hydra build")
    try:
        return engine.connect(str(path), read_only=True)
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise BadInput(
            f"{path}: cannot be opened ({reason}): rebuild it with hydra build"
        ) from None


def export(
    database: Path,
    view: str,
    format: str,
    target: Path,
    *,
    market: str | None = None,
    start: date | None = None,
    end: date | None = None,
    at: datetime | None = None,
    partition_by: Sequence[str] = (),
) -> int:
    """Write the rows of a view, in the order of its columns, and return how many there are.

    Parameters
    ----------
    view : a table or view with its schema, ``features.daily_v1``
    format : one of ``FORMATS``
    target : the file, or the folder of an export by ``partition_by``
    start, end : first and last session date, report date or UTC date of ``as_of``
    at : only rows that were known at this instant
    partition_by : columns whose values become folders, ``market=HE/…``; csv and parquet only

    Raises
    ------
    BadInput
        The view, a column or the market is unknown, the view lacks a column that an option
        needs, the dates are in the wrong order, or the target is not what it must be.
    LakeError
        The view cannot be read, or the file not written.
    """
    _check_place(database, target)
    with opened(database, f"cannot write {view} to {target}") as connection:
        columns = columns_of(connection, view)
        names = [column.name for column in columns]
        conditions = _conditions(connection, view, names, market, start, end, at)
        where = " and ".join(conditions) or "true"
        rows = f"select * from {known_view(connection, view)} where {where} order by all"
        about = _about(connection, view)
        content = _content(connection, view, about, columns, at)
        return _write(connection, rows, content, format, target, partition_by)


def export_query(
    database: Path,
    query: Path,
    format: str,
    target: Path,
    *,
    partition_by: Sequence[str] = (),
) -> int:
    """Write what the SELECT in a file gives; its own ORDER BY is kept, else rows are sorted.

    Raises
    ------
    BadInput
        The file cannot be read or holds something else than one SELECT that runs, or the target
        is not what it must be.
    LakeError
        The file cannot be written.
    """
    try:
        text = query.read_text(encoding="utf-8").strip().rstrip(";")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{query}: cannot be read ({error}): give a file of SQL") from None
    _check_place(database, target)
    with opened(database, f"cannot write {query.name} to {target}") as connection:
        ordered = _is_ordered(connection, query, text)
        # What is equal by the query's own order comes as one thread finds it.
        connection.execute("set threads = 1")
        rows = text if ordered else f"select * from ({text}\n) order by all"
        try:
            described = connection.sql(f"describe ({text}\n)").fetchall()
        except duckdb.Error as error:
            if lost := beneath(error):
                raise lost from None
            raise BadInput(f"{query}: {str(error).splitlines()[0]}") from None
        columns = [Column(name, kind, None, None) for name, kind, *_ in described]
        content = _content(connection, query.stem, {"query": text}, columns, None)
        return _write(connection, rows, content, format, target, partition_by)


@contextmanager
def opened(database: Path, failure: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """The database for reading; its errors in one line."""
    connection = open_database(database)
    try:
        connection.execute(f"set memory_limit = '{_MEMORY}'")
        yield connection
    except duckdb.Error as error:
        reason = beneath(error) or refusal(error) or str(error).splitlines()[0]
        raise LakeError(f"{failure}: {reason}") from error
    finally:
        connection.close()


def _conditions(
    connection: duckdb.DuckDBPyConnection,
    view: str,
    columns: Sequence[str],
    market: str | None,
    start: date | None,
    end: date | None,
    at: datetime | None,
) -> list[str]:
    """What the options ask for, as SQL."""
    if start is not None and end is not None and start > end:
        raise BadInput(f"the first date, {start}, comes after the last, {end}")
    conditions: list[str] = []
    if market is not None:
        conditions.append(f"market = {engine.quoted(known_market(connection, market))}")
    if start is not None or end is not None:
        day = next((name for name in _DATES if name in columns), None)
        if day is None:
            raise BadInput(f"{view} has no date: leave --start and --end out")
        conditions += [f"{day}::date >= date '{start}'"] if start else []
        conditions += [f"{day}::date <= date '{end}'"] if end else []
    if at is not None:
        conditions += [f"{name} <= timestamptz '{at}'" for name in _KNOWN]
    needed = ("market",) * (market is not None) + _KNOWN * (at is not None)
    for name in needed:
        if name not in columns:
            raise BadInput(f"{view} has no column {name}: leave the option on it out")
    return conditions


def _is_ordered(connection: duckdb.DuckDBPyConnection, query: Path, text: str) -> bool:
    """Whether the one SELECT that ``text`` must be has an order of its own."""
    try:
        statements = connection.extract_statements(text)
    except duckdb.Error as error:
        raise BadInput(f"{query}: {str(error).splitlines()[0]}") from None
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise BadInput(f"{query}: must hold one SELECT, and nothing else")
    parsed = connection.execute("select json_serialize_sql(?::varchar)", [text]).fetchall()
    tree = json.loads(parsed[0][0])
    modifiers = [m for s in tree.get("statements", ()) for m in s["node"]["modifiers"]]
    return any(modifier["type"] == "ORDER_MODIFIER" for modifier in modifiers)


def _content(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    about: Mapping[str, str],
    columns: Sequence[Column],
    at: datetime | None,
) -> Content:
    ((origin, built_at),) = connection.sql("select origin, built_at from meta.builds").fetchall()
    return Content(name, about, origin, at or built_at.astimezone(UTC), columns)


def _about(connection: duckdb.DuckDBPyConnection, view: str) -> dict[str, str]:
    """What the project knows of a view: nothing but its name where it is not of ``features``."""
    schema, name = view.split(".")
    text = "select view_name, status, sentence, sha256 from meta.sql_versions"
    known = {row[0]: row[1:] for row in connection.sql(text).fetchall()}
    numbers = [int(v.rsplit("_v", 1)[1]) for v in known if v.rsplit("_v", 1)[0] == name]
    versioned = f"{name}_v{max(numbers)}" if numbers else name
    if schema != "features" or versioned not in known:
        return {"view": view}
    status, sentence, sha256 = known[versioned]
    return {
        "view": f"{schema}.{versioned}",
        "status": status,
        "view_sha256": sha256,
        "description": sentence,
    }


def _write(
    connection: duckdb.DuckDBPyConnection,
    rows: str,
    content: Content,
    file_format: str,
    target: Path,
    partition_by: Sequence[str],
) -> int:
    """Write the rows whole or not at all, then say what they are in the descriptor."""
    _check_target(target, file_format, partition_by, [column.name for column in content.columns])
    written: list[int] = []

    def write(part: Path) -> None:
        if file_format in _COPIED:
            options = _COPIED[file_format] + _metadata(content, file_format)
            if partition_by:
                connection.execute("set threads = 1")  # one file a folder
                options += f", partition_by ({', '.join(map(engine.identifier, partition_by))})"
            else:
                options += ", use_tmp_file false"  # the part is one
            # DuckDB takes a leading ~ for the home folder.
            copy = f"copy ({rows}\n) to {engine.quoted(part.absolute())} ({options})"
            written.append(connection.execute(copy).fetchall()[0][0])
        else:
            writer = _write_arrow if file_format == "arrow" else _write_sheet
            written.append(writer(connection, rows, content, part))

    (_folder_whole if partition_by else replace_whole)(target, write)
    datapackage.describe(content, target, file_format, written[0])
    return written[0]


def _check_place(database: Path, target: Path) -> None:
    """Refuse a target that cannot be named, or that the lake needs for itself."""
    try:
        str(target).encode()
    except UnicodeEncodeError:
        raise BadInput(f"{target}: is no path in UTF-8; name another one") from None
    lake, place = Lake(database.parent.resolve()), Path(os.path.realpath(target))
    inside = place.is_relative_to(lake.root) and not place.is_relative_to(lake.root / "exports")
    if inside and lake.marker.exists():
        raise BadInput(f"{target}: would stand among the lake's own files; name one under exports")


def _check_target(
    target: Path, file_format: str, partition_by: Sequence[str], columns: Sequence[str]
) -> None:
    if target.name == datapackage.NAME:
        raise BadInput(f"{target}: is where the export is described; name another file")
    if not partition_by:
        if os.path.exists(target) and not target.is_file():
            raise BadInput(f"{target}: is no file; name a new one, or one to replace")
        return
    if file_format not in _COPIED:
        raise BadInput(f"--partition-by goes with {' and '.join(_COPIED)}, not {file_format}")
    for name in partition_by:
        if name not in columns:
            near = difflib.get_close_matches(name, columns, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(columns[:5])}, …"
            raise BadInput(f"no column {name!r} to partition by: {hint}")
    if os.path.exists(target):
        raise BadInput(f"{target}: is there already; a partitioned export needs a new folder")


def _metadata(content: Content, file_format: str) -> str:
    """What a Parquet file says of itself; a CSV file has no place for it."""
    if file_format != "parquet":
        return ""
    described = json.dumps(content.describe(), ensure_ascii=False)
    about = {"origin": content.origin, "view": content.name, "hydra": described}
    return f", kv_metadata {{{', '.join(f'{k}: {engine.quoted(v)}' for k, v in about.items())}}}"


def _write_arrow(
    connection: duckdb.DuckDBPyConnection, rows: str, content: Content, part: Path
) -> int:
    """An Arrow IPC file; what the descriptor says of a column is the field's metadata."""
    import pyarrow as pa

    reader = connection.sql(rows).to_arrow_reader(_BATCH)
    fields = [
        field.with_metadata({k: v for k, v in column.field().items() if k != "name"})
        for field, column in zip(reader.schema, content.columns, strict=True)
    ]
    schema = pa.schema(fields, {"hydra": json.dumps(content.describe(), ensure_ascii=False)})
    count = 0
    with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in reader:
            # Taking every row clears what lies unseen under its NULLs, which differs between runs.
            whole = batch.cast(schema).take(pa.array(range(batch.num_rows)))
            writer.write_batch(whole)
            count += batch.num_rows
    return count


def _write_sheet(
    connection: duckdb.DuckDBPyConnection, rows: str, content: Content, part: Path
) -> int:
    """An Excel sheet; instants are ISO 8601 texts, since Excel's times have no zone."""
    try:
        import xlsxwriter
    except ImportError:
        raise BadInput("Excel files need an extra: pip install 'hydra-lake[excel]'") from None

    texts = ", ".join(_cell(column) for column in content.columns)
    reader = connection.sql(f"select {texts} from ({rows}\n)").to_arrow_reader(_BATCH)
    options = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    count = 0
    with xlsxwriter.Workbook(str(part), options) as book:
        book.set_properties({"created": content.known_at.replace(tzinfo=None)})
        sheet = book.add_worksheet("SAMPLE DATA" if content.origin == "sample" else "data")
        sheet.freeze_panes(1, 0)
        sheet.write_row(0, 0, [column.name for column in content.columns])
        for batch in reader:
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                count += 1
                if count > _SHEET_ROWS:
                    raise BadInput(f"a sheet holds {_SHEET_ROWS:,} rows: export fewer, or as csv")
                sheet.write_row(count, 0, row)
    return count


def _cell(column: Column) -> str:
    """A column's SQL as a cell can hold it: numbers and flags as they are, all else as text."""
    name = engine.identifier(column.name)
    if column.type == "TIMESTAMP WITH TIME ZONE":
        return f"strftime({name}, '%Y-%m-%dT%H:%M:%S.%fZ') as {name}"
    if column.type == "DOUBLE":  # a cell holds no NaN and no infinity
        return f"case when isfinite({name}) then {name} end as {name}"
    return name if column.type in {"BIGINT", "INTEGER", "BOOLEAN"} else f"{name}::varchar as {name}"


def _folder_whole(target: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a folder beside ``target`` and give it that name in one step."""
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)
        try:
            write(part)
            part.mkdir(exist_ok=True)  # an export without rows makes no folder
            for path in sorted(part.rglob("*")):
                if path.is_file():
                    with open(path, "rb") as file:
                        os.fsync(file.fileno())
                else:
                    sync_folder(path)
            os.rename(part, target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        sync_folder(target.parent)
    except OSError as error:
        raise LakeError(f"cannot write {target}: {error.strerror or error}") from error


def columns_of(connection: duckdb.DuckDBPyConnection, view: str) -> list[Column]:
    """The columns of a view, with what the database says of them."""
    described = connection.sql(f"describe {known_view(connection, view)}").fetchall()
    schema, name = view.split(".")
    text = (
        "select column_name, comment from duckdb_columns() where schema_name = ? and table_name = ?"
    )
    comments = dict(connection.execute(text, [schema, name]).fetchall())
    units = dict(connection.sql("select feature_name, unit from meta.features").fetchall())
    kinds = {name: "VARCHAR" if kind.startswith("ENUM") else kind for name, kind, *_ in described}
    return [Column(name, kind, comments.get(name), units.get(name)) for name, kind in kinds.items()]


def known_view(connection: duckdb.DuckDBPyConnection, view: str) -> str:
    """A view's name as SQL; a mistyped one is answered with the nearest.

    Raises
    ------
    BadInput
        The database has no such table or view.
    """
    text = "select table_schema || '.' || table_name from information_schema.tables order by all"
    known = [name for (name,) in connection.sql(text).fetchall()]
    if view not in known:
        near = difflib.get_close_matches(view, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "features.daily_v1 is one"
        raise BadInput(f"unknown view {view!r}: {hint}")
    return ".".join(map(engine.identifier, view.split(".")))


def known_market(connection: duckdb.DuckDBPyConnection, market: str) -> str:
    """A market that the lake has data of; a mistyped one is answered with the nearest.

    Raises
    ------
    BadInput
        The lake has no such market.
    """
    known = [code for (code,) in connection.sql("select market from meta.markets").fetchall()]
    if market not in known:
        near = difflib.get_close_matches(market.upper(), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise BadInput(
            f"the lake has no market {market!r}: {hint}it has {', '.join(sorted(known))}"
        )
    return market
