"""The command line in Markdown, from the commands themselves.

``docs/commands.md`` is it, kept equal by a test::

    python -m etl.commands > docs/commands.md
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from etl.cli import main

__all__ = ["commands", "markdown"]

_ABOUT = """\
# Commands

What `hydra` takes: made by `python -m etl.commands` from the commands themselves.
`hydra COMMAND --help` says the same. The [README](../README.md#exit-codes) lists the exit codes.

A flag wins over the settings file, and the file over the environment, which sets the options that
name a variable. `hydra init` writes the file, `hydra.toml`, with a comment for each setting: a key
is an option without its dashes, a section a command.

`eval "$(_HYDRA_COMPLETE=bash_source hydra)"` lets bash complete commands, options, markets and
views; with `zsh_source` zsh, and `_HYDRA_COMPLETE=fish_source hydra | source` fish.

Each run is logged in the lake's `logs/hydra.jsonl`, a JSON object a line with the run's id.
Progress is drawn on a terminal and told in lines elsewhere; `-q` leaves it out, and `NO_COLOR` the
colours.
"""


def commands(group: click.Group = main, path: str = "hydra") -> Iterator[tuple[str, click.Command]]:
    """Every command with the words that call it, groups before what is in them."""
    yield path, group
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def markdown() -> str:
    """All commands, with the help, example and options of each."""
    return "\n".join([_ABOUT, *(_section(path, command) for path, command in commands())])


def _section(path: str, command: click.Command) -> str:
    context = click.Context(command, info_name=path)
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    about, _, example = inspect.cleandoc(command.help or "").partition("\b\nExample:\n")
    calls = inspect.cleandoc(example)
    parts = [f"## {path}\n", f"`{usage}`\n", about.strip() + "\n", f"```console\n{calls}\n```\n"]
    options = [option for option in command.params if isinstance(option, click.Option)]
    rows = [(f"`{', '.join(o.opts)}`", _takes(o, context), _meaning(o)) for o in options]
    if rows:
        table = [("option", "takes", "meaning"), ("---", "---", "---"), *rows]
        parts.append("\n".join(f"| {' | '.join(row)} |" for row in table) + "\n")
    return "\n".join(parts)


def _takes(option: click.Option, context: click.Context) -> str:
    if option.is_flag:
        return ""
    return "`" + option.make_metavar(context).replace("|", "\\|") + "`"


def _meaning(option: click.Option) -> str:
    """The help with what the option takes where it is not given."""
    notes = []
    if option.show_default and option.default is not None:
        notes.append(f"Default: {option.default}.")
    if option.envvar is not None and str(option.envvar) not in (option.help or ""):
        notes.append(f"Environment: {option.envvar}.")
    return " ".join([option.help or "", *notes]).replace("|", "\\|")


if __name__ == "__main__":
    click.echo(markdown(), nl=False)
