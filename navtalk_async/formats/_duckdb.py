"""Parquet and DuckDB: the tables `sessions` and `messages`, written by DuckDB.

DuckDB writes both, and needs 70 MB where PyArrow needs 170 and writes no DuckDB file. It is handed the rows
as JSON, its fastest way in that needs no other library; they are collected in a file of DuckDB's, since one
Parquet file a month must be written as a whole.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any, Self, TypeVar

import msgspec
from anyio import to_thread
from msgspec.structs import replace

from navtalk_async.concurrency import shielded
from navtalk_async.formats._format import Format, FormatOptions, Target, Write
from navtalk_async.formats._tables import NUMBER, TABLES, TEXT, Batch

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

T = TypeVar("T")

TYPES = {TEXT: "VARCHAR", NUMBER: "BIGINT"}
TIMES = "TIMESTAMPTZ"

BESIDE = (".wal", ".rows")
"""What DuckDB and we make beside its file; a log that a killed run left would be read into the next file."""

MEMORY = "200MB"
LONGEST_LINE = 1 << 20
"""Bytes that DuckDB makes room for, unless one is longer."""

ROW_GROUP = 50_000

ROWS_A_LINE = 100
"""A row may have a megabyte, and DuckDB needs memory for the longest line."""

BYTES_AT_ONCE = 8 << 20
"""An insertion of few rows costs several times as much a row."""

PARTS = {"month": "%Y-%m", "day": "%Y-%m-%d"}

PLACE = "COALESCE(strftime(timezone('UTC', s.start_time), '{form}'), 'none')"


class _Collected:
    """A file of DuckDB's at *path*. Rows are inserted in a thread of their own, while the next are read."""

    def __init__(self, path: Path, *, is_result: bool) -> None:
        self.rows = dict.fromkeys(TABLES, 0)
        self._path, self._rows_file = path, path.with_name(f"{path.name}.rows")
        self._is_result = is_result
        self._waiting: dict[str, list[bytes]] = {table: [] for table in TABLES}
        self._encode = msgspec.json.Encoder().encode
        self._worker = ThreadPoolExecutor(1)
        self._inserting: Future[None] | None = None
        self._db: DuckDBPyConnection | None = None

    async def __aenter__(self) -> Self:
        await self._run(self._open)
        return self

    async def __aexit__(self, *_: object) -> None:
        await shielded(self._run(self._close))
        await shielded(to_thread.run_sync(self._worker.shutdown))

    async def add(self, batch: Batch) -> None:
        await to_thread.run_sync(self._add, batch)

    async def finish(self) -> None:
        await self._run(self._finish)

    async def query(self, statement: str) -> list[Any]:
        return await self._run(self._query, statement)

    async def is_in(self, path: Path) -> bool:
        """Whether the file of DuckDB's at *path* holds the same rows."""
        import duckdb  # noqa: PLC0415 - an extra

        queries = [f"SELECT count(*), bit_xor(hash(rowid, t)) FROM {{}}{table} AS t" for table in TABLES]
        try:
            await self.query(f"ATTACH {_quoted(path)} AS earlier (READ_ONLY)")
            found = [[await self.query(each.format(of)) for each in queries] for of in ("", "earlier.")]
            await self.query("DETACH earlier")
        except duckdb.Error:
            return False
        return found[0] == found[1]

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        return await to_thread.run_sync(lambda: self._worker.submit(work, *arguments).result())

    def _open(self) -> None:
        import duckdb  # noqa: PLC0415 - an extra

        self._remove("", *BESIDE)
        self._db = duckdb.connect(
            str(self._path),
            config={
                "threads": 1,
                "memory_limit": MEMORY,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        )
        self._path.chmod(0o600)
        # Else each insertion is written to a log, too.
        self._query("BEGIN")
        for table, columns in TABLES.items():
            self._query(f"CREATE TABLE {table} ({', '.join(f'{n} {_type(k)}' for n, k in columns.items())})")

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
        self._remove(*BESIDE, *([] if self._is_result else [""]))

    def _remove(self, *suffixes: str) -> None:
        for each in suffixes:
            self._path.with_name(self._path.name + each).unlink(missing_ok=True)
        rmtree(self._path.with_name(f"{self._path.name}.tmp"), ignore_errors=True)

    def _add(self, batch: Batch) -> None:
        for table in TABLES:
            columns, count = batch.table(table), batch.rows(table)
            for begin in range(0, count, ROWS_A_LINE):
                some = {name: values[begin : begin + ROWS_A_LINE] for name, values in columns.items()}
                self._waiting[table].append(self._encode(some))
            self.rows[table] += count
            if sum(map(len, self._waiting[table])) >= BYTES_AT_ONCE:
                if self._inserting is not None:
                    self._inserting.result()
                lines, self._waiting[table] = self._waiting[table], []
                self._inserting = self._worker.submit(self._insert, table, lines)

    def _insert(self, table: str, lines: Sequence[bytes]) -> None:
        if lines:
            self._rows_file.touch(mode=0o600)
            self._rows_file.write_bytes(b"\n".join(lines))
            self._query(_insertion(table, self._rows_file, max(map(len, lines))))

    def _finish(self) -> None:
        if self._inserting is not None:
            self._inserting.result()
        for table in TABLES:
            self._insert(table, self._waiting[table])
        self._query("COMMIT")

    def _query(self, statement: str) -> list[Any]:
        return [] if self._db is None else self._db.execute(statement).fetchall()


def _type(kind: str) -> str:
    return TYPES.get(kind, TIMES)


def _insertion(table: str, path: Path, longest: int) -> str:
    """The statement that inserts the rows in *path*: some a line, as an object of columns."""
    columns = ", ".join(f"{name}: '{_type(kind)}[]'" for name, kind in TABLES[table].items())
    values = ", ".join(f"unnest({name})" for name in TABLES[table])
    return (
        f"INSERT INTO {table} SELECT {values} FROM read_json({_quoted(path)}, format='newline_delimited',"
        f" columns={{{columns}}}, maximum_object_size={max(LONGEST_LINE, 2 * longest)})"
    )


def _quoted(text: object) -> str:
    return "'" + str(text).replace("'", "''") + "'"


async def _copy(db: _Collected, query: str, target: Target, name: str, rows: int) -> None:
    """Write the rows of *query* to the Parquet file *name*."""
    method = target.options.compress or "zstd"
    compression = "uncompressed" if method == "none" else method
    async with target.made_file(name) as file:
        file.beside.touch(mode=0o600)
        await db.query(
            f"COPY ({query}) TO {_quoted(file.beside)} (FORMAT parquet, COMPRESSION {compression},"
            f" ROW_GROUP_SIZE {ROW_GROUP}, USE_TMP_FILE false)"
        )
    target.written.append(replace(file.written(), rows=rows))


def _database_names(options: FormatOptions) -> Sequence[tuple[str, str]]:  # noqa: ARG001 - as of all formats
    return [("transcripts", ".duckdb")]


def _parquet_names(options: FormatOptions) -> Sequence[tuple[str, str]]:
    suffix = "/" if options.partition else ".parquet"
    return [(table, suffix) for table in TABLES]


@asynccontextmanager
async def _open_parquet(target: Target) -> AsyncGenerator[Write, None]:
    names = [target.name(*each) for each in _parquet_names(target.options)]
    async with _Collected(target.folder / f"{names[0].strip('/')}.rows.partial", is_result=False) as db:
        yield db.add
        await db.finish()
        for table, name in zip(TABLES, names, strict=True):
            if target.options.partition is None:
                await _copy(db, f"SELECT * FROM {table}", target, name, db.rows[table])
            else:
                await _copy_parts(db, table, target, name, target.options.partition)


async def _copy_parts(db: _Collected, table: str, target: Target, name: str, part: str) -> None:
    """A file for each month or day in which sessions started, in a folder each, as Hive names them."""
    place = PLACE.format(form=PARTS[part])
    key = "t.id" if table == "sessions" else "t.session_id"
    of = f"FROM {table} AS t JOIN sessions AS s ON s.project = t.project AND s.id = {key}"
    ranges = f"SELECT {place} AS p, min(t.rowid), max(t.rowid), count(*) {of} GROUP BY p ORDER BY p"
    for value, first, last, rows in await db.query(ranges):
        within = f"t.rowid BETWEEN {first} AND {last}"
        query = f"SELECT t.* FROM {table} AS t WHERE {within}"
        if last - first + 1 != rows:
            # Sessions are in the order of their starts, but those of several projects are not.
            query = f"SELECT t.* {of} WHERE {within} AND {place} = {_quoted(value)} ORDER BY t.rowid"
        await _copy(db, query, target, f"{name}{part}={value}/{table}.parquet", rows)


@asynccontextmanager
async def _open_duckdb(target: Target) -> AsyncGenerator[Write, None]:
    name = target.name("transcripts", ".duckdb")
    async with target.made_file(name) as file, _Collected(file.beside, is_result=True) as db:
        yield db.add
        await db.finish()
        await db.query("CHECKPOINT")
        # DuckDB never writes the same bytes twice.
        is_there = await to_thread.run_sync(file.path.is_file)
        file.is_same = is_there and await db.is_in(file.path)
    target.written.append(replace(file.written(), rows=sum(db.rows.values())))


PARQUET = Format("parquet", _parquet_names, _open_parquet, ("zstd", "snappy", "gzip", "none"), needs="duckdb")
DUCKDB = Format("duckdb", _database_names, _open_duckdb, needs="duckdb")
