"""`navtalk completion`: a script for a shell, made of the commands and options that there are.

The scripts are static: at a TAB, no Python starts.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import click

from navtalk_async.cli._options import as_folder, as_formats, as_kinds, command
from navtalk_async.cli._output import Reporter, put
from navtalk_async.cli.app import COMMANDS, navtalk, run
from navtalk_async.formats import FORMATS
from navtalk_async.privacy import KINDS

Kind = Literal["flag", "text", "words", "list", "file", "folder"]

FILES = {"FILE", "PATH", "STORE", "DEST"}
LISTS: dict[object, tuple[str, ...]] = {as_formats: tuple(FORMATS), as_kinds: (*KINDS, "all")}


class Value(NamedTuple):
    """What comes behind an option, or stands for an argument."""

    kind: Kind
    words: tuple[str, ...] = ()
    """What it may be; of a `list`, with commas between."""


class Option(NamedTuple):
    flags: tuple[str, ...]
    text: str
    value: Value
    is_repeatable: bool = False


class Command(NamedTuple):
    name: str
    text: str
    options: list[Option]
    arguments: list[Value]


HELP = Option(("-h", "--help"), "Show this message and exit.", Value("flag"))


@command("shell")
def completion_command(*, shell: str) -> int:
    """Print a script that completes commands and options in a shell.

    Examples:
      navtalk completion bash > ~/.local/share/bash-completion/completions/navtalk
      navtalk completion zsh > ~/.zsh/completions/_navtalk   # a folder of $fpath
      navtalk completion fish > ~/.config/fish/completions/navtalk.fish
    """
    return run(_print(SCRIPTS[shell](list(commands()))), Reporter())


async def _print(script: str) -> int:
    await put(script)
    return 0


def commands() -> Iterator[Command]:
    """All commands, as they are declared."""
    context = click.Context(navtalk)
    for name, (_, text) in COMMANDS.items():
        found = navtalk.get_command(context, name)
        params = [] if found is None else found.params
        options = [
            Option(tuple(each.opts), each.help or "", value_of(each), each.multiple or each.count)
            for each in params
            if isinstance(each, click.Option)
        ]
        arguments = [value_of(each) for each in params if isinstance(each, click.Argument)]
        yield Command(name, text, [*options, HELP], arguments)


def value_of(param: click.Parameter) -> Value:
    """What may be given for *param*."""
    if isinstance(param, click.Option) and (param.is_flag or param.count):
        return Value("flag")
    if isinstance(param.type, click.Choice):
        return Value("words", tuple(map(str, param.type.choices)))
    parse = getattr(param.type, "func", None)
    if parse in LISTS:
        return Value("list", LISTS[parse])
    if parse is as_folder:
        return Value("folder")
    named = (param.metavar or str(param.name).upper()).split("|")
    if FILES.intersection(named):
        return Value("file")
    words = tuple(each for each in named if each.islower())
    return Value("words", words) if words else Value("text")


BASH = """\
# Completion of navtalk for bash: source it, or put it into a folder of completions.
_navtalk() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} kind=text words= done= line
  COMPREPLY=()
  if (( COMP_CWORD == 1 )); then
    kind=words words='{names} --help --version'
  else
    # --option=value is three words for bash.
    if [[ $word == = ]]; then word=
    elif [[ $before == = ]]; then before=${{COMP_WORDS[COMP_CWORD-2]}}; fi
    case ${{COMP_WORDS[1]}}:$before in
{values}
      *)
        case ${{COMP_WORDS[1]}}:$word in
{options}
{arguments}
        esac ;;
    esac
  fi
  case $kind in
    words) ;;
    list) [[ $word == *,* ]] && done=${{word%,*}}, word=${{word##*,}} ;;
    file | folder)
      compopt -o filenames 2>/dev/null
      while IFS= read -r line; do COMPREPLY+=("$line"); done < <(
        if [[ $kind == file ]]; then compgen -f -- "$word"; else compgen -d -- "$word"; fi)
      return ;;
    *) return ;;
  esac
  while IFS= read -r line; do COMPREPLY+=("$done$line"); done < <(compgen -W "$words" -- "$word")
}}
complete -F _navtalk navtalk
"""


def bash(found: Sequence[Command]) -> str:
    patterns: dict[Value, list[str]] = {}
    for each in found:
        for option in each.options:
            if option.value.kind != "flag":
                patterns.setdefault(option.value, []).extend(f"{each.name}:{flag}" for flag in option.flags)

    def case(pattern: str, value: Value, indent: str) -> str:
        words = f" words='{' '.join(value.words)}'" if value.words else ""
        return f"{indent}{pattern}) kind={value.kind}{words} ;;"

    return BASH.format(
        names=" ".join(each.name for each in found),
        values="\n".join(case("|".join(names), value, " " * 6) for value, names in patterns.items()),
        options="\n".join(
            case(f"{each.name}:-*", Value("words", tuple(_flags(each))), " " * 10) for each in found
        ),
        arguments="\n".join(
            case(f"{each.name}:*", each.arguments[0], " " * 10) for each in found if each.arguments
        ),
    )


def _flags(found: Command) -> Iterator[str]:
    for option in found.options:
        yield from option.flags


ZSH = """\
#compdef navtalk
# Completion of navtalk for zsh: put it as _navtalk into a folder of $fpath.
_navtalk() {{
  local -a names=(
{names}
  )
  if (( CURRENT == 2 )); then
    _describe -t commands command names
    return
  fi
  local name=$words[2]
  shift words
  (( CURRENT-- ))
  case $name in
{commands}
  esac
}}
if [[ $funcstack[1] == _navtalk ]]; then _navtalk "$@"; else compdef _navtalk navtalk; fi
"""


def zsh(found: Sequence[Command]) -> str:
    def spec(option: Option) -> str:
        escaped = re.sub(r"([][:\\])", r"\\\1", option.text)
        text = f"[{escaped}]{_zsh_value(option.value)}"
        once = "*" if option.is_repeatable else f"({' '.join(option.flags)})"
        joint = "=" if option.value.kind != "flag" else ""
        return " ".join(shlex.quote(f"{once}{flag}{joint}{text}") for flag in option.flags)

    def lines(each: Command) -> str:
        arguments = [shlex.quote(f"{n}{_zsh_value(one)}") for n, one in enumerate(each.arguments, 1)]
        specs = " \\\n        ".join([*map(spec, each.options), *arguments])
        return f"    {each.name})\n      _arguments \\\n        {specs} ;;"

    names = "\n".join(f"    {shlex.quote(f'{each.name}:{each.text}')}" for each in found)
    return ZSH.format(names=names, commands="\n".join(map(lines, found)))


def _zsh_value(value: Value) -> str:
    words = " ".join(value.words)
    action = {
        "text": " ",
        "words": f"({words})",
        "list": f"_values -s , value {words}",
        "file": "_files",
        "folder": "_files -/",
    }
    return f":value:{action[value.kind]}" if value.kind != "flag" else ""


def fish(found: Sequence[Command]) -> str:
    names: dict[Option, list[str]] = {}
    for each in found:
        for option in each.options:
            names.setdefault(option, []).append(each.name)
    lines = ["# Completion of navtalk for fish.", "complete -c navtalk -f"]
    for each in found:
        shown = f"-a {each.name} -d {_fish_quoted(each.text)}"
        lines.append(f"complete -c navtalk -n __fish_use_subcommand {shown}")
    for option, users in names.items():
        flags = " ".join(f"-l {each[2:]}" if each[:2] == "--" else f"-s {each[1:]}" for each in option.flags)
        shown = f"{flags}{_fish_value(option.value)} -d {_fish_quoted(option.text)}"
        lines.append(f"complete -c navtalk -n {_fish_seen(users)} {shown}")
    for each in found:
        if each.arguments and each.arguments[0].kind not in ("text", "flag"):
            shown = _fish_value(each.arguments[0]).replace(" -r", "")
            lines.append(f"complete -c navtalk -n {_fish_seen([each.name])}{shown}")
    return "\n".join([*lines, ""])


def _fish_seen(names: Sequence[str]) -> str:
    return _fish_quoted(f"__fish_seen_subcommand_from {' '.join(names)}")


def _fish_value(value: Value) -> str:
    words = " ".join(value.words)
    return {
        "flag": "",
        "text": " -x",
        "words": f" -x -a {_fish_quoted(words)}",
        "list": f" -x -a {_fish_quoted(f'(__fish_append , {words})')}",
        "file": " -r -F",
        "folder": f" -x -a {_fish_quoted('(__fish_complete_directories)')}",
    }[value.kind]


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SCRIPTS = {"bash": bash, "zsh": zsh, "fish": fish}
