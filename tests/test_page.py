"""The page in a real browser: what it shows, how it is walked, and that no name becomes markup."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pyarrow as pa
import pytest
from support.browsers import chromium
from support.graphs import adopt, adopt_graph, result
from support.results import DATA, DESCRIPTOR, ENV, build, rows
from support.servers.installs import UnavailableError

from jammi_files import InputAnchor, connect, pages
from jammi_files.cli import main
from jammi_files.serving import Server

FIXTURE = Path(__file__).parent / "data" / "jammi-0.32"
BOXES = "return [...document.querySelectorAll('#lineage rect')].map(r => r.getBBox())"
RANKS = "return [...document.querySelectorAll('#lineage a')].map(a => [a.node.key, a.node.rank])"
LOADED = """return performance.getEntriesByType("resource").map(each => each.name)
    .filter(name => !name.startsWith("data:"))"""
INJECT = """const script = document.createElement("script");
    script.textContent = "window.hit = 1";
    document.body.append(script);"""
INKS = """return [...document.querySelectorAll("header p, h1, td, td a, label, #counts span")]
    .map(each => getComputedStyle(each).color)"""
IN_SIGHT = """const link = document.activeElement.getBoundingClientRect();
    const box = document.getElementById("scroll").getBoundingClientRect();
    return link.top >= box.top && link.bottom <= box.bottom;"""
HOSTILE = '</script><img src=x onerror="window.hit=1">\'"&amp;\u202egnp.\x1b[31m\u2028{{script}}'


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    """Yield a browser; without one the tests are skipped, in CI they fail."""
    try:
        with chromium(tmp_path_factory.mktemp("chromium")) as found:
            yield found
    except UnavailableError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


class Page:
    """What a test does with the page."""

    def __init__(self, driver) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get(url)

    def js(self, script: str, *arguments):
        return self.driver.execute_script(script, *arguments)

    def wait(self, script: str, *arguments):
        """Return what the script returns as soon as it is true."""
        from selenium.webdriver.support.ui import WebDriverWait  # noqa: PLC0415 - an extra

        return WebDriverWait(self.driver, 30, 0.05).until(lambda _: self.js(script, *arguments))

    def keys(self, *names: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains  # noqa: PLC0415
        from selenium.webdriver.common.keys import Keys  # noqa: PLC0415

        chain = ActionChains(self.driver)
        for name in names:
            chain.send_keys(getattr(Keys, name, name))
        chain.perform()

    def go(self, name: str) -> None:
        self.js("location.hash = '#result=' + encodeURIComponent(arguments[0])", name)
        self.wait_for_heading(name)

    def texts(self, selector: str) -> list[str]:
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)"
        return self.js(script, selector)

    def text(self, selector: str) -> str:
        [found] = self.texts(selector)
        return found

    def count(self, selector: str) -> int:
        return self.js("return document.querySelectorAll(arguments[0]).length", selector)

    def click(self, selector: str) -> None:
        self.js("document.querySelector(arguments[0]).click()", selector)

    def set(self, selector: str, value: str, event: str) -> None:
        script = (
            "const [place, value, event] = arguments; const node = document.querySelector(place);"
        )
        script += "node.value = value; node.dispatchEvent(new Event(event));"
        self.js(script, selector, value, event)

    def wait_for_heading(self, name: str) -> None:
        heading = "document.querySelector('#detail h2')?.textContent"
        self.wait(f"return {heading} === printable(arguments[0])", name)

    def names(self) -> list[str]:
        return self.texts("tbody a")

    def focused(self) -> str:
        return self.js("const e = document.activeElement; return e.node?.key ?? e.textContent")

    def errors(self) -> list[str]:
        return [each["message"] for each in self.driver.get_log("browser")]


@pytest.fixture
def page(driver) -> Iterator[Page]:
    """Yield the page of this test; whatever the browser complained of is a failure."""
    shown = Page(driver)
    yield shown
    assert shown.errors() == []


def report(store, tmp_path, *flags) -> str:
    path = tmp_path / "report.html"
    assert main(["report", "--out", str(path), "--root", str(store.root), *flags]) == 0
    return path.as_uri()


@pytest.fixture
def engine(page, tmp_path):
    """Open the report of what the real engine wrote, and return its store."""
    root = tmp_path / "root"
    assert main(["import", str(FIXTURE), "--root", str(root)]) == 0
    store = connect(root).as_admin()
    page.open(report(store, tmp_path, "--admin"))
    return store


def test_table_shows_every_result(page, engine):
    """Counts, rows and verdicts are those of the catalog."""
    assert len(page.names()) == engine.catalog.scan().num_rows == 15
    assert set(page.names()) == set(engine.catalog.scan().column("table_name").to_pylist())
    assert page.text("#counts") == "15ready0building0failed"
    verdicts = page.js("return data.results.map(r => [r.table_name, r.verdict.tag])")
    assert dict(verdicts) == {each.table_name: each.verdict.verdict for each in engine.verify_all()}


def test_detail_shows_what_is_known(page, engine):
    """A result's page has its descriptor, anchors and verdict; its links lead on."""
    name = next(name for name in page.names() if name.endswith("f4e25986"))
    page.go(name)
    sidecar = engine.read_materialization_manifest(name)
    assert (
        page.js("return JSON.parse(document.getElementById('descriptor').textContent)")
        == (sidecar.to_dict()["descriptor"])
    )
    cells = page.texts("#anchors tbody td")
    anchors = [cells[at : at + 3] for at in range(0, len(cells), 3)]
    assert anchors == [[a.source, a.kind, a.anchor] for a in sidecar.input_anchors]
    assert page.text("#verdict") == ("match_with_unpinned_inputs")
    assert sidecar.artifact in page.text("#detail")
    page.click("#anchors a")
    page.wait_for_heading(anchors[0][0])


