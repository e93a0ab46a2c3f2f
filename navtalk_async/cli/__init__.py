"""The whole job, from a shell."""

import sys
from importlib.util import find_spec

__all__ = ["main"]


def main() -> None:
    """The command `navtalk`."""
    missing = [name for name in ("click", "rich") if find_spec(name) is None]
    if missing:
        sys.stderr.write(
            f"navtalk: The command needs {' and '.join(missing)}, which the library alone does not: "
            'pip install "navtalk-async[cli]"\n'
        )
        sys.exit(2)
    try:
        # A bare install ends above, so nothing that needs click may be imported before.
        from navtalk_async.cli.app import run_app  # noqa: PLC0415

        run_app(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
