"""Progress bars, warnings and tables for people, on stderr or as the command's answer on stdout."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from geosynth.progress import Progress

_UNBOUNDED = 1000  # columns of a file or pipe, in which lines are searched, not read side by side

_quiet = False


def be_quiet(wanted: bool) -> None:
    """Suppress warnings and progress, if wanted; errors and answers are always shown."""
    global _quiet
    _quiet = wanted


def show_warnings() -> None:
    """Show warnings of geosynth as one line each on stderr; those of libraries are suppressed.

    Equal warnings are shown once. If many files have the same one, it is shown in full for the first, and in a line for
    the second.
    """
    files: dict[object, list[object]] = {}  # files that were named, by the warning

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message, said, file = record.getMessage(), record.msg, None
            if said.startswith("%s: ") and isinstance(record.args, tuple):
                file, *more = map(str, record.args)
                said = (said, *more)
            named = files.setdefault(said if file else message, [])
            if _quiet or file in named or len(named) == 2:
                return
            named.append(file)
            typer.echo(
                f"warning: {message if len(named) == 1 else f'{file}: the same, and so maybe of others'}", err=True
            )

    logging.getLogger("geosynth").handlers = [Handler()]
    logging.getLogger().addHandler(logging.NullHandler())
    warnings.simplefilter("ignore")


@contextlib.contextmanager
def progress_bar(description: str) -> Iterator[Progress]:
    """A progress bar with an estimate on stderr, if that is a terminal; yields a function of (done, total).

    If $GEOSYNTH_PROGRESS is "lines", for programs that show progress themselves, lines such as
    "progress: generate 12/40" are written to stderr instead, at most one per percent.
    """
    if os.environ.get("GEOSYNTH_PROGRESS") == "lines" and not _quiet:
        shown = -1

        def tell(done: int, total: int) -> None:
            nonlocal shown
            if (percent := 100 * done // max(1, total)) != shown:
                shown = percent
                typer.echo(f"progress: {description} {done}/{total}", err=True)

        yield tell
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console, disable=_quiet or not console.is_terminal) as bars:
        task = bars.add_task(description, total=None)

        def update(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)

        yield update


def note(line: str) -> None:
    """A line of progress on stderr, whether that is a terminal or not."""
    if not _quiet:
        typer.echo(line, err=True)


@contextlib.contextmanager
def naming_what_is_kept(kept: Path) -> Iterator[None]:
    """Print one line on stderr if the work within is stopped (Ctrl-C, SIGTERM) and can be continued.

    For commands that do not say so themselves, unlike `ingest`, `generate` and `twin`.

    Args:
        kept: file or folder with the finished work.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if kept.exists():
            typer.echo(f"warning: {kept}: keeps what is done; the same command goes on from there", err=True)
        raise


def print_json(values: Any) -> None:
    """One JSON document on stdout."""
    typer.echo(json.dumps(values, indent=2, allow_nan=False))


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print columns on stdout, with every text in full: on narrow terminals in several lines, elsewhere in one."""
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(*(Column(name, overflow="fold") for name in head), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _UNBOUNDED
    console.print(table)


def print_report(report: Any, path: Path | None, as_json: bool) -> None:
    """Print a report of `segment` or `evaluate` on stdout: its table and `path`, or the text of its report.json.

    Args:
        report: with `summary` and `to_json`.
        path: the file to go on with, that the command has written; None for none.
        as_json: print JSON alone.
    """
    if as_json:
        typer.echo(report.to_json().encode(), nl=False)  # JSON is UTF-8, whatever the terminal's encoding
    else:
        print_table(("measure", "value", "meaning"), report.summary())
        if path is not None:
            typer.echo(str(path))


def print_mapping(values: Mapping[str, Any], indent: int = 0) -> None:
    """Print nested plain values as indented lines on stdout; in a list, flat mappings take one line each.

    In such a line, values that are not known are left out. Single numbers are rounded to four digits, lists are not,
    since they may be a transform; --json shows all in full.
    """
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            typer.echo(f"{' ' * indent}{name}:")
            print_mapping(value, indent + 2)
        elif isinstance(value, Sequence) and value and isinstance(value[0], Mapping):
            typer.echo(f"{' ' * indent}{name}: ({len(value)})")
            for entry in value[:20]:
                if any(isinstance(one, Mapping) for one in entry.values()):
                    typer.echo(f"{' ' * indent}  -")
                    print_mapping(entry, indent + 4)
                else:
                    known = {key: one for key, one in entry.items() if one is not None} or entry
                    shown = ", ".join(f"{key} {_rounded(one)}" for key, one in known.items())
                    typer.echo(f"{' ' * indent}  - {shown}")
            if len(value) > 20:
                typer.echo(f"{' ' * indent}  ... {len(value) - 20} more (--json shows all)")
        else:
            is_list = isinstance(value, Sequence) and not isinstance(value, str)
            typer.echo(f"{' ' * indent}{name}: {', '.join(map(str, value)) if is_list else _rounded(value)}")


def _rounded(value: Any) -> Any:
    """A fraction with four digits, and four decimals of larger numbers; anything else unchanged."""
    if not isinstance(value, float):
        return value
    return round(value, 4) if abs(value) >= 1 else float(f"{value:.4g}")
