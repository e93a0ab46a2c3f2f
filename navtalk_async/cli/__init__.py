"""The whole job, from a shell."""

import gc
import os
import sys
from importlib.util import find_spec

__all__ = ["main"]

OBJECTS_A_BATCH = 20_000
"""More than a batch of rows makes: they are in no cycles, and to look for some in each takes a tenth of an
export."""


def fill_closed_descriptors() -> None:
    """Open the null device on what our parent has closed of 0, 1 and 2, as cron may.

    The next file or socket would get that number; libuv ends the process when it finds one of its own there.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def main() -> None:
    """The command `navtalk`."""
    try:
        fill_closed_descriptors()
        gc.set_threshold(OBJECTS_A_BATCH)
        missing = [name for name in ("click", "rich") if find_spec(name) is None]
        if missing:
            sys.stderr.write(
                f"navtalk: The command needs {' and '.join(missing)}, which the library alone does not: "
                'pip install "navtalk-async[cli]"\n'
            )
            sys.exit(2)
        # A bare install ends above, so nothing that needs click may be imported before.
        from navtalk_async.cli.app import run_app  # noqa: PLC0415

        run_app(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
