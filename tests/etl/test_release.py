"""A released file is frozen, a draft is free, and two versions live side by side."""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from etl import release as module
from etl import sqlfiles
from etl.cli import main
from etl.errors import BadInput, LakeError, Released
from etl.export import open_database
from etl.release import outdated, release, verify

NOW = datetime(2025, 3, 14, 12, tzinfo=UTC)


class Project:
    """A copy of the project's SQL and of ``mathlib``, to be changed by a test."""

    def __init__(self, sql: Path, mathlib: Path) -> None:
        self.sql, self.mathlib = sql, mathlib

    def feature(self, name: str) -> Path:
        return self.sql / "features" / f"{name}.sql"

    def edit(self, path: Path, old: str, new: str) -> None:
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        sqlfiles.features.cache_clear()

    def add_version(self, old: str, new: str) -> None:
        text = self.feature(old).read_text(encoding="utf-8")
        text = re.sub(
            "-- status: .*", "-- status: draft", text.replace(f"name: {old}", f"name: {new}")
        )
        self.feature(new).write_text(text, encoding="utf-8")
        sqlfiles.features.cache_clear()

    def record(self) -> dict[str, Any]:
        return tomllib.loads((self.sql / "releases.toml").read_text(encoding="utf-8"))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    sql, mathlib = tmp_path / "sql", tmp_path / "mathlib"
    shutil.copytree(sqlfiles.root(), sql)
    for path in (sql / "features").glob("*.sql"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("-- status: released", "-- status: draft"), encoding="utf-8")
    (sql / "releases.toml").write_text("# What was released.\n", encoding="utf-8")
    mathlib.mkdir()
    for path in module._mathlib_files():
        shutil.copy(path, mathlib)
    monkeypatch.setattr(sqlfiles, "root", lambda: sql)
    monkeypatch.setattr(module, "_mathlib_files", lambda: sorted(mathlib.glob("*.py")))
    sqlfiles.features.cache_clear()
    yield Project(sql, mathlib)
    sqlfiles.features.cache_clear()


def refused() -> str:
    """The one line of a refusal."""
    with pytest.raises(Released) as error:
        verify()
    assert error.value.exit_code == 8
    assert "\n" not in str(error.value)
    return str(error.value)


def hydra(lake: Any, *words: str, now: str = "2025-03-14T12:00:00Z") -> Result:
    return CliRunner().invoke(main, ["--lake", str(lake.lake.root), "--now", now, *words])


# --- the project itself -------------------------------------------------------------------------


def test_nothing_that_was_released_has_changed() -> None:
    verify()


# --- releasing ----------------------------------------------------------------------------------


def test_a_release_is_written_into_the_header_and_the_record(project: Project) -> None:
    before = project.feature("cot_v1").read_text(encoding="utf-8")
    assert release("cot_v1", NOW) == []
    after = project.feature("cot_v1").read_text(encoding="utf-8")
    assert after == before.replace("-- status: draft", "-- status: released", 1)
    assert {f.name for f in sqlfiles.features() if f.status == "released"} == {"cot_v1"}
    (name,) = record = project.record()
    assert name == "cot_v1"
    assert set(record["cot_v1"]) == {"released_at", "sql_sha256"}
    assert record["cot_v1"]["released_at"] == NOW
    assert (
        (project.sql / "releases.toml").read_text().startswith("# What was released.\n\n[cot_v1]")
    )
    verify()


def test_the_code_behind_a_derived_file_is_recorded_too(project: Project) -> None:
    assert release("features.chain_v1", NOW) == []
    release("surface_v1", NOW.replace(hour=13))
    record = project.record()
    assert list(record) == ["chain_v1", "surface_v1"]
    assert set(record["surface_v1"]) == {"released_at", "sql_sha256", "mathlib_sha256"}
    verify()


def test_a_release_names_the_drafts_that_it_reads(project: Project) -> None:
    assert release("surface_v1", NOW) == ["chain_v1"]
    assert release("chain_v1", NOW) == []
    assert release("density_v1", NOW) == []


@pytest.mark.parametrize(
    ("view", "said"),
    [
        ("surface", "did you mean surface_v1"),
        ("surfaec_v1", "did you mean surface_v1"),
        ("zzz", "hydra catalog lists them"),
        ("raw.cot", "no feature file 'raw.cot'"),
    ],
)
def test_a_name_that_is_no_file_is_refused(project: Project, view: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        release(view, NOW)
    assert project.record() == {}


def test_what_is_released_is_not_released_again(project: Project) -> None:
    release("cot_v1", NOW)
    with pytest.raises(BadInput, match="cot_v1 was released on 2025-03-14"):
        release("cot_v1", NOW)


def test_a_release_needs_a_checkout(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "__file__", str(project.sql.parent / "release.py"))
    with pytest.raises(BadInput, match="not the sql folder of a checkout"):
        release("cot_v1", NOW)
    monkeypatch.undo()
    assert "-- status: draft" in project.feature("cot_v1").read_text(encoding="utf-8")


def test_a_release_that_was_cut_short_can_be_done_again(project: Project) -> None:
    project.edit(project.feature("cot_v1"), "-- status: draft", "-- status: released")
    assert "no release is recorded: run hydra release cot_v1, or say draft" in refused()
    release("cot_v1", NOW)
    verify()


# --- what a release holds -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("from ", "from  "),
        ("-- status: released", "-- status: draft"),
        ("-- max_age: 1 release", "-- max_age: 2 releases"),
        ("\n--   market VARCHAR: market code", "\n--   market VARCHAR: the market's code"),
    ],
)
def test_a_changed_release_is_refused_with_advice(project: Project, old: str, new: str) -> None:
    release("cot_v1", NOW)
    project.edit(project.feature("cot_v1"), old, new)
    said = refused()
    assert "sql/features/cot_v1.sql was released on 2025-03-14 and has changed since" in said
    assert "take the change back and add cot_v2.sql" in said
    project.edit(project.feature("cot_v1"), new, old)
    verify()


