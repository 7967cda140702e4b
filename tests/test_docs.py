"""What the pages say can be done is done here, on a copy of the sample lake.

Three rules make a page's example fit the sample: dates of 2026 are moved back by 89 weeks, so that
weekdays stay; ``hydra`` runs as of the sample lake's instant; and the folder that it runs in
holds ``lake``, ``skew.sql`` and the files of the pages' own examples.  ``ELSEWHERE`` lists what is
not run here, and why.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner

from etl import errors, sqlfiles
from etl.build import build
from etl.cli import main
from etl.export import open_database
from etl.lake import Lake
from etl.market import _CHECKS, markets

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)

#: How the commands begin that are not run here, and why.
ELSEWHERE = {
    "make": "makes an environment, or runs all tests",
    "pip install": "changes the environment",
    "git ": "changes the checkout",
    "systemctl": "needs root",
    "hydra derive --engine dask": "needs workers: tests/etl/test_engines.py",
    "hydra release": "changes the checkout: tests/etl/test_release.py",
    "hydra backfill": "needs a vendor: tests/etl/test_vendors_end_to_end.py",
    "hydra roots": "needs a vendor: tests/etl/test_cli_vendors.py",
    "hydra daily --source databento": "needs a vendor: tests/etl/test_vendors_end_to_end.py",
    "hydra --markets my-markets daily": "needs a vendor",
    "hydra publish": "needs a server: tests/etl/test_publish.py",
    "hydra daily --source sample": "a whole run: tests/etl/test_end_to_end.py",
    "hydra audit": "several whole runs: tests/etl/test_audit.py",
    "hydra replay": "a whole run: tests/etl/test_replay.py",
    "duckdb /tmp/thursday": "the same",
    "hydra land dbn": "a vendor's files: tests/etl/test_cli.py",
    "hydra land cot": "a vendor's files: tests/etl/test_cli.py",
    "hydra land chain FILE": "a synopsis",
    "hydra land chain quotedata.csv": "a vendor's file: tests/etl/test_real_files.py",
    "hydra land chain options.csv": "a vendor's file: tests/etl/test_real_files.py",
    "hydra catalog put_call_v1": "of a feature that is not there: the worked example, below",
    'hydra sql "from features.put_call': "the same",
    "hydra --lake restored": "as one: test_a_back_up_is_a_lake",
    "hydra --lake elsewhere": "the same",
    "duckdb -c \"attach 's3:": "needs a store: tests/etl/test_remote.py",
    "mv restored": "the same",
    "mkdir restored": "the same",
    "tar ": "the same",
    "flock ": "the same",
    ".venv/bin/python examples": "tests/examples",
}

#: What an example without a prompt begins with.
PROGRAMS = re.compile("(cat|duckdb|flock|git|hydra|make|mkdir|mv|pip|systemctl|tar) ")

#: Pages whose SQL is not of a lake's database, and where it runs.
OTHER_SQL = {
    "adding-a-feature": "pieces of files: the worked example, below",
    "publish": "of PostgreSQL",
    "time": "needs a spine: tests/sql/test_features_as_of.py",
}


# What stands in the pages.


def blocks(page: Path, *languages: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [moved(text) for language, text in found if language in languages]


def moved(text: str) -> str:
    """``text`` with its dates of 2026 where the sample lake has sessions."""

    def earlier(found: re.Match[str]) -> str:
        then = date(*map(int, found.group(1, 3, 4))) - timedelta(weeks=89)
        if found[2] == "-":
            return then.isoformat()
        return f"{then.year}, {then.month}, {then.day}"

    return re.sub(r"\b(2026)(-|, )(\d+)\2(\d+)", earlier, text)


def commands(page: Path) -> list[str]:
    """Each command of a page; what follows a line with a prompt is what it printed."""
    found = []
    for block in blocks(page, "console", "sh", ""):
        lines = block.replace("\\\n", " ").splitlines()
        if any(line.startswith("$ ") for line in lines):
            found += [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        else:
            found += [line for line in lines if PROGRAMS.match(line)]
    return list(dict.fromkeys(found))


def elsewhere(command: str) -> bool:
    return any(command.startswith(start) for start in ELSEWHERE)


def example(page: str, language: str, number: int = 0) -> str:
    return blocks(ROOT / "docs" / f"{page}.md", language)[number]


# What they run in.


@pytest.fixture(scope="module")
def lake(sample_lake: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sample lake that commands may write to."""
    made: Path = tmp_path_factory.mktemp("docs") / "lake"
    shutil.copytree(sample_lake.lake.root, made)
    build(Lake(made), markets(), sample_lake.now)  # its views are to read its own files
    return made


