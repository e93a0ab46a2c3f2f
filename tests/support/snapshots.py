"""What lies in a folder or a store, so that a test can say that nothing of it was touched."""

from pathlib import Path

from postgres_box import run_sql


def files_in(folder):
    """The bytes and the time of change of every file in *folder*, by its name."""
    return {
        str(each.relative_to(folder)): (each.read_bytes(), each.stat().st_mtime_ns)
        for each in folder.rglob("*")
        if each.is_file()
    }


async def stored_at(address):
    """All that the store at *address* consists of: files, or rows with the transactions that wrote them."""
    if isinstance(address, Path):
        return files_in(address.parent)
    schema = address.rpartition("search_path=")[2]
    tables = await run_sql(address, f"SELECT tablename FROM pg_tables WHERE schemaname = '{schema}'")
    return {
        table: sorted(await run_sql(address, f"SELECT xmin::text, * FROM {table}"), key=repr)
        for (table,) in tables
    }
