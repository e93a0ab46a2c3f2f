"""What reaches a terminal: nothing that plays with it, in JSON, in tables, in lines and in errors."""

import json
import os
import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from shell import navtalk, run_on_terminal

from navtalk_async.cli._layout import (
    MESSAGE_COLUMNS,
    SESSION_COLUMNS,
    Table,
    details_text,
    tab_separated,
    transcript_text,
)
from navtalk_async.cli._output import DOUBTFUL, Reporter, json_line, visible, visible_json
from navtalk_async.sandbox import Sandbox, World

HARMFUL = (
    "\x7f\x80\x85\x9b31m\u202a\u202e\u2066\u2069\u200e\u200f\u061c\u2028\u2029\u200b\u2060\ufeff\U000e0041"
)
EVIL = f"a{HARMFUL}z"
SGR = re.compile("\x1b\\[[0-9;]*m")
"""How rich colours its tables: the one sequence that is ours."""

FORBIDDEN = {"Cc", "Cf", "Zl", "Zp"}


def harm(shown):
    """The characters in *shown* that can do something to a terminal, by their code points."""
    text = SGR.sub("", shown).replace("\n", "").replace("\u200c", "").replace("\u200d", "")
    return [f"U+{ord(each):04X}" for each in text if unicodedata.category(each) in FORBIDDEN]


def evil_world():
    world = World(3, messages=2)
    first = world.sessions[0]["id"]
    world.change_session(first, videoUrl=EVIL, **{EVIL: {EVIL: EVIL}})
    world.add_message(first, EVIL, **{EVIL: EVIL})
    return world, first


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON)
@example({HARMFUL: [HARMFUL, "👩\u200d👩\u200d👧 सकते\u200c हैं 全角\u3000空白"]})
def test_json_for_a_terminal_is_the_same_value_and_does_nothing_to_it(value):
    shown = visible_json(json_line(value).decode())
    assert json.loads(shown) == value
    assert harm(shown) == []
    assert visible(shown.removesuffix("\n")) == shown.removesuffix("\n")


def test_no_character_that_is_escaped_in_text_is_left_out_in_json():
    characters = "".join(chr(each) for each in range(0x7F, 0x110000))
    left_out = DOUBTFUL.sub("", characters)
    assert visible(left_out) == left_out


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"])))
def test_json_that_can_be_seen_is_shown_as_it_is(text):
    line = json_line(text).decode()
    assert visible_json(line) == line


@given(st.text(st.characters()))
def test_text_with_halves_of_surrogate_pairs_is_json_all_the_same(text):
    whole = re.sub("[\ud800-\udfff]", "\ufffd", text)
    assert json.loads(json_line({"text": text})) == {"text": whole}


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "plain"])
@pytest.mark.parametrize("command", ["sessions", "session", "messages", "transcript"])
async def test_sessions_and_messages_shown_on_a_terminal_do_nothing_to_it(command, as_json):
    world, first = evil_world()
    arguments = [command, *([] if command == "sessions" else [first]), *(["--json"] if as_json else [])]
    async with Sandbox(world) as box:
        end, shown = await run_on_terminal(*arguments, box=box, env={"COLUMNS": "200"})
        piped = await navtalk(*arguments, box=box)
    assert (end.code, harm(shown)) == (0, [])
    assert "x9b" in shown or "u009b" in shown
    if as_json:
        assert [json.loads(line) for line in shown.splitlines()] == piped.rows
        assert "\u202e" in piped.out
    else:
        assert harm(piped.out.replace("\t", "")) == []


@pytest.mark.slow
@pytest.mark.parametrize("as_json", [True, False], ids=["json", "plain"])
async def test_names_of_archives_folders_and_projects_do_nothing_to_a_terminal(as_json, tmp_path):
    folder, options = tmp_path / EVIL, ["--json"] if as_json else []
    commands = [
        ("export", folder, "--project", EVIL, *options),
        ("sync", folder / "archive.db", "--project", EVIL, *options),
        ("status", folder, *options),
        ("verify", folder, *options),
        ("plan", "--store", folder, *options),
        ("doctor", "--store", folder / "archive.db", *options),
        ("status", folder / EVIL),
        ("session", EVIL, *options),
        ("sessions", f"--{EVIL}"),
    ]
    progress = ["--progress", "json"] if as_json else ["--progress", "plain"]
    async with Sandbox(World(3, messages=1)) as box:
        for command in commands:
            talks = [] if command[0] == "status" else progress
            end, shown = await run_on_terminal(*command, *talks, box=box, streams=("stdout", "stderr"))
            assert (command, harm(shown)) == (command, [])
            assert end.code in (0, 2)
            for line in shown.splitlines() if as_json and end.code == 0 else []:
                json.loads(line)


async def test_a_folder_whose_name_is_not_utf_8_is_written_in_json(tmp_path):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    async with Sandbox(World(3, messages=1)) as box:
        done = await navtalk("export", folder, "--json", "--progress", "json", box=box)
        stands = await navtalk("status", folder, "--json")
    assert (done.code, stands.code) == (0, 0)
    assert json.loads(done.out)["folder"] == f"{tmp_path}/\ufffd"
    assert json.loads(stands.out)["projects"][0]["counts"]["sessions"] == 3


ODD = st.none() | st.text() | st.sampled_from([EVIL, "[red]", "[/no]", ":smile:", "[link=http://x]y[/link]"])
SESSION = st.fixed_dictionaries(dict.fromkeys(SESSION_COLUMNS, ODD))
MESSAGE = st.fixed_dictionaries(
    dict.fromkeys(("id", "type", "role", "created_at", "content"), ODD) | {"position": st.integers(0)}
)


@given(st.lists(SESSION, max_size=3), st.lists(MESSAGE, max_size=3), st.text())
def test_tables_and_lines_show_no_character_that_does_something(sessions, messages, name):
    texts = [Table(SESSION_COLUMNS).text(sessions, header=True)]
    texts += [Table(MESSAGE_COLUMNS).text(messages, header=True)]
    texts += [transcript_text(each, messages) for each in sessions]
    texts += [details_text({name: name}), tab_separated(("id",), sessions, header=True)]
    assert [harm(each) for each in texts] == [[] for _ in texts]


def test_a_cell_of_a_table_is_text_and_no_markup():
    row = dict.fromkeys(SESSION_COLUMNS) | {"id": "[red]:smile:[/no]", "status": "x"}
    assert "[red]:smile:[/no]" in Table(SESSION_COLUMNS).text([row], header=False)


def test_a_traceback_does_nothing_to_a_terminal(capsys):
    Reporter().fail("Bug", "A bug.", "", 1, trace=f"Traceback:\n  RuntimeError: {EVIL}\n")
    shown = capsys.readouterr().err
    assert harm(shown) == []
    assert shown.startswith("Traceback:\n  RuntimeError: a\\x7f")
