"""Options that several commands have, each described once, and the parsers of their values."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, overload

import typer
from typer.core import TyperCommand, TyperOption

_INPUTS: set[str] = set()  # the names of all options that `input_option` has made


class Command(TyperCommand):
    """A command that refuses several values for an input that takes one, and names settings like its options.

    Of other options the last value counts, as usual.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: D102
        *_, given = self.make_parser(ctx).parse_args(list(args))
        for option, count in Counter(option for option in given if isinstance(option, TyperOption)).items():
            if count > 1 and option.opts[0] in _INPUTS and not option.multiple:
                ctx.fail(f"{option.opts[0]} is given {count} times, and takes one value")
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed

    def invoke(self, ctx: Any) -> Any:  # noqa: D102
        from geosynth.errors import GeosynthError

        try:
            return super().invoke(ctx)
        except GeosynthError as error:
            if error.setting is not None:
                error.setting = self._as_written(error.setting, ctx)
            raise

    def _as_written(self, setting: str, ctx: Any) -> str:
        """The option for a setting, as in "--max-time" for "max_time".

        The name itself if there is none, or where the user may have written it so: after `--set`, or in a YAML file.
        """
        if setting in {text.partition("=")[0] for text in ctx.params.get("other") or ()}:
            return setting
        for option in self.params:
            if option.name == setting and option.param_type_name == "option":
                is_typed = getattr(ctx.get_parameter_source(setting), "name", "") == "COMMANDLINE"
                return option.opts[0] if is_typed or not ctx.params.get("config") else setting
        return setting


def parse_pixels(value: int | str) -> int:
    """A side in pixels, as in 1024 or 1024px; typer also passes the default."""
    try:
        return int(str(value).removesuffix("px"))
    except ValueError as error:
        raise typer.BadParameter(f"{value!r}: whole pixels are needed, as in 1024 or 1024px") from error


def is_there(name: str) -> bool:
    """Whether a name may stand for something: an existing file or folder, or a URL, glob or braces."""
    return any(mark in name for mark in ":{") or name.startswith("/vsi") or glob.has_magic(name) or Path(name).exists()


def refusing_absent(*names: str) -> Callable[[typer.CallbackParam, Any], Any]:
    """A callback for inputs: refuses missing ones before libraries are loaded, which takes seconds.

    Args:
        names: values that are not files, such as the name of an embedded model.
    """

    def check(parameter: typer.CallbackParam, value: Any) -> Any:
        from geosynth.errors import GeosynthError

        for name in value if isinstance(value, list) else [value]:
            if name not in (None, *names) and not is_there(str(name)):
                option = f"{parameter.opts[0]} " if parameter.param_type_name == "option" else ""
                known = f"; known names: {', '.join(names)}" if names else ""
                raise GeosynthError(f"{option}{name}: no such file or folder{known}")
        return value

    return check


def input_option(name: str, text: str, *names: str) -> Any:
    """An option for inputs; `names` as for `refusing_absent`."""
    _INPUTS.add(name)
    return typer.Option(name, help=text, callback=refusing_absent(*names))


def output_option(text: str) -> Any:
    """`--out` of a command with `Overwrite`: an existing output is refused before libraries are loaded."""

    def check(context: typer.Context, out: Path) -> Path:
        import geosynth

        geosynth.check_place(out, overwrite=context.params["overwrite"])
        return out

    return typer.Option("--out", help=text, callback=check)


def folder_option(text: str, file: str, name: str = "--out") -> Any:
    """An option for a folder that may exist; refused before libraries are loaded if `file` cannot be written there."""

    def check(folder: Path | None) -> Path | None:
        import geosynth

        if folder is not None:
            geosynth.check_place(folder / file, overwrite=True)
        return folder

    return typer.Option(name, help=text, callback=check)


@overload
def parse_names(text: str) -> list[str]: ...
@overload
def parse_names(text: None) -> None: ...
def parse_names(text: str | None) -> list[str] | None:
    """The names between commas, as in red,green,blue; None if the option is not given."""
    return None if text is None else [part.strip() for part in text.split(",")]


def parse_shares(text: str | None) -> list[float] | None:
    """The shares of train, val and test, as in 0.7,0.1,0.2, or None; how many there are is checked later."""
    from geosynth.errors import SettingsError

    try:
        return None if text is None else [float(share) for share in text.split(",")]
    except ValueError as error:
        raise SettingsError(f"--shares {text}: three numbers are needed, as in 0.7,0.1,0.2") from error