def test_lineage_is_a_picture_to_walk(page, engine):
    """The picture has the edges of both closures; arrow keys walk it, Enter goes there."""
    name = next(
        name
        for name in engine.catalog.scan().column("table_name").to_pylist()
        if name.endswith("842489d0")
    )
    page.go(name)
    drawn = page.texts("#lineage > svg > path title")
    edges = engine.lineage(name).edges
    assert sorted(drawn) == sorted(f"{e.input} → {e.derived} ({e.kind})" for e in edges)
    boxes = page.js(BOXES)
    assert not any(overlap(one, other) for one, other in combinations(boxes, 2))
    page.js("document.querySelector('#lineage a.here').focus()")
    page.keys("ARROW_LEFT")
    parent = page.focused()
    assert parent in {edge.input for edge in edges if edge.derived == name}
    page.keys("ENTER")
    page.wait_for_heading(parent)
    assert page.focused() == parent
    page.keys("ESCAPE")
    page.wait("return !document.getElementById('list').hidden")


def test_lineage_of_a_diamond_points_right(page, store, tmp_path):
    """Inputs stand left of what was made from them, whatever way leads there; sources are drawn."""
    raw = InputAnchor.source_version("raw", "1")
    adopt_graph(store, a=[raw], b=["a"], c=["a", "b"], d=["c", "a"], e=["d"], other=[raw])
    page.open(report(store, tmp_path, "--no-verify"))
    page.go("c")
    at = dict(page.js(RANKS))
    assert at == {"raw": -3, "a": -2, "b": -1, "c": 0, "d": 1, "e": 2}
    page.go("raw")
    assert page.count("#lineage a") == 7


def test_wide_lineage_is_cut_and_says_so(page, store, tmp_path):
    """Of a thousand dependants some are drawn and the rest is counted."""
    adopt(store, [result("hub"), *(result(f"r{n}", ["hub"]) for n in range(1000))])
    page.open(report(store, tmp_path, "--no-verify"))
    page.go("hub")
    drawn = page.count("#lineage a")
    assert 10 < drawn < 100
    assert f"+{1001 - drawn}" in page.js(
        "return document.querySelector('#lineage a.here').textContent"
    )


