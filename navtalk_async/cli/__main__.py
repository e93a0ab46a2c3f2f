"""`python -m navtalk_async.cli` is `navtalk`."""

from navtalk_async.cli import main

if __name__ == "__main__":
    main()
