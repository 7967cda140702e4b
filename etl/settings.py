"""Settings: what the environment, a file and the flags say, each winning over the one before it.

The file, ``hydra.toml`` in the folder that ``hydra`` runs in or the one that ``--settings`` names,
has a key for each option of ``hydra`` and a section for each command's::

    lake = "/data/hydra"

    [daily]
    market = ["HE", "ZO"]

Keys are the options' own names, and a value is held to what the flag takes.  The file holds no
secret: keys of vendors come from the environment or the keyring.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from etl.errors import BadInput

__all__ = ["DEFAULT", "TEMPLATE", "Setting", "apply", "write"]

#: The file that is read where no other is named.
DEFAULT = Path("hydra.toml")

_SECRET = re.compile(r"key|secret|token|passw", re.IGNORECASE)

#: What ``hydra init`` writes: every setting that most lakes want, none of them set.
TEMPLATE = """\
# Settings of hydra. A flag wins over this file, and this file over the environment.
# Each key is an option without its dashes, each section a command: hydra COMMAND --help lists them.
# No key of a vendor belongs here: it comes from DATABENTO_API_KEY or the keyring.

# Where the data lives, a folder or s3://bucket/prefix; HYDRA_LAKE in the environment.
# lake = "lake"

# Folder with market files of your own, which win over the bundled ones; HYDRA_MARKETS.
# markets = "markets"

[daily]
# Markets of a run that names none.
# market = ["HE", "ZO"]

# Where data comes from, "sample" or "databento"; by default databento when there is a key.
# source = "databento"

# Sessions of history: 90 of the sample, 5 of Databento by default.
# days = 5

# USD that a download may cost before it is refused.
# max-cost = 5.0

[check]
# Exit 1 when there are warnings.
# strict = true
"""


class Setting(click.Option):
    """An option that the environment sets too, where the settings file does not."""

    def value_from_envvar(self, ctx: click.Context) -> Any:
        """The environment's value, unless the file has one."""
        in_file = self.name is not None and ctx.lookup_default(self.name, call=False) is not None
        return None if in_file else super().value_from_envvar(ctx)


def apply(ctx: click.Context, path: Path | None) -> None:
    """Make what the settings file says the defaults of ``ctx`` and of its commands.

    Parameters
    ----------
    path : the file; ``None`` is ``DEFAULT``, if there is one

    Raises
    ------
    BadInput
        The file cannot be read, or a key or value of it is none: the line names file and key.
    """
    path = path or (DEFAULT if DEFAULT.exists() else None)
    if path is None:
        return
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise BadInput(f"{path}: cannot be read ({reason}): hydra init writes one") from None
    ctx.default_map = _section(ctx, ctx.command, table, path, "")


def write(path: Path) -> None:
    """Write a settings file with a comment for each setting.

    Raises
    ------
    BadInput
        There is a file already, or it cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(TEMPLATE)
    except FileExistsError:
        raise BadInput(f"{path} exists and stays as it is: edit it, or name another") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror})") from None


def _section(
    ctx: click.Context, command: click.Command, table: Mapping[str, Any], path: Path, where: str
) -> dict[str, Any]:
    """A table of the file as click's defaults of a command."""
    options = dict(_options(command))
    commands = command.commands if isinstance(command, click.Group) else {}
    found: dict[str, Any] = {}
    for key, value in table.items():
        name, place = key.replace("_", "-"), f"{path}: {where}{key}"
        if name in commands and isinstance(value, dict):
            found[name] = _section(ctx, commands[name], value, path, f"{where}{key}.")
        elif name in options:
            option = options[name]
            found[str(option.name)] = _value(ctx, option, value, path, place)
        elif _SECRET.search(key):
            raise BadInput(
                f"{place} is a secret, which this file must not hold: "
                "take it out and set DATABENTO_API_KEY in the environment"
            )
        else:
            near = difflib.get_close_matches(name, [*options, *commands], n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else "hydra --help lists the settings"
            raise BadInput(f"{place} is no setting: {hint}")
    return found


def _options(command: click.Command) -> Iterator[tuple[str, click.Option]]:
    """The options that a file may set, by the name that follows their dashes."""
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.is_eager:
            yield max(parameter.opts, key=len).removeprefix("--"), parameter


def _value(ctx: click.Context, option: click.Option, value: Any, path: Path, place: str) -> Any:
    """A value of the file, held to what the option takes; paths are seen from the file's folder."""
    if isinstance(value, bool) != option.is_flag or isinstance(value, dict):
        raise BadInput(f"{place} must be {'true or false' if option.is_flag else 'a value'}")
    if isinstance(value, list) != option.multiple:
        raise BadInput(f"{place} must be {'a list' if option.multiple else 'one value'}")
    if option.is_flag:
        return value
    given = [str(item) for item in value] if option.multiple else str(value)
    if isinstance(option.type, click.Path) and "://" not in str(value):
        given = str(path.parent / str(value))
    try:
        option.type_cast_value(ctx, given)
    except click.BadParameter as error:
        raise BadInput(f"{place}: {error.message}") from None
    return given