def parse_factors(texts: list[str]) -> dict[str, float]:
    """Factors by class from CLASS=TIMES, each class once."""
    from geosynth.errors import SettingsError

    found: dict[str, float] = {}
    for text in texts:
        before, _, factor = text.rpartition("=")
        name = before.strip()
        if name in found:
            raise SettingsError(f"--emphasise {text}: {name} is given twice; give it once")
        try:
            found[name] = float(factor)
        except ValueError:
            name = ""
        if not name:
            raise SettingsError(f"--emphasise {text}: a class and a number are needed, as in roads=3")
    return found


def parse_width(text: str | None) -> float | str | None:
    """Metres, or the name of a column."""
    try:
        return text if text is None else float(text)
    except ValueError:
        return text


def parse_setting(text: str) -> tuple[str, Any]:
    """Name and value from NAME=VALUE, the value read as YAML: null, true, numbers and lists."""
    import yaml

    from geosynth.errors import SettingsError

    name, equals, value = text.partition("=")
    if not name or not equals:
        raise SettingsError(f"--set {text}: write NAME=VALUE")
    try:
        return name, yaml.safe_load(value) if value else value
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SettingsError(f"--set {text}: its value is not YAML") from error


def given(other: list[str] | None = None, /, **options: Any) -> dict[str, Any]:
    """The settings that the user gave: options other than None, overridden by `--set`, each only once."""
    from geosynth.errors import SettingsError

    settings = list(map(parse_setting, other or []))
    if twice := [name for name, count in Counter(name for name, _ in settings).items() if count > 1]:
        raise SettingsError(f"--set {twice[0]}: is given twice; give it once")
    return {name: value for name, value in options.items() if value is not None} | dict(settings)


def refuse_idle(why: str, idle: object, /, **options: Any) -> None:
    """Refuse options that would have no effect.

    Args:
        why: as in "without --emphasise".
        idle: whether they would have none.
        options: their values; None if not given.
    """
    from geosynth.errors import SettingsError

    if idle and (wrong := given(**options)):
        raise SettingsError(f"--{', --'.join(wrong).replace('_', '-')}: no effect {why}")


def set_option(example: str) -> Any:
    """`--set NAME=VALUE`, for settings without an option of their own."""
    return typer.Option("--set", help=f"Any other setting, as in {example}; repeatable.")


def pixels_option(name: str, text: str) -> Any:
    """An option for a side in pixels, as in 1024 or 1024px."""
    return typer.Option(name, parser=parse_pixels, metavar="PIXELS", help=text)


StoreOrFiles = Annotated[
    str,
    input_option("--data", "A store made by `geosynth ingest`, or a YAML file that describes data in place."),
]
ModelOrEmbedded = Annotated[
    str | None,
    input_option(
        "--model",
        "A model file, its training folder, or its address (https://, hf://ORG/REPO/FILE); without it, the embedded"
        " model for the Chesapeake legend.",
        "chesapeake-small",
    ),
]
Bands = Annotated[
    str | None,
    typer.Option(
        "--bands",
        help="Names of the bands, or of those to take, as in red,green,blue,nir; of files with other names or none"
        " by description or number: red=B04,nir=B08, red=4,nir=8.",
    ),
]
Buffer = Annotated[str, typer.Option("--buffer", help="Distance between folds: metres, or pixels, as in 64px.")]
PaintSeed = Annotated[int, typer.Option("--seed", help="Random seed of styles and texture.")]
StyleLength = Annotated[
    float | None, typer.Option("--style-length", help="Metres over which the style changes; 0 keeps a single style.")
]
Look = Annotated[
    str | None, typer.Option("--look", help="A look of the model (`geosynth info` lists them); without it, the first.")
]
PaintPrecision = Annotated[str, typer.Option("--precision", help="auto, bf16 or fp32.")]
Device = Annotated[str, typer.Option("--device", help="auto (a GPU if there is one), cpu, cuda, cuda:1, ...")]
Workers = Annotated[int | None, typer.Option("--workers", help="Number of processes on this machine.")]
Scheduler = Annotated[
    str | None,
    typer.Option("--scheduler", help="Address of a Dask cluster that sees the same files, as in tcp://host:8786."),
]
VectorLayer = Annotated[str | None, typer.Option("--layer", help="Layer of a vector file that has several.")]
LineWidth = Annotated[str | None, typer.Option("--width", help="Width of lines: metres, or a column that holds it.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing output.", is_eager=True)]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