def test_search_filters_and_order(page, store, tmp_path):
    """Words, choices and headings narrow and order the table, and say how many are shown."""
    made = build(store, properties={"owner": "Ada"})
    store.catalog.create_result_tables(rows("alpha", "beta", source_id="letters"))
    store.catalog.fail_result_table("beta", "why")
    page.open(report(store, tmp_path))
    page.keys("/")
    page.keys("ADA")
    assert page.names() == [made]
    assert page.text("#shown") == "1 of 3 results"
    page.set("#search", "", "input")
    page.click("#counts button:last-child")
    assert page.names() == ["beta"]
    page.set("[data-column=status]", "", "change")
    page.click("[data-sort=table_name]")
    assert page.names() == sorted(page.names())
    assert page.js("return document.querySelector('th').getAttribute('aria-sort')") == "ascending"
    page.click("[data-sort=table_name]")
    assert page.names() == sorted(page.names(), reverse=True)


def test_ten_thousand_results(page, store, tmp_path):
    """A large table draws what can be seen; keys reach every row and come back to it."""
    names = [f"r{number:05}" for number in range(10_000)]
    store.catalog.create_result_tables(rows(*names))
    page.open(report(store, tmp_path, "--no-verify"))
    page.click("[data-sort=table_name]")
    assert len(page.names()) < 100
    page.js("document.querySelector('#search').focus()")
    page.keys("ARROW_DOWN")
    assert page.focused() == names[0]
    page.keys("END")
    assert page.focused() == names[-1]
    assert page.js(IN_SIGHT)
    page.keys("ARROW_UP", "ARROW_UP")
    assert page.focused() == names[-3]
    page.keys("ENTER")
    page.wait_for_heading(names[-3])
    page.keys("ESCAPE")
    page.wait("return document.activeElement.textContent === arguments[0]", names[-3])
    assert page.js("return document.querySelector('tr.active').offsetHeight") == page.js(
        "return ROW_HEIGHT"
    )


def test_hostile_names_are_text(page, store, tmp_path):
    """Markup, quotes, bidirectional marks and placeholders in names stay text in every view."""
    with store.build(
        HOSTILE,
        "ner",
        "model",
        HOSTILE,
        descriptor=DESCRIPTOR,
        env=ENV,
        inputs=[InputAnchor.source_version(HOSTILE, HOSTILE)],
        properties={HOSTILE: HOSTILE},
    ) as out:
        out.write(pa.table({"a": [1]}))
    name = 'evil"><b>\u202e&lt;'
    adopt(store, [result(name, [out.table_name, InputAnchor.source_version(HOSTILE, "1")])])
    page.open(report(store, tmp_path, "--no-verify"))
    assert len(page.names()) == 2
    for each in (out.table_name, name, HOSTILE):
        page.go(each)
        text = page.js("return document.body.innerText")
        assert "\u202e" not in text
        assert "\x1b" not in text
        assert "\\u202e" in text
    assert page.js("return window.hit") is None
    assert page.count("img, b:not(#counts b)") == 0
    assert page.js("return byName.get(arguments[0]).source_id", out.table_name) == HOSTILE