@pytest.fixture
def here(lake: Path, sample_lake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder to run in: the lake, the files that the pages name, and the sample's clock."""
    (tmp_path / "lake").symlink_to(lake)
    for folder in ("docs", "my-markets", "bin"):
        (tmp_path / folder).mkdir()
    (tmp_path / "skew.sql").write_text("select market, opt_rr_25d_90d from features.daily_v1\n")
    (tmp_path / "my-markets/KE.toml").write_text(example("adding-a-market", "toml"))
    (tmp_path / "ke.csv").write_text("\n".join(chain_file()) + "\n")
    hydra = f'#!/bin/sh\nexec {sys.executable} -m etl --now {sample_lake.now.isoformat()} "$@"\n'
    (tmp_path / "bin/hydra").write_text(hydra)
    (tmp_path / "bin/hydra").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    for name in ("HYDRA_LAKE", "HYDRA_MARKETS", "HYDRA_SETTINGS", "DATABENTO_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    path = [str(tmp_path / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    monkeypatch.setenv("PATH", os.pathsep.join(path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def chain_file() -> Iterator[str]:
    """A chain in the generic format about a future at 560."""
    yield "quote_time,expiry,strike,option_type,bid,ask,open_interest,volume"
    for strike in range(500, 620, 10):
        for kind, sign in (("C", 1), ("P", -1)):
            mid = max(sign * (560 - strike), 0) + 12
            yield f"2025-03-06T13:00-06:00,2025-04-25,{strike},{kind},{mid - 0.5},{mid + 0.5},900,9"


def run(command: str, now: datetime) -> tuple[int, str]:
    """The exit code of a command and what it said; without a shell where it needs none."""
    if command.startswith("hydra ") and not re.search(r"[|>&]", command):
        words = shlex.split(command, comments=True)[1:]
        result = CliRunner().invoke(main, ["--now", now.isoformat(), *words])
        return result.exit_code, result.output
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


# The promises.


@each_page
def test_every_command_runs(page: Path, here: Path, sample_lake: Any) -> None:
    for command in commands(page):
        if elsewhere(command) or ("duckdb " in command and not shutil.which("duckdb")):
            continue
        exit_code, said = run(command, sample_lake.now)
        fine = {0, 1} if "--strict" in command else {0}
        assert exit_code in fine, f"{command}\n{said}"


@each_page
def test_every_python_snippet_runs(page: Path, here: Path) -> None:
    for snippet in blocks(page, "python"):
        exec(compile(snippet, str(page), "exec"), {"__name__": page.stem})


@each_page
def test_every_query_runs(page: Path, here: Path) -> None:
    if page.stem in OTHER_SQL:
        return
    for text in blocks(page, "sql"):
        connection = open_database(here / "lake/hydra.duckdb")
        try:
            for statement in duckdb.extract_statements(text):
                assert connection.execute(statement).description
        finally:
            connection.close()


def test_nothing_is_left_out_that_no_page_has() -> None:
    every = [command for page in PAGES for command in commands(page)]
    assert {s for s in ELSEWHERE if not any(c.startswith(s) for c in every)} == set()
    assert sum(not elsewhere(command) for command in every) > 30
    assert all(blocks(ROOT / "docs" / f"{name}.md", "sql") for name in OTHER_SQL)


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http:", "https:")):
            continue
        name, _, anchor = target.partition("#")
        place = (page.parent / name).resolve() if name else page
        assert place.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", place.read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles}


def test_the_readme_lists_every_page() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    listed = text.split("\n## Documentation\n")[1].split("\n## ")[0]
    missing = [p.name for p in PAGES[2:] if f"(docs/{p.name})" not in listed]
    assert missing == []


# Adding a market.


def test_every_key_of_a_market_is_explained() -> None:
    text = (ROOT / "docs/adding-a-market.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (●?) ?\| ", text, re.MULTILINE)
    assert [key for key, _ in rows] == list(dict.fromkeys(key for key, _ in rows))
    assert {key for key, _ in rows} == set(_CHECKS)


@pytest.mark.parametrize("key", _CHECKS)
def test_the_marked_keys_are_those_that_a_market_must_have(key: str, tmp_path: Path) -> None:
    text = (ROOT / "docs/adding-a-market.md").read_text("utf-8")
    is_marked = f"\n| `{key}` | ● |" in text
    lines = example("adding-a-market", "toml").splitlines()
    left = [line for line in lines if not line.startswith(f"{key} = ")]
    (tmp_path / "KE.toml").write_text("\n".join(left))
    if is_marked:
        with pytest.raises(errors.BadInput, match=f"key '{key}' is missing"):
            markets(tmp_path)
    elif key in ("futures_parents", "futures_root"):  # a future at Databento needs these
        with pytest.raises(errors.BadInput, match=f"key '{key}' is missing: "):
            markets(tmp_path)
    else:
        assert markets(tmp_path)["KE"].name == "KC HRW wheat"


# Adding a feature.


@pytest.fixture
def with_the_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The project's SQL, with what the page adds to it."""
    made = tmp_path / "sql"
    shutil.copytree(sqlfiles.root(), made)
    feature, listed, rows = blocks(ROOT / "docs/adding-a-feature.md", "sql")
    (made / "features/put_call_v1.sql").write_text(feature)
    change(made / "build/feature_list.sql", "    values\n", f"    values\n{listed}")
    long = made / "features/long_v1.sql"
    change(long, "    select * from reports\n", f"    select * from reports\n{rows}")
    change(long, "-- sources: ", "-- sources: features.put_call_v1, ")
    monkeypatch.setattr(sqlfiles, "root", lambda: made)
    sqlfiles.features.cache_clear()
    yield made
    sqlfiles.features.cache_clear()


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), "utf-8")


