"""Environment, file and flags, in that order of strength; a wrong file is one line."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from etl import settings
from etl.cli import main
from etl.commands import commands
from etl.sources import sample  # noqa: F401 - before the folder changes


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the user's own to run in, with nothing set."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("HYDRA_", "DATABENTO_"))]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What ``hydra daily`` is called with, in place of a run."""
    called: dict[str, Any] = {}

    def take(**values: Any) -> None:
        called.update(values, lake=click.get_current_context().obj["lake"].root)

    monkeypatch.setattr(main.commands["daily"], "callback", take)
    return called


def hydra(*words: object) -> Result:
    return CliRunner().invoke(main, [*map(str, words)])


def refused(text: str, *words: str) -> str:
    Path("hydra.toml").write_text(text, encoding="utf-8")
    result = hydra(*(words or ("markets",)))
    assert result.exit_code == 3, result.output
    (line,) = result.stderr.splitlines()
    assert result.stdout == ""
    return line


def test_flags_win_over_the_file_and_the_file_over_the_environment(
    monkeypatch: pytest.MonkeyPatch, seen: dict[str, Any]
) -> None:
    hydra("daily")
    assert seen["lake"] == Path("lake")
    monkeypatch.setenv("HYDRA_LAKE", "of-environment")
    hydra("daily")
    assert seen["lake"] == Path("of-environment")
    Path("hydra.toml").write_text('lake = "of-file"\n')
    hydra("daily")
    assert seen["lake"] == Path("of-file")
    hydra("--lake", "of-flag", "daily")
    assert seen["lake"] == Path("of-flag")


def test_a_command_has_its_section(seen: dict[str, Any]) -> None:
    Path("hydra.toml").write_text(
        '[daily]\nmarket = ["ZO", "HE"]\ndays = 7\nmax-cost = 2\nsource = "sample"\n'
    )
    assert hydra("daily").exit_code == 0
    assert seen["codes"] == ("ZO", "HE")
    assert (seen["days"], seen["max_cost"], seen["source"]) == (7, 2.0, "sample")
    assert hydra("daily", "--days", 3, "--market", "HE").exit_code == 0
    assert (seen["codes"], seen["days"]) == (("HE",), 3)


def test_another_file_is_named_by_flag_or_environment_and_its_paths_are_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch, seen: dict[str, Any]
) -> None:
    other = folder / "etc" / "other.toml"
    other.parent.mkdir()
    other.write_text('lake = "data"\n')
    Path("hydra.toml").write_text('lake = "elsewhere"\n')
    hydra("--settings", other, "daily")
    assert seen["lake"] == other.parent / "data"
    seen.clear()
    monkeypatch.setenv("HYDRA_SETTINGS", str(other))
    hydra("daily")
    assert seen["lake"] == other.parent / "data"
    other.write_text('lake = "/absolute"\n')
    hydra("daily")
    assert seen["lake"] == Path("/absolute")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lake = ", "hydra.toml: cannot be read (Invalid value (at"),
        ('laek = "x"', "hydra.toml: laek is no setting: did you mean lake?"),
        ("[dayly]\ndays = 3", "hydra.toml: dayly is no setting: did you mean daily?"),
        ("[daily]\ndys = 3", "hydra.toml: daily.dys is no setting: did you mean days?"),
        ("[daily]\nqqqq = 3", "hydra.toml: daily.qqqq is no setting: hydra --help lists"),
        ("[daily]\ndays = 0", "hydra.toml: daily.days: 0 is not in the range"),
        ('[daily]\ndays = "many"', "hydra.toml: daily.days: 'many' is not a valid integer"),
        ("[daily]\ndays = true", "hydra.toml: daily.days must be a value"),
        ("[daily]\ndays = [1]", "hydra.toml: daily.days must be one value"),
        ('[daily]\nmarket = "HE"', "hydra.toml: daily.market must be a list"),
        ('[daily]\nsource = "bloomberg"', "hydra.toml: daily.source: 'bloomberg' is not one of"),
        ('[check]\nstrict = "yes"', "hydra.toml: check.strict must be true or false"),
        ("[land.chain]\nexpiry = 3", "hydra.toml: land.chain.expiry: "),
        ("daily = 3", "hydra.toml: daily is no setting"),
    ],
)
def test_what_is_no_setting_is_one_line_that_names_file_and_key(text: str, said: str) -> None:
    assert refused(text).startswith(f"hydra: {said}")


@pytest.mark.parametrize("place", ["", "[daily]\n"])
@pytest.mark.parametrize("key", ["databento_api_key", "DATABENTO_API_KEY", "api-key", "password"])
def test_a_secret_in_the_file_is_refused_and_not_repeated(place: str, key: str) -> None:
    line = refused(f'{place}{key} = "db-abcdefgh"')
    assert "is a secret, which this file must not hold" in line
    assert "DATABENTO_API_KEY in the environment" in line
    assert "abcdefgh" not in line


def test_a_file_that_is_not_there_is_said_where_it_was_named(folder: Path) -> None:
    result = hydra("--settings", folder / "none.toml", "markets")
    assert result.exit_code == 3
    assert "none.toml: cannot be read (No such file or directory): hydra init" in result.stderr


def test_init_writes_every_setting_commented_out_and_never_over_a_file(
    folder: Path, seen: dict[str, Any]
) -> None:
    result = hydra("init")
    assert result.exit_code == 0
    path = folder / "hydra.toml"
    assert path.read_text() == settings.TEMPLATE
    assert [*tomllib.loads(settings.TEMPLATE)] == ["daily", "check"]
    assert hydra("daily").exit_code == 0
    path.write_text("# mine\n")
    again = hydra("init")
    assert again.exit_code == 3
    assert "hydra.toml exists and stays as it is" in again.stderr
    assert path.read_text() == "# mine\n"
    assert hydra("init", "second.toml").exit_code == 0
    assert "cannot be written" in hydra("init", "no/such/folder.toml").stderr


def test_every_setting_that_init_writes_is_one(seen: dict[str, Any]) -> None:
    lines = settings.TEMPLATE.splitlines()
    bare = [line.removeprefix("# ") if " = " in line else line for line in lines]
    Path("hydra.toml").write_text("\n".join(bare))
    Path("markets").mkdir()
    result = hydra("daily")
    assert result.exit_code == 0, result.output
    assert (seen["codes"], seen["source"], seen["days"]) == (("HE", "ZO"), "databento", 5)


def test_every_option_with_a_variable_is_weaker_than_the_file() -> None:
    for path, command in commands():
        for option in command.params:
            if option.envvar and not option.is_eager:
                assert isinstance(option, settings.Setting), f"{path} {option.name}"