def test_a_draft_changes_freely(project: Project) -> None:
    release("cot_v1", NOW)
    project.edit(project.feature("surface_v1"), "from ", "from  ")
    verify()


def test_mathlib_changes_freely_while_no_derived_file_is_released(project: Project) -> None:
    release("cot_v1", NOW)
    project.edit(project.mathlib / "svi.py", "import", "# more\nimport")
    verify()


@pytest.mark.parametrize("change", ["edit", "add", "remove"])
def test_changed_mathlib_behind_a_release_is_refused(project: Project, change: str) -> None:
    release("chain_v1", NOW)
    release("surface_v1", NOW)
    if change == "edit":
        project.edit(project.mathlib / "svi.py", "import", "# more\nimport")
    elif change == "add":
        (project.mathlib / "more.py").write_text("")
    else:
        (project.mathlib / "american.py").unlink()
    said = refused()
    assert "mathlib has changed behind the released chain_v1, surface_v1" in said
    assert "chain_v2.sql, surface_v2.sql" in said


def test_a_release_without_its_file_is_refused(project: Project) -> None:
    project.add_version("cot_v1", "cot_v2")
    release("cot_v2", NOW)
    project.feature("cot_v2").unlink()
    sqlfiles.features.cache_clear()
    assert "cot_v2 was released on 2025-03-14 and its file is gone" in refused()
    (project.sql / "releases.toml").write_text("")
    verify()


def test_all_that_changed_is_named_in_one_line(project: Project) -> None:
    for name in ("chain_v1", "cot_v1"):
        release(name, NOW)
    for name in ("chain_v1", "cot_v1"):
        project.edit(project.feature(name), "select", "select ")
    said = refused()
    assert "chain_v1.sql was released" in said
    assert "cot_v1.sql was released" in said


def test_a_record_that_cannot_be_read_is_one_line(project: Project) -> None:
    (project.sql / "releases.toml").write_text("<<<<<<< ours\n")
    assert "releases.toml: cannot be read" in refused()
    (project.sql / "releases.toml").unlink()
    assert "releases.toml: cannot be read" in refused()


def test_another_files_change_stops_a_release(project: Project) -> None:
    release("cot_v1", NOW)
    project.edit(project.feature("cot_v1"), "from ", "from  ")
    with pytest.raises(Released, match="cot_v1"):
        release("chain_v1", NOW)


# --- two versions -------------------------------------------------------------------------------


def test_a_replaced_version_may_say_until_when_it_stays(project: Project) -> None:
    release("cot_v1", NOW)
    project.add_version("cot_v1", "cot_v2")
    project.edit(
        project.feature("cot_v1"),
        "-- stage: build",
        "-- superseded_until: 2025-06-30\n-- stage: build",
    )
    verify()
    (old,) = [file for file in sqlfiles.features() if file.name == "cot_v1"]
    assert old.superseded_until == date(2025, 6, 30)
    assert outdated(date(2025, 6, 30)) == []
    assert outdated(date(2025, 7, 1)) == ["cot_v1 was to stay until 2025-06-30: read cot_v2"]
    project.edit(project.feature("cot_v1"), "from ", "from  ")
    assert "add cot_v3.sql" in refused()


def test_a_superseded_until_that_is_no_date_is_refused(project: Project) -> None:
    project.edit(
        project.feature("cot_v1"), "-- stage: build", "-- superseded_until: summer\n-- stage: build"
    )
    with pytest.raises(LakeError, match="superseded_until is a date, YYYY-MM-DD, not 'summer'"):
        sqlfiles.features()


def test_the_command_freezes_a_view_and_the_build_holds_it(project: Project, own_lake: Any) -> None:
    said = hydra(own_lake, "release", "cot_v1")
    assert said.exit_code == 0, said.output
    assert "cot_v1 is released" in said.output
    assert "drafts" in hydra(own_lake, "release", "surface_v1").stderr
    assert hydra(own_lake, "release", "nothing_v1").exit_code == 3

    project.add_version("cot_v1", "cot_v2")
    project.edit(project.feature("cot_v2"), "VARCHAR: market code", "VARCHAR: market")
    project.edit(
        project.feature("cot_v1"),
        "-- stage: build",
        "-- superseded_until: 2025-03-13\n-- stage: build",
    )
    built = hydra(own_lake, "build")
    assert built.exit_code == 0, built.output
    assert "cot_v1 was to stay until 2025-03-13: read cot_v2" in built.stderr
    connection = open_database(own_lake.lake.database)
    try:
        text = (
            "select view_name, status, superseded_until from meta.sql_versions "
            "where view_name like 'cot%' order by all"
        )
        assert connection.sql(text).fetchall() == [
            ("cot_v1", "released", date(2025, 3, 13)),
            ("cot_v2", "draft", None),
        ]
        (bare,) = connection.sql(
            "select sql from duckdb_views() where schema_name = 'features' and view_name = 'cot'"
        ).fetchall()
        assert "cot_v2" in bare[0]
        assert connection.sql("from features.cot_v1 except from features.cot").fetchall() == []
    finally:
        connection.close()

    project.edit(project.feature("cot_v1"), "from ", "from  ")
    before = own_lake.lake.database.read_bytes()
    for command in ("build", "derive"):
        result = hydra(own_lake, command)
        assert result.exit_code == 8
        assert result.stderr.splitlines()[-1].startswith("hydra: sql/features/cot_v1.sql was")
    assert own_lake.lake.database.read_bytes() == before
