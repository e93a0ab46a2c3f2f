"""Everything in which a key could come to light."""

import asyncio
import pickle
import traceback

from rich.traceback import Traceback

from navtalk_async.errors import NavTalkError

KEYS = ["CANARY-1234567890", "CANARY-+/=%&<'\"\\?#", "%43ANARY-CANARY%20"]


class Hidden:
    """A call with a key among its arguments, which no frame of its own names."""

    __slots__ = ("_call",)

    def __init__(self, call):
        self._call = call

    def __repr__(self):
        return "<a call>"

    def __call__(self):
        return self._call()


class Evidence:
    """Everything somebody may get to see: of errors, events, the client, and the log."""

    def __init__(self):
        self.seen = []

    def __call__(self, event):
        self.see(event)

    def see(self, thing):
        self.seen += [str(thing), repr(thing)]

    def see_error(self, error):
        self.see(error)
        self.see(error.args)
        self.see(vars(error))
        if isinstance(error, NavTalkError):
            self.seen += [pickle.dumps(error, protocol).decode("latin-1") for protocol in range(6)]
        report = traceback.TracebackException.from_exception(error, capture_locals=True)
        self.seen += report.format()
        # It cuts long texts itself, whatever their own `repr` is.
        self.see(Traceback.extract(type(error), error, error.__traceback__, show_locals=True))
        for other in (error.__cause__, error.__context__):
            if other is not None:
                self.see_error(other)

    def shows_the_key(self):
        return [text for text in self.seen if "CANARY" in text]


async def failing(call, evidence):
    """What *call* ends with; the frames of its error begin here, where nobody knows the key."""
    # Every step of the loop counts as slow now, and is logged.
    asyncio.get_running_loop().slow_callback_duration = 0.0
    try:
        await call
    except (NavTalkError, ValueError, TimeoutError, asyncio.CancelledError) as error:
        evidence.see_error(error)
        return error
    else:
        return None
    finally:
        asyncio.get_running_loop().slow_callback_duration = 1.0


def refused(call, evidence):
    """What the `Hidden` *call* raises; the frames of its error begin here, where nobody knows the key."""
    try:
        call()
    except (ValueError, TypeError) as error:
        evidence.see_error(error)
        return error
    return None
