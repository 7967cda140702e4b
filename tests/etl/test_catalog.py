"""The catalog says what the headers say, and the committed one is up to date."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from etl import catalog, sqlfiles
from etl.cli import main
from etl.errors import BadInput

COMMITTED = Path(__file__).parents[2] / "docs" / "catalog.md"
FILES = sqlfiles.features()
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)


def test_the_committed_catalog_is_the_generated_one() -> None:
    committed = COMMITTED.read_text(encoding="utf-8")
    assert committed == catalog.markdown(), "run: hydra catalog --markdown > docs/catalog.md"


def test_every_view_has_its_section_and_its_columns() -> None:
    text = catalog.markdown()
    sections = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])
    assert list(sections)[-1] == "Features"
    assert set(sections) == {*(file.name for file in FILES), "Features"}
    for file in FILES:
        section = sections[file.name]
        assert f"[{file.name}](#{file.name})" in text
        assert file.sentence in section
        for key in ("grain", "time", "sources", "max_age"):
            assert file.fields[key] in section
        assert f"version {file.version}, {file.status}, made by {file.stage}" in section
        assert section.count("\n| ") == len(file.columns) + 2
        for column in file.columns:
            name = column.name.replace("*", "\\*")
            assert f"\n| {name} | {column.type} | " in section


def test_every_feature_of_the_database_is_listed(sample_lake) -> None:
    section = catalog.markdown().split("\n## Features\n")[1]
    with sample_lake.connect() as connection:
        held = connection.sql(
            "select feature_name, description, unit, max_age || ' ' || clock from meta.features "
            "order by feature_number"
        ).fetchall()
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    assert [tuple(row) for row in rows[2:]] == held


def test_a_table_row_is_one_line_whatever_the_comment_says() -> None:
    head, _, row = catalog._table(("a", "b"), [("x | y", "2 * 3 < 7 \\")]).splitlines()
    assert head == "| a | b |"
    assert row == "| x \\| y | 2 \\* 3 \\< 7 \\\\ |"


@each_file
def test_a_view_is_described_for_a_terminal(file: sqlfiles.SqlFile) -> None:
    lines = catalog.describe(file.name).splitlines()
    assert lines[0] == f"features.{file.name}"
    assert max(map(len, lines)) <= 100
    words = " ".join(" ".join(lines).split())
    for said in (file.sentence, *file.fields.values()):
        if said not in (file.name, file.stage, file.status):
            assert " ".join(said.split()) in words
    for column in file.columns:
        assert " ".join(f"{column.name} {column.type} {column.comment}".split()) in words


def test_a_name_without_its_version_is_the_newest() -> None:
    described = catalog.describe("surface_v1")
    for name in ("surface", "features.surface", "features.surface_v1"):
        assert catalog.describe(name) == described


def test_a_column_is_described_with_its_type_and_time() -> None:
    text = catalog.describe("surface.atm_iv")
    assert text.splitlines()[:2] == [
        "features.surface_v1.atm_iv",
        "vol at the forward, decimal a year",
    ]
    assert "type      DOUBLE" in text
    assert "time      as_of is the cut-off; available_at is the latest" in text
    assert catalog.describe("features.surface_v1.atm_iv") == text
    with pytest.raises(BadInput, match="no column 'atmiv' in surface_v1: did you mean atm_iv"):
        catalog.describe("surface.atmiv")


def test_a_feature_is_described_with_its_unit() -> None:
    text = catalog.describe("opt_atm_iv_30d")
    assert text.splitlines()[0] == "opt_atm_iv_30d"
    assert "unit      decimal a year" in text
    assert "max age   1 session" in text
    with pytest.raises(BadInput, match="did you mean opt_atm_iv_30d"):
        catalog.describe("opt_atm_iv30d")


def test_programs_get_every_column_and_feature() -> None:
    rows = [dict(zip(catalog.COLUMNS, row, strict=True)) for row in catalog.rows()]
    by_name = {row["name"]: row for row in rows}
    assert len(by_name) == len(rows)
    for file in FILES:
        assert [row["name"] for row in rows if row["name"].startswith(f"{file.name}.")] == [
            f"{file.name}.{column.name}" for column in file.columns
        ]
        alone = catalog.rows(file.name)
        assert {row[2] for row in alone} == {
            " ".join(column.comment.split()) for column in file.columns
        }
    assert by_name["opt_atm_iv_30d"]["meaning"].endswith(", decimal a year")
    assert catalog.rows("opt_atm_iv_30d") == [tuple(by_name["opt_atm_iv_30d"].values())]
    assert catalog.rows("cot.market") == [tuple(by_name["cot_v1.market"].values())]


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(BadInput, match="no view 'surfce_v1': did you mean surface_v1"):
        catalog.describe("surfce_v1")
    with pytest.raises(BadInput, match="hydra catalog lists them"):
        catalog.describe("qqq")


def test_the_command_prints_what_the_module_gives(tmp_path: Path) -> None:
    def hydra(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, ["--lake", str(tmp_path), "catalog", *words])
        return result.exit_code, result.output

    assert hydra() == (0, catalog.overview() + "\n")
    assert hydra("cot") == (0, catalog.describe("cot_v1") + "\n")
    assert hydra("--markdown") == (0, catalog.markdown())
    assert hydra("cot", "--markdown")[0] == 3
    code, said = hydra("sufrace_v1")
    assert code == 3
    assert said.startswith("hydra: no view 'sufrace_v1': did you mean surface_v1 or ")
    assert all(f"\n{file.name} " in "\n" + catalog.overview() for file in FILES)
