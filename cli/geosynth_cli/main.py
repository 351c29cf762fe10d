"""The typer application and the one place where errors become lines and exit codes."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import psutil
import typer

from geosynth_cli.commands.data import ingest, rasterize, split, tiles
from geosynth_cli.commands.look import doctor, info, view
from geosynth_cli.commands.models import import_spade, looks, train
from geosynth_cli.commands.paint import generate, twin
from geosynth_cli.commands.worth import classify, evaluate, segment, study
from geosynth_cli.console import be_quiet, show_warnings
from geosynth_cli.options import Command

_typer = typer.Typer(
    name="geosynth",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Synthetic satellite and aerial imagery from land-cover labels.",
    epilog=(
        "Exit codes: 0 done, 1 refused or failed (one line on stderr), 2 wrong usage, 130 interrupted, 143 terminated."
        " `geosynth --install-completion` lets your shell complete commands and options."
    ),
)
for _command in (
    rasterize,
    ingest,
    split,
    tiles,
    train,
    generate,
    twin,
    segment,
    classify,
    evaluate,
    study,
    import_spade,
    info,
    view,
    doctor,
):
    _typer.command(cls=Command)(_command)
_typer.add_typer(looks, name="looks")


def _show_version(wanted: bool) -> None:
    if wanted:
        import geosynth

        typer.echo(geosynth.__version__)
        raise typer.Exit


@_typer.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show no progress and no warnings; may stand anywhere.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")] = False,
    remote: Annotated[
        bool, typer.Option("--remote", help="Allow local files that refer to URLs; may stand anywhere.")
    ] = False,
) -> None:
    show_warnings()  # `app` has removed the flags already, as they may be anywhere


_LEAST_MEMORY = 96 << 20  # bytes
_UNEXPECTED = "unexpected"
_OUT_OF_MEMORY = "out of memory; choose a smaller --max-memory, --block-size, --batch-size or --crop-size"


def app(arguments: list[str] | None = None) -> None:
    """Run the command line; ends the process.

    Exit codes: 0 done, 1 refused or failed (one line on stderr), 2 wrong usage, 130 interrupted, 143 terminated.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for characters that its encoding lacks, as on Windows
    # How long waiting threads of the networks spin before they sleep. With longer spinning, the library's default, each
    # of thousands of small steps waits for the system's scheduler if there is any other load (2 to 4 times slower);
    # sleeping at once costs a third on an idle machine. Read when torch is loaded.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    debug = "--debug" in arguments
    be_quiet("--quiet" in arguments or "-q" in arguments)
    if "--remote" in arguments:
        os.environ["GEOSYNTH_REMOTE"] = "1"  # so that started processes know it, too
    arguments = [argument for argument in arguments if argument not in ("--debug", "--remote", "--quiet", "-q")]
    before = [option for option, value in itertools.pairwise(["geosynth", *arguments]) if not value]
    before += [option[:-1] for option in arguments if re.fullmatch(r"--[a-z-]+=", option)]
    if before:  # an empty entry would be the current folder
        typer.echo(f"error: {before[0]}: followed by nothing, as by a shell variable that is not set", err=True)
        sys.exit(2)
    if debug:
        _typer(arguments)
        return

    def terminate(number: int, frame: object) -> None:
        """End as with Ctrl-C, so that temporary files are removed and finished work is kept."""
        sys.exit(128 + number)

    with _signals() as came:
        earlier = signal.signal(signal.SIGTERM, terminate)
        try:
            _check_memory()
            _typer(arguments)
        except Exception as error:
            line, stopped = " ".join(_line_of(error).split()), came() & {signal.SIGINT, signal.SIGTERM}
            if not (stopped and line.startswith(_UNEXPECTED)):  # not if a library turned the interrupt into an error
                typer.echo(f"error: {line}", err=True)
            sys.exit(128 + max(stopped) if stopped else 1)
        finally:
            signal.signal(signal.SIGTERM, earlier)


def _check_memory() -> None:
    """Refuse to start if libraries in C would end the process without a message.

    Raises:
        MemoryError: if limits of the process (ulimit) leave it less than 96 MiB.
    """
    process = psutil.Process()
    used = process.memory_info()
    for limit, taken in (("RLIMIT_AS", "vms"), ("RLIMIT_DATA", "data")):
        if hasattr(psutil, limit):  # not on every system
            most = process.rlimit(getattr(psutil, limit))[0]
            if most != psutil.RLIM_INFINITY and most - getattr(used, taken) < _LEAST_MEMORY:
                raise MemoryError


@contextlib.contextmanager
def _signals() -> Iterator[Callable[[], set[int]]]:
    """A context with a function that returns the signals that Python has received, whoever handles them."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    earlier = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def came() -> set[int]:
        with contextlib.suppress(BlockingIOError):
            return set(os.read(reader, 1 << 16))
        return set()

    try:
        yield came
    finally:
        signal.set_wakeup_fd(earlier)
        os.close(reader)
        os.close(writer)


def _line_of(error: Exception) -> str:
    from geosynth.errors import GeosynthError, is_out_of_memory, no_more_files

    is_of_option = isinstance(error, GeosynthError) and error.setting is not None  # a full GPU: another --device helps
    if is_out_of_memory(error) and not is_of_option:
        return _OUT_OF_MEMORY
    if shortage := no_more_files(error):
        error = shortage
    if isinstance(error, GeosynthError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:  # too many open files, a folder that vanished
        if _is_nowhere():
            return "the current folder is no longer there; change to one that is"
        return f"{error.filename or 'a file or folder'}: {error.strerror}; --debug shows where"
    what = " ".join(str(error).split())[:500]  # a defect of geosynth: also in one line
    return f"{_UNEXPECTED} {type(error).__name__}: {what}; run again with --debug for the traceback"


def _is_nowhere() -> bool:
    """Whether the current folder has been removed, even if there is a new one of its name."""
    try:
        Path.cwd()
    except OSError:
        return True
    return False
