"""What the file of each project is called, in a folder that may hold several projects."""

from collections.abc import Mapping
from hashlib import sha256
from urllib.parse import quote

__all__ = ["FIRST", "candidates", "name_of"]

FIRST = "transcripts.jsonl"
"""The file of the first project."""

LONGEST = 120
"""Bytes of a project's name in that of its file; file systems take 255 for all of it."""


def candidates(project: str) -> list[str]:
    """The names that the file of *project* may have, the best first. None of them leaves the folder."""
    # A tilde is never in a quoted name: what is cut or marked is nobody else's.
    quoted = quote(project, safe="", errors="surrogatepass").replace("~", "%7E")
    marked = f"{quoted[:LONGEST]}~{sha256(quoted.encode()).hexdigest()[:12]}"
    plain = [quoted] if len(quoted) <= LONGEST else []
    return [FIRST, *(f"transcripts.{each}.jsonl" for each in (*plain, marked))]


def name_of(project: str, owners: Mapping[str, str]) -> str:
    """The name of the file of *project*, where the files named in *owners* are those of these projects.

    Some file systems take names that differ in their case alone for one.
    """
    choice = candidates(project)
    owned = {name.lower(): owner for name, owner in owners.items()}
    own = [name for name in choice if owners.get(name) == project]
    free = [name for name in choice if name.lower() not in owned]
    return (own or free or choice[-1:])[0]
