"""What the exit code says."""

from enum import IntEnum

from navtalk_async.errors import (
    AccessDenied,
    BadRequest,
    NavTalkError,
    NotFound,
    Redirected,
    StoreBroken,
    StoreLocked,
    StoreMismatch,
    StoreUnreachable,
)

__all__ = ["Exit", "exit_code"]


class Exit(IntEnum):
    """The exit codes; whoever runs us from a script decides by them."""

    OK = 0
    BUG = 1
    USAGE = 2
    """The command, the key's project or the archive does not fit: the same again would fail again."""
    PARTIAL = 3
    """Done, but for some sessions that cannot be had."""
    KEY_REFUSED = 4
    TRY_LATER = 5
    UNVERIFIED = 6
    """What was verified is not as it should be."""
    LOCKED = 11
    INTERRUPTED = 130
    TERMINATED = 143


CODES: dict[type[BaseException], Exit] = {
    AccessDenied: Exit.KEY_REFUSED,
    BadRequest: Exit.USAGE,
    NotFound: Exit.USAGE,
    Redirected: Exit.USAGE,
    StoreBroken: Exit.USAGE,
    StoreMismatch: Exit.USAGE,
    StoreUnreachable: Exit.USAGE,
    StoreLocked: Exit.LOCKED,
    NavTalkError: Exit.TRY_LATER,
    # The reader of our output has had enough, as in `navtalk sessions | head`.
    BrokenPipeError: Exit.OK,
    KeyboardInterrupt: Exit.INTERRUPTED,
}


def exit_code(error: BaseException) -> Exit:
    """What to exit with after *error*: the code of the most special of its classes that has one."""
    if isinstance(error, BadRequest) and error.may_be_key:
        return Exit.KEY_REFUSED
    return next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), Exit.BUG)
