"""The `geosynth` command: finding it, and running it with progress, messages and cancel."""

import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

_PROGRESS = re.compile(r"progress: (.*) (\d+)/(\d+)$")
_WINDOWS = sys.platform == "win32"
_PATIENCE = 20  # seconds from the request to stop until the process is ended

# Variables that QGIS sets for its own libraries, which another Python would then load.
_OF_QGIS = (
    *("PYTHONHOME", "PYTHONPATH", "PYTHONEXECUTABLE", "GDAL_DATA", "GDAL_DRIVER_PATH", "GDAL_PYTHON_DRIVER_PATH"),
    *("PROJ_LIB", "PROJ_DATA", "QT_PLUGIN_PATH"),
)


class CommandError(Exception):
    """The command cannot be found, or failed; one line."""


def find_command(setting):
    """The command's path.

    Args:
        setting: by the user: the command, or the folder of an environment that contains it; empty to search the PATH.

    Raises:
        CommandError: if there is none.
    """
    setting = (setting or "").strip().strip('"')
    if not setting:
        found = shutil.which("geosynth")
        if found:
            return found
        raise CommandError(
            "the geosynth command is not on the PATH; enter its path under Settings > Options > Processing > Providers"
            " > geosynth (the README of geosynth says how to install it)"
        )
    place = Path(setting).expanduser()
    for candidate in (place, place / "bin" / "geosynth", place / "Scripts" / "geosynth.exe"):
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return str(candidate)
    raise CommandError(f"{setting}: has no geosynth command (Settings > Options > Processing > Providers > geosynth)")


def run_command(command, arguments, tell, is_cancelled):
    """Run the command to its end, or until it is cancelled; then finished work is kept, as after Ctrl-C.

    Args:
        command: its path.
        arguments: texts.
        tell: called with (kind, value): ("progress", percent), ("warning", line) or ("info", line).
        is_cancelled: called several times a second.

    Returns:
        what it printed on stdout, or None if it was cancelled.

    Raises:
        CommandError: if it failed, with the command's own line.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _OF_QGIS}
    environment |= {"GEOSYNTH_PROGRESS": "lines", "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    try:
        process = subprocess.Popen(  # noqa: S603 - a list, without a shell
            [command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env=environment,
            start_new_session=not _WINDOWS,  # a separate process group, so that its workers are stopped, too
            creationflags=subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW if _WINDOWS else 0,
        )
    except OSError as error:
        raise CommandError(f"{command}: cannot be run: {error.strerror}") from error
    lines = queue.Queue()
    readers = [
        threading.Thread(target=_read, args=(stream, name, lines), daemon=True)
        for name, stream in (("out", process.stdout), ("err", process.stderr))
    ]
    for reader in readers:
        reader.start()
    printed, failure, open_streams, cancelled = [], "", len(readers), False
    try:
        while open_streams:
            if not cancelled and is_cancelled():
                cancelled = True
                _stop(process, readers)
            try:
                name, line = lines.get(timeout=0.2)
            except queue.Empty:
                continue
            if line is None:
                open_streams -= 1
            elif name == "out":
                printed.append(line)
            elif found := _PROGRESS.match(line):
                tell("progress", 100 * int(found[2]) / max(1, int(found[3])))
            elif line.startswith("error: "):
                failure = line.removeprefix("error: ")
            elif line:
                failure = failure or line
                tell("warning" if line.startswith("warning: ") else "info", line.removeprefix("warning: "))
    except BaseException:
        _stop(process, readers)
        raise
    code = process.wait()
    if cancelled:
        return None
    if code:
        raise CommandError(failure or f"{command} ended with exit code {code}")
    return "\n".join(printed)


def _read(stream, name, lines):
    with stream:
        for line in stream:
            lines.put((name, line.rstrip()))
    lines.put((name, None))


def _stop(process, readers):
    """Ask the command and its workers to stop; kill them if they do not."""
    _signal(process, signal.CTRL_BREAK_EVENT if _WINDOWS else signal.SIGTERM)

    def end():
        until = time.monotonic() + _PATIENCE
        for reader in readers:  # they end when the command and all its workers have
            reader.join(max(0, until - time.monotonic()))
        if any(reader.is_alive() for reader in readers):
            _signal(process, signal.SIGTERM if _WINDOWS else signal.SIGKILL)

    threading.Thread(target=end, daemon=True).start()


def _signal(process, number):
    try:
        if _WINDOWS:
            process.send_signal(number)
        else:
            os.killpg(process.pid, number)
    except OSError:  # it has ended
        pass