@pytest.mark.usefixtures("with_the_example")
def test_the_worked_feature_passes_its_own_tests() -> None:
    at = importlib.util.spec_from_file_location("bench_of_sql", ROOT / "tests/sql/conftest.py")
    assert at is not None
    assert at.loader is not None
    module = importlib.util.module_from_spec(at)
    at.loader.exec_module(module)
    names: dict[str, Any] = {}
    exec(compile(example("adding-a-feature", "python"), "test_put_call.py", "exec"), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        bench = module.Bench()
        test(bench)
        bench.connection.close()


@pytest.mark.usefixtures("with_the_example")
def test_the_worked_feature_is_built_and_answers(own_lake: Any) -> None:
    build(own_lake.lake, markets(), own_lake.now)
    with own_lake.connect() as connection:
        ratios = "select market, put_call_ratio from features.put_call where put_call_ratio > 0"
        assert {market for market, _ in connection.sql(ratios).fetchall()} == {"HE", "ZO"}
        text = f"select value, quality from features_at('HE', timestamptz '{own_lake.now}')"
        answers = connection.sql(f"{text} where feature_name = 'opt_put_call_ratio'").fetchall()
        newest = "select put_call_ratio from features.put_call where market = 'HE'"
        assert answers == [
            (*connection.sql(f"{newest} order by as_of desc limit 1").fetchall()[0], "full")
        ]
        wide = "select count(opt_put_call_ratio) from features.daily_v1"
        assert connection.sql(wide).fetchall()[0][0] > 10


# Operating.


def test_a_back_up_is_a_lake(here: Path, sample_lake: Any) -> None:
    steps = [c for c in commands(ROOT / "docs/operating.md") if elsewhere(c)]
    steps = [c for c in steps if c.split()[0] in ("flock", "mkdir", "tar", "mv", "hydra")]
    steps = [c for c in steps if c.split()[0] != "hydra" or "--lake" in c]
    assert len(steps) == 9
    for step in steps:
        exit_code, said = run(step, sample_lake.now)
        assert exit_code == 0, f"{step}\n{said}"
    with open_database(here / "elsewhere/hydra.duckdb") as found, sample_lake.connect() as wanted:
        for view in ("raw.option_quote", "features.long_v1"):
            count = f"select count(*) from {view}"
            assert found.sql(count).fetchall() == wanted.sql(count).fetchall()


# Troubleshooting.


def templates() -> Iterator[tuple[str, set[int]]]:
    """Each text of the code, ``…`` for what is filled in, and the exit code of its error."""
    codes = {
        name: value.exit_code
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.HydraError)
    }
    anyhow = {2, *codes.values()}
    for path in sorted((ROOT / "etl").rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
        raised: dict[ast.AST, set[int]] = {}
        for node in nodes:
            name = getattr(node.func, "id", None) if isinstance(node, ast.Call) else None
            if name in codes:
                raised |= {part: {codes[name]} for part in ast.walk(node)}
        for node in nodes:
            if isinstance(node, ast.JoinedStr):
                texts = [v.value if isinstance(v, ast.Constant) else "…" for v in node.values]
                yield "".join(map(str, texts)), raised.get(node, anyhow)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value, raised.get(node, anyhow)


def test_every_quoted_message_is_still_said_with_its_exit_code() -> None:
    text = (ROOT / "docs/troubleshooting.md").read_text("utf-8")
    known = list(templates())
    quoted = 0
    for section in text.split("\n## Exit code ")[1:]:
        exit_code = int(section.split("\n")[0])
        for message in re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE):
            quoted += 1
            pattern = ".*".join(map(re.escape, message.strip("… ").split("…")))
            said = [of for template, of in known if re.search(pattern, template, re.DOTALL)]
            assert any(exit_code in of for of in said), message
    assert quoted > 40
