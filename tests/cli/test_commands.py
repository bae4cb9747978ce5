"""Commands as a user types them, in a project of their own; what needs nothing running."""

import json
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pyarrow as pa
import pytest

from penstock.cli.main import app
from penstock.clock import FixedClock
from penstock.contract import FeatureService
from penstock.offline.lake import Lake
from penstock.point_in_time.joined import Resources
from penstock.point_in_time.spine import table_rows
from penstock.registry.project import Project
from penstock.training_set.sets import TrainingSets
from tests.docs.test_quickstart import ROOT, blocks
from tests.point_in_time.tables import CREATED, DAY, HOUR, a_view, write_rows

PUBLISH = """
import penstock
from penstock.offline.registry_log import log_snapshot
store = penstock.open()
log_snapshot(store.lake, store.snapshot, store.clock.now())
"""


class Shop:
    """A new project with the quickstart's view."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        assert self.run("init", "shop") == (0, "")
        self.folder = folder / "shop"
        self.view = self.folder / "feature_assets" / "spending.py"
        with (self.folder / "conf" / "local.yaml").open("a") as out:
            out.write("  port: 3999\n")  # where nobody listens
        self.view.write_text(next(code for _, code in blocks(ROOT / "docs" / "quickstart.md") if "VIEW = " in code))

    def run(self, *arguments: str) -> tuple[int, str]:
        """Exit code and what was said: to stderr if it failed."""
        done = self.process("-m", "penstock.cli.main", *arguments)
        return done.returncode, done.stderr if done.returncode or arguments[0] == "init" else done.stdout

    def say(self, *arguments: str) -> tuple[int, str]:
        """As `run`, in this process: a process costs four seconds."""
        saved = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "feature_assets"}
        path, argv, out, err = list(sys.path), sys.argv, StringIO(), StringIO()
        try:
            sys.argv = ["penstock", *arguments]
            with chdir(self.folder), redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
                app()
        finally:
            for name in [name for name in sys.modules if name.partition(".")[0] == "feature_assets"]:
                del sys.modules[name]
            sys.modules.update(saved)
            sys.path[:], sys.argv = path, argv
        code = int(ended.value.code or 0)
        return code, err.getvalue() if code else out.getvalue()

    def process(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        env = {"PATH": "/usr/bin:/bin", "HOME": str(self.folder), "COLUMNS": "220", "PYTHONPATH": str(self.folder)}
        return subprocess.run([sys.executable, *arguments], cwd=self.folder, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("commands"))


def test_a_diff_says_what_the_changes_since_the_last_publication_mean(shop: Shop) -> None:
    assert shop.run("registry", "history") == (0, "")  # nothing was published; said on stderr
    assert shop.process("-c", PUBLISH).returncode == 0
    assert "no difference" in shop.run("registry", "diff")[1]
    shop.view.write_text(shop.view.read_text().replace("ttl=days(3)", "ttl=days(2)"))
    code, said = shop.run("registry", "diff")
    assert code == 0
    for part in (
        "feature view spending@1",
        "ttl_us",
        "its partitions are outdated: compute them again",
        "get ContractMismatch",
        "3 change(s)",
    ):
        assert part in said
    assert len(shop.run("registry", "history")[1].strip().splitlines()) == 2  # a title and one snapshot
    code, said = shop.run("registry", "diff", "nope")
    assert (code, "0 published snapshots have a fingerprint that begins with 'nope'" in said) == (1, True)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["init", "a b"], "project name 'a b': expected letters, digits"),
        (["backfill", "spending"], "no Dagster answers at http://127.0.0.1:3999"),
        (["backfill", "spendings"], "no feature view 'spendings' in project 'feature_assets'; it has spending@1"),
        (["backfill", "2026-03-02", "2026-03-01"], "the last day, 2026-03-01, is before the first, 2026-03-02"),
        (["backfill", "spending", "2025-12-31"], "partitions are from "),
        (["backfill", "spending", "2026-01-01", "2099-01-01"], "partitions are from "),
        (["backfill", "2026-01-01", "spending"], "expected names, then a first and a last day, got: 2026-01-01 spending"),
        (["backfill", "spending", "2026-02-30"], "'2026-02-30' is no day"),
        (["repair", "plan", "spendings"], "no feature view 'spendings' in project 'feature_assets'; it has spending@1"),
        (["status", "spendings"], "no feature view 'spendings' in project 'feature_assets'; it has spending@1"),
        (["training-set", "build", "b", "--service", "nobody", "--table", "x"], "no feature service 'nobody'"),
        (["training-set", "build", "b", "--service", "basket"], "a spine is either a query or a table"),
        (
            ["training-set", "build", "b", "--service", "basket", "--query", "@none.sql"],
            "none.sql cannot be read: No such file or directory",
        ),
        (["ingest", "order"], "no source 'order' in project 'feature_assets'; it has orders"),
        (["alerts", "ack", "skew:x"], "no alert 'skew:x' is open"),
        (["skew", "report"], "nothing was judged in the last 7 day(s)"),
        (["skew", "judge", "--since", "2026-03-02T00:00Z", "--until", "2026-03-01T00:00Z"], "the window from 2026-03-02"),
        (["skew", "judge", "--until", "2026-03-01"], "no time: '2026-03-01' is naive"),
        (["training-set", "list", "baskets"], "no training set 'baskets' in the lake"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_message(shop: Shop, command: list[str], said: str) -> None:
    code, message = shop.say(*command)
    assert code == 1
    assert message.startswith(f"error: {said}"), message
    assert "Traceback" not in message


def test_of_training_sets_it_is_told_what_was_corrected_since(shop: Shop) -> None:
    lake, clock = Lake(str(shop.folder / "var" / "lake")), FixedClock(CREATED + HOUR)
    view = a_view()
    write_rows(lake, view, [{"user": user, "at": DAY, "amount": 1.0} for user in range(3)])
    services = (FeatureService("basket", views=[view], owner="ml"),)
    sets = TrainingSets(lake, Project("shop", (view,), services), Resources(str, 1, 10**8), clock, table_rows, str)
    spine = pa.table({"user": [1], "event_time": pa.array([DAY + HOUR], pa.timestamp("us", tz="UTC"))})
    made = sets.build("told", spine, "basket", mode="assumed")
    assert "corrected" not in shop.run("training-set", "list", "told")[1]
    assert "stale:" not in shop.run("training-set", "show", "told")[1]
    write_rows(lake, view, [{"user": user, "at": DAY, "amount": 2.0, "created": CREATED + 5 * HOUR} for user in range(2)])
    # CREATED is 06:00 of the day after
    assert "1 day of spend corrected since 2026-03-03 11:00" in " ".join(shop.run("training-set", "list", "told")[1].split())
    said = shop.run("training-set", "show", "told")[1]
    assert "  stale: 1 day of spend corrected since 2026-03-03 11:00: 2 row(s) of 1 attempt(s) of spend@1, runs ; on 2026-03-02\n" in said
    whole = json.loads(shop.run("training-set", "show", "told", "--json")[1])
    assert (whole["manifest"]["id"], whole["stale"][0]["days"], whole["stale"][0]["rows"]) == (made.id, ["2026-03-02"], 2)
    assert whole["statistics"]["spend__amount"]["rows"] == 1


def test_what_cannot_be_replayed_shipped_or_asked_for_says_why(shop: Shop) -> None:
    code, said = shop.run("replay", "p1.AAAA")
    assert code == 1
    assert "not a replay token" in said or "does not pass its checksum" in said
    assert "give the whole text of `token`" in said
    code, said = shop.run("feature-log", "ship")
    assert (code, said[:26]) == (0, "0 segment(s), 0 rows brought"[:26])
    code, said = shop.run("features", "get", "late", "customer=ann", "--url", "http://127.0.0.1:9")
    assert code == 1
    assert "the gateway at http://127.0.0.1:9 cannot be reached" in said
    code, said = shop.run("features", "get", "late", "customer")
    assert code == 1
    assert "join key 'customer': expected name=value" in said


def test_keys_are_minted_listed_and_revoked(shop: Shop) -> None:
    code, key = shop.run("keys", "mint", "scoring", "--service", "late", "--expires", "2999-01-31")
    assert code == 0
    assert key.startswith("penstock_")
    assert shop.run("keys", "mint", "[b]everything[/b]")[0] == 0
    _, listed = shop.run("keys", "list")
    title, *lines = [line.split() for line in listed.strip().splitlines()]
    assert title == ["id", "principal", "reads", "expires"]
    assert [line[1:] for line in lines if line[1] != "local"] == [["scoring", "late", "2999-01-31"], ["[b]everything[/b]", "*", "never"]]
    assert key.strip() not in listed
    assert shop.run("keys", "revoke", *[line[0] for line in lines]) == (
        0,
        "".join(f"revoked {line[0]} of {line[1]}\n" for line in lines),
    )
    assert shop.run("keys", "list") == (0, "")  # there are none; said on stderr
    code, said = shop.run("keys", "revoke", lines[0][0])
    assert (code, f"no API key '{lines[0][0]}'" in said) == (1, True)
    code, said = shop.run("keys", "mint", "late", "--expires", "2026-01-31")
    assert (code, "--expires 2026-01-31 has begun already" in said) == (1, True)


WHAT_IS_IMPORTED = """
import json, sys
from penstock.cli import main
main._command(sys.argv[1])
print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))
"""


@pytest.mark.parametrize("command", ["gateway", "keys", "init", "features"])
def test_what_serves_is_run_without_the_packages_that_compute(command: str) -> None:
    done = subprocess.run([sys.executable, "-c", WHAT_IS_IMPORTED, command], capture_output=True, text=True, check=True)
    imported = set(json.loads(done.stdout))
    assert "penstock" in imported
    assert not imported & {"pyspark", "py4j", "deltalake", "dagster", "pandas", "pyarrow", "numpy", "great_expectations"}


WITHOUT = "import sys; sys.modules.update(dict.fromkeys(sys.argv.pop(1).split(','))); from penstock.cli.main import app; app()"


def test_a_command_whose_packages_are_not_installed_says_so_and_the_others_work() -> None:
    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", WITHOUT, "dagster,pyspark,deltalake,pyarrow", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env={"COLUMNS": "200", "PATH": "/usr/bin:/bin"})

    shown = run("--help")
    assert shown.returncode == 0
    assert "Not installed: it needs 'dagster'; pip install 'penstock[all]'" in shown.stdout
    assert "Serve features over HTTP until interrupted." in shown.stdout
    refused = run("training-set", "build", "late", "--service", "x")
    assert refused.returncode == 1
    assert "`penstock training-set` needs the package " in refused.stderr
    assert "pip install 'penstock[all]'" in refused.stderr


def test_ddl_is_all_that_a_project_needs_and_says_nothing_else(shop: Shop) -> None:
    code, said = shop.run("online", "ddl")
    assert code == 0
    statements = [statement.strip() for statement in said.split(";")]
    assert statements.pop() == ""
    tables = ("ledger", "watermarks", "intents", "marks", "snapshots", "services", "online_customer")
    assert [statement.partition("(")[0].split("\n")[0].rstrip() for statement in statements] == [
        "CREATE KEYSPACE IF NOT EXISTS penstock",
        *[f"CREATE TABLE IF NOT EXISTS penstock.{table}" for table in tables],
    ]


def test_without_anything_online_freshness_says_so_and_asks_no_gateway(shop: Shop) -> None:
    code, said = shop.say("freshness")
    assert code == 0
    assert "nothing" in said
    told = json.loads(shop.say("freshness", "--json", "--no-canary")[1])
    (view,) = told["views"]
    assert (view["view"], view["freshness"]["age"], view["served"], told["canaries"]) == ("spending@1", None, None, [])


def test_a_change_is_checked_and_reported_as_junit_and_markdown(shop: Shop) -> None:
    code, said = shop.say("check", "--definitions-only", "--junit", "check.xml", "--markdown", "check.md")
    assert code == 0
    assert "definitions" in said
    assert (shop.folder / "check.xml").read_text().count("<testcase") == said.count("│ definitions")
    assert "| passed | definitions | compiled | 1 view(s), 1 service(s) |" in (shop.folder / "check.md").read_text()
    view = shop.view.read_text()
    shop.view.write_text(view.replace("ttl=", "tll="))
    code, said = shop.say("check", "--definitions-only", "--junit", "check.xml")
    shop.view.write_text(view)
    assert code == 1
    assert "tll" in said
    assert 'failures="1"' in (shop.folder / "check.xml").read_text()
