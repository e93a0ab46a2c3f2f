"""A reader's copy of an archive, kept by key, as what the change feed hands on makes it."""

from collections import Counter


class Copy:
    """Sessions by (project, id), and messages by (project, session, id)."""

    def __init__(self):
        self.sessions, self.messages = {}, {}

    def put(self, change):
        """Store one *change* as a reader does: what came is put, what is gone is removed."""
        session = change.session
        self.sessions[session.project, session.id] = told(session)
        for row in (*change.new, *change.changed):
            self.messages[_key(row)] = row
        for row in change.gone:
            self.messages.pop(_key(row), None)

    def forget(self, project, change):
        """Remove the session of *change*, which was forgotten."""
        for kept in (self.sessions, self.messages):
            for key in [key for key in kept if key[0] == project and change.is_of(key[1])]:
                del kept[key]

    def of(self, session):
        """What it holds of a *session*'s messages, by their ids."""
        return {key[2]: row for key, row in self.messages.items() if key[:2] == session[:2]}


def told(session):
    """What a reader is told of a *session*: the hash is the archive's own, and none while it is refetched."""
    return session._replace(content_hash="")


def copy_of(transcripts):
    """The same of what the archive itself holds."""
    copy = Copy()
    for each in transcripts:
        copy.sessions[each.session.project, each.session.id] = told(each.session)
        copy.messages |= {_key(row): row for row in each.messages}
    return copy


def assert_same(copy, archive, *, without=()):
    """*copy* is the *archive*, but for the sessions *without*, by (project, id)."""
    left_out = set(without)
    for ours, theirs in ((copy.sessions, archive.sessions), (copy.messages, archive.messages)):
        wanted = {key: row for key, row in theirs.items() if key[:2] not in left_out}
        assert {key: row for key, row in ours.items() if key[:2] not in left_out} == wanted


def assert_exact(change, before, after):
    """*change* is what became of a session that a reader had as in *before*, and is as in *after* now."""
    key = change.session[:2]
    old, new = before.of(change.session), after.of(change.session)
    assert told(change.session) == after.sessions[key]
    was = before.sessions.get(key)
    is_back = was is not None and was.deleted_at is not None and change.session.deleted_at is None
    if change.session.deleted_at is not None:
        assert change.what == "deleted"
    else:
        assert change.what == ("new" if was is None or is_back else "changed")
    if not is_back:
        assert change.new == [row for name, row in new.items() if name not in old]
        assert change.changed == [row for name, row in new.items() if name in old and old[name] != row]
    assert {row.id: row for row in change.gone} == {n: row for n, row in old.items() if n not in new}
    assert was != told(change.session) or change.new or change.changed or change.gone


def assert_each_once(changes):
    """No session came twice."""
    assert max(Counter(each.session[:2] for each in changes).values(), default=0) <= 1


def _key(row):
    return row.project, row.session_id, row.id
