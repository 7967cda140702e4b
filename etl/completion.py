"""What a shell may complete: market codes and views, from the names of their files alone."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["markets", "views"]

_PACKAGE = Path(__file__).parent


def markets(ctx: click.Context, _: click.Parameter, begun: str) -> list[str]:
    """Codes of the bundled markets and of those in the folder of ``--markets``."""
    own = ctx.find_root().params.get("markets_path")
    folders = [_PACKAGE / "markets", *([Path(own)] if own else [])]
    codes = {path.stem for folder in folders for path in folder.glob("*.toml")}
    return sorted(code for code in codes if code.startswith(begun.upper()))


def views(ctx: click.Context, _: click.Parameter, begun: str) -> list[str]:
    """Views of ``features``, with the schema where the command wants it or it has been begun."""
    from etl import sqlfiles

    prefix = "" if ctx.info_name == "catalog" and not begun.startswith("f") else "features."
    names = [prefix + path.stem for path in sqlfiles.root().glob("features/*.sql")]
    return sorted(name for name in names if name.startswith(begun))
