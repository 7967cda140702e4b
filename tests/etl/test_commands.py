"""docs/commands.md has every command and option; shells complete them; help is quick."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from etl import commands, sqlfiles
from etl.cli import main
from etl.market import markets

COMMITTED = Path(__file__).parents[2] / "docs" / "commands.md"
ALL = dict(commands.commands())


def test_the_committed_page_is_the_generated_one() -> None:
    committed = COMMITTED.read_text(encoding="utf-8")
    assert committed == commands.markdown(), "run: python -m etl.commands > docs/commands.md"


@pytest.mark.parametrize("path", ALL)
def test_every_command_and_option_is_in_the_docs(path: str) -> None:
    section = COMMITTED.read_text(encoding="utf-8").split(f"\n## {path}\n")[1].split("\n## ")[0]
    assert "```console\nhydra " in section
    for parameter in ALL[path].params:
        if isinstance(parameter, click.Option):
            (row,) = [x for x in section.splitlines() if x.startswith(f"| `{parameter.opts[0]}")]
            assert str(parameter.help) in row.replace("\\|", "|")


@pytest.mark.parametrize(
    "name", ["catalog", "check", "doctor", "markets", "sql", "status", "verify"]
)
def test_what_prints_data_prints_it_for_programs_too(name: str) -> None:
    (option,) = [p for p in main.commands[name].params if p.name == "file_format"]
    assert isinstance(option.type, click.Choice)
    assert list(option.type.choices) == ["table", "json", "csv"]


def complete(words: str, folder: Path | None = None) -> list[str]:
    """What bash is offered for the last of ``words``."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    count = len(words.split(" ")) - 1
    asked = {"_HYDRA_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(count)}
    code = "from etl.cli import main; main(prog_name='hydra')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**kept, **asked},
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.split(",", 1)[1] for line in done.stdout.splitlines()]


def test_a_shell_completes_commands_options_markets_and_views(tmp_path: Path) -> None:
    assert complete("hydra sta") == ["status"]
    assert complete("hydra export --part") == ["--partition-by"]
    assert complete("hydra daily --market ") == list(markets())
    assert complete("hydra daily --market z") == ["ZC", "ZO", "ZS", "ZW"]
    views = [file.name for file in sqlfiles.features()]
    assert complete("hydra catalog ") == sorted(views)
    assert complete("hydra export features.surf") == sorted(
        f"features.{name}" for name in views if name.startswith("surf")
    )
    (tmp_path / "mine.toml").touch()
    (tmp_path / "KE.toml").touch()
    assert complete(f"hydra --markets {tmp_path} land chain x.csv --market K") == ["KE"]


def test_completion_heeds_no_settings_file(tmp_path: Path) -> None:
    (tmp_path / "hydra.toml").write_text("nonsense")
    assert complete("hydra sta", tmp_path) == ["status"]


@pytest.mark.parametrize("words", [["--help"], ["daily", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys\nfrom etl.cli import main\n"
        f"main({words!r}, standalone_mode=False)\n"
        "print(sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(done.stderr.split("'")[1::2])
    heavy = {"polars", "duckdb", "numpy", "pandas", "scipy", "pyarrow", "databento", "requests"}
    assert not imported & heavy
    assert ("loguru" in imported) == (len(words) > 1)  # a command's log has begun by then
    assert "click" in imported


def test_a_mistyped_command_is_answered_with_the_nearest() -> None:
    result = CliRunner().invoke(main, ["dayly"])
    assert result.exit_code == 2
    assert "No such command 'dayly'. Did you mean 'daily'?" in result.stderr