def test_page_loads_nothing(page, store, tmp_path):
    """The file names no other place, and its policy keeps a script from asking one."""
    build(store)
    url = report(store, tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in text
    page.open(url)
    assert page.js(LOADED) == []
    page.js(INJECT)
    assert page.js("return window.hit") is None
    assert "Content Security Policy" in page.errors()[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_read(page, store, tmp_path, scheme):
    """In both schemes text stands out from its ground by the 4.5 to 1 that WCAG asks for."""
    build(store)
    store.create_table("docs", "ner", "model", "m")
    page.driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    page.open(report(store, tmp_path))
    ground = page.js("return getComputedStyle(document.body).backgroundColor")
    assert (luminance(ground) > 0.5) == (scheme == "light")
    inks = page.js(INKS)
    assert len(set(inks)) > 3
    assert [ink for ink in set(inks) if contrast(ink, ground) < 4.5] == []


def overlap(one: dict[str, float], other: dict[str, float]) -> bool:
    return all(
        one[start] < other[start] + other[size] and other[start] < one[start] + one[size]
        for start, size in (("x", "width"), ("y", "height"))
    )


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted([luminance(one), luminance(other)], reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_cycle_is_told_and_drawn(page, store, tmp_path):
    """Results that were made from each other do not keep the page from showing the rest."""
    adopt_graph(store, a=["b"], b=["a"], c=["b"])
    page.open(report(store, tmp_path, "--no-verify"))
    assert "cycle" in page.text("#trouble")
    page.go("b")
    assert page.count("#lineage a") == 3


def test_live_page_follows_the_catalog(page, store, root):
    """A served page shows a result made later without a reload, and judges where it is asked."""
    first = build(store)
    with Server(connect(root), 0) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        page.open(server.url)
        assert page.names() == [first]
        second = build(store)
        page.wait("return document.querySelectorAll('tbody a').length === 2")
        page.go(second)
        page.wait("return document.getElementById('descriptor')")
        assert "not read" in page.text("#verdict")
        page.click("#verify")
        page.wait("return document.getElementById('verdict').textContent === 'match'")
        page.open("about:blank")
        server.shutdown()


def test_report_says_what_is_wrong(store, root, tmp_path, capsys):
    """A negative verdict is exit code 1 and stands in the page; a damaged sidecar hides nothing."""
    changed, damaged = build(store), build(store)
    (root / f"{changed}.parquet").write_bytes(b"other")
    (root / f"{damaged}.materialization.json").write_text("{")
    path = tmp_path / "report.html"
    assert main(["report", "--out", str(path), "--root", str(root)]) == 1
    assert f"negative verdict: {changed}" in capsys.readouterr().out
    document = pages.overview(store)
    pages.attest(store, document)
    errors = {row["table_name"]: row.get("sidecar_error") for row in document["results"]}
    assert errors[changed] is None
    assert errors[damaged]
    assert list(tmp_path.glob("*.tmp")) == []


def test_report_that_cannot_be_written(store, tmp_path, capsys):
    """A place that is no file is one line that names it, and nothing is left beside it."""
    build(store)
    for place in (tmp_path, tmp_path / "gone" / "report.html"):
        assert main(["report", "--out", str(place), "--root", str(store.root)]) == 3
        err = capsys.readouterr().err
        assert (err.count("\n"), f"'{place}'" in err) == (1, True)
    beside = [*tmp_path.parent.glob("*.tmp"), *tmp_path.rglob("*.tmp")]
    assert beside == []


def test_report_of_a_long_name(store, tmp_path):
    """Whatever the file system takes as a name is taken: its temporary name is cut by bytes."""
    build(store)
    for name in ("日" * 83 + ".html", "a" * 250 + ".html", os.fsdecode(b"\xff.html")):
        assert main(["report", "--out", str(tmp_path / name), "--root", str(store.root)]) == 0
        assert (tmp_path / name).read_bytes().startswith(b"<!doctype html>")
    assert list(tmp_path.glob("*.tmp")) == []


def test_report_to_what_is_no_file_is_written_there(store, tmp_path):
    """A pipe or a device gets the page and stays what it is."""
    build(store)
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    assert main(["report", "--out", str(pipe), "--root", str(store.root)]) == 0
    reader.join(60)
    assert read[0].startswith(b"<!doctype html>")
    assert pipe.is_fifo()


def test_equal_descriptors_are_kept_once(store):
    """Results made in one way share their descriptor in the file."""
    for _ in range(3):
        build(store)
    document = pages.overview(store)
    pages.attest(store, document)
    assert len(document["descriptors"]) == 1
    assert {row["descriptor"] for row in document["results"]} == {0}
    assert document["results"][0]["row_count"] == DATA.num_rows
