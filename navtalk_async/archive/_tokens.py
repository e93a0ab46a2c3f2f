"""How far a reader of the change feed has come, as an opaque text."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import suppress
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from navtalk_async.errors import StoreMismatch

CHECK_BYTES = 4
"""So many bytes of a hash show that a token was cut or mistyped."""


class Token(NamedTuple):
    """A place in the change feed, which is in the order of (change, project, session_id)."""

    archive: str
    epoch: str
    """That of *commit*; empty where the archive has none so early."""
    scope: str | None
    """The project that was read alone; None for all of them."""
    base: int
    """Everything up to this commit was handed on. A session that changes while the feed is read moves behind
    what is being read, so this grows only when the end of the feed is reached."""
    change: int
    project: str = ""
    session_id: str = ""
    """The last session that was handed on; empty where everything before *change* was."""

    @classmethod
    def after(cls, archive: str, epoch: str, scope: str | None, commit: int) -> "Token":
        """The place behind everything up to *commit*."""
        return cls(archive, epoch, scope, commit, commit + 1)

    @property
    def place(self) -> tuple[int, str, str]:
        return self.change, self.project, self.session_id

    @property
    def commit(self) -> int:
        """The latest commit of which anything was handed on."""
        return self.change if self.project else self.change - 1

    def unnamed(self) -> "Token":
        """The same place without the session, which was forgotten: those of its commit come once more."""
        return self._replace(session_id="")

    def text(self) -> str:
        data = msgspec.json.encode(self)
        return _written(_check(data) + data)


def parse_token(name: str, text: object) -> Token:
    """The token that *text* is; a ValueError, which calls the argument *name*, if it is none."""
    with suppress(ValueError):
        whole = urlsafe_b64decode(f"{text}{'=' * (-len(text) % 4)}") if isinstance(text, str) else b""
        # The decoder skips what is no base64, and bits that are left over.
        if _written(whole) == text and whole[:CHECK_BYTES] == _check(whole[CHECK_BYTES:]):
            return msgspec.json.decode(whole[CHECK_BYTES:], type=Token)
    raise ValueError(f"{name}={text!r} is no token of a change feed: pass one that a batch or change had.")


def refuse_others(token: Token, archive: str, epoch: str, latest: int, where: object) -> None:
    """Refuse a *token* that is not of the *archive* of that id, of which *latest* is the last commit, and in
    which the token's commit is of that *epoch*.
    """
    if token.archive != archive:
        raise StoreMismatch(
            f"The token is of another archive than {where}. To read it from its beginning, pass no token."
        )
    # The oldest epochs are forgotten.
    if token.commit > latest or epoch not in ("", token.epoch):
        raise StoreMismatch(
            f"The token is of a commit that {where} does not have, as after an older copy was restored. Read "
            "it from its beginning: pass no token."
        )


def _written(whole: bytes) -> str:
    return urlsafe_b64encode(whole).rstrip(b"=").decode()


def _check(data: bytes) -> bytes:
    return blake2b(data, digest_size=CHECK_BYTES).digest()
