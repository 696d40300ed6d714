"""The page in a real browser: Debian's headless Chromium, as `.ci/run` installs it."""

import csv
import functools
import os
import shutil
import time
from threading import Thread

import pytest

from gan_lightning.dashboard.comparison import compare
from gan_lightning.dashboard.page import build_page
from gan_lightning.dashboard.rows import tabulate
from gan_lightning.dashboard.run_folders import read_folder
from gan_lightning.dashboard.serve import Pages, make_server
from gan_lightning.figures import Figure

CHROMIUM = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser():
    """Yield a headless Chromium; without one the tests skip, except in CI, where that is a failure."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    if CHROMIUM is None or sync_playwright is None:
        reason = "needs playwright and Debian's chromium-headless-shell or chromium"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser, ablation, tmp_path, write_run):
    """Return a function that opens the runs' page; fails where the console complains or a request goes out."""
    contexts, complaints = [], []
    path = tmp_path / "page.html"

    def is_local(url: str) -> bool:
        return url == path.as_uri() or url.startswith("data:")

    def open_page(script: bool = True, **settings):
        path.write_text(build_page(read_folder(ablation), "Ablation", tmp_path), encoding="utf-8")
        context = browser.new_context(java_script_enabled=script, **settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(240_000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: None if is_local(request.url) else complaints.append(request.url))
        page.goto(path.as_uri())
        if script:
            page.wait_for_selector("html[data-ready='1']", timeout=240_000)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def shown(page, selector: str) -> list[str]:
    return [text for text in page.locator(selector).all_inner_texts() if text.strip()]


def cells(page) -> list[list[str]]:
    """Return the lines of the table of accuracies that are to be seen."""
    lines = page.locator("section", has_text="Random weights").locator("tbody tr:visible")
    return [line.split("\t") for line in lines.all_inner_texts()]


def marks(page, chart: str) -> list[str]:
    return page.locator(f"#{chart} [aria-roledescription='point']").evaluate_all(
        "marks => marks.map(mark => mark.getAttribute('aria-label'))"
    )


def wait_until(condition) -> None:
    """Wait for a chart, which draws by itself; the page's policy forbids Playwright's own way of waiting."""
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_the_charts_and_tables_say_what_was_worked_out(opened, ablation):
    page = opened()
    tables = tabulate(compare(read_folder(ablation).runs))
    expected = {
        (str(row["x"]), row["extractor"]): f"{row['mean']:.4f}"
        for row in tables.accuracies
        if (row["weights"], row["seed"]) == ("trained", "all")
    }
    assert {(line[0], line[1]): line[3] for line in cells(page)} == expected
    drawn = marks(page, "accuracy-0")
    for row in tables.accuracies:
        if row["seed"] == "all" and row["extractor"] != "chance":
            kind = {"trained": "ours", "random": "random weights"}[row["weights"]]
            wanted = [f"x: {row['x']}", f"extractor: {row['extractor']}", f"kind: {kind}", f"mean: {row['mean']:.4f}"]
            assert any(all(part in label for part in wanted) for label in drawn), (wanted, drawn)
    assert sum("kind: the paper's" in label for label in drawn) == 4
    assert page.locator("#accuracy-0 text", has_text="chance, below the scale: 0.1000").count() == 1
    assert len(marks(page, "difference-0")) == 4
    zero = page.locator("#difference-0 .layer_0_marks line").bounding_box()
    frame = page.locator("#difference-0 svg").bounding_box()
    assert zero["width"] > 0.8 * frame["width"], "a line where there is no difference"
    assert page.locator("[id^=epochs-] svg").count() == 2
    # A band for each extractor, and none that joins its figures with those of random weights.
    assert page.locator("#epochs-1 .mark-area path").count() == 4


def test_filters_choose_lines_marks_and_charts(opened):
    page = opened()
    page.select_option("select[name=shares_removed]", "4")
    assert {line[0] for line in cells(page)} == {"4"}
    wait_until(lambda: len(marks(page, "difference-0")) == 2)
    assert page.locator("[id^=epochs-]:visible").count() == 1
    assert page.locator("details.run:visible").count() == 3
    page.select_option("select[name=seed]", "1")
    assert [line[3:6] for line in cells(page)] == [["0.9300", "-", "1"], ["0.9400", "-", "1"]]
    assert page.locator("details.run:visible").count() == 1
    wait_until(lambda: any("mean: 0.9400" in label for label in marks(page, "accuracy-0")))
    page.click("#reset")
    assert len(cells(page)) == 4
    wait_until(lambda: page.locator("[id^=epochs-]:visible").count() == 2)


def test_what_is_closed_is_drawn_when_it_is_opened_and_then_follows_the_filters(opened, ablation):
    page = opened()
    assert page.locator("[id^=losses-] svg, [id^=figure-] svg").count() == 0
    anatomy = page.locator("details.measurement", has_text="anatomy: 3 figures of 6 runs")
    anatomy.locator("summary").first.click()
    page.wait_for_selector("#figure-0 svg")
    labels = marks(page, "figure-0")
    for x, kind, series, mean in (
        (4, "ours", "discriminator/real", 0.61), (0, "ours", "discriminator/generated", 0.21),
        (4, "random weights", "discriminator/real", 0.05),
    ):  # fmt: skip
        wanted = (f"x: {x}", f"kind: {kind}", f"series: {series}", f"mean: {mean}")
        assert any(all(part in label for part in wanted) for label in labels), (wanted, labels)
    assert page.locator("#figure-0 .layer_1_marks line").count() == 6
    assert page.locator("#figure-0 .layer_3_marks path").count() == 2 * 2 * 3
    curve = page.locator("#figure-2")
    curve.scroll_into_view_if_needed()
    page.wait_for_selector("#figure-2 .mark-area path")
    assert anatomy.locator("h3").all_inner_texts() == [
        "row_share", "Curves", "row_share, shares_removed = 0", "row_share, shares_removed = 4",
    ]  # fmt: skip
    page.select_option("select[name=shares_removed]", "0")
    wait_until(lambda: not any("x: 4" in label for label in marks(page, "figure-0")))
    wait_until(lambda: not curve.is_visible())
    anatomy.locator("summary").first.click()
    page.select_option("select[name=shares_removed]", "4")
    anatomy.locator("summary").first.click()
    wait_until(lambda: any("x: 4" in label for label in marks(page, "figure-0")))
    wait_until(lambda: curve.is_visible())
    page.locator("details.run:visible summary").first.click()
    page.locator("#losses-3").scroll_into_view_if_needed()
    page.wait_for_selector("#losses-3 svg")
    assert page.locator("details.run:visible img").first.is_visible()


def test_a_name_that_looks_like_a_script_stays_text_and_figures_of_all_sizes_are_drawn(opened, ablation, write_run):
    name = "<script>document.title='taken'<\u2215script>"
    long = f"😀{name}{'long' * 40}"
    for seed, value in ((7, 1.5e308), (8, -1.5e308)):
        own = [Figure(measurement=name, metric=long, subject=long, value=each) for each in (value,)]
        own += [Figure(measurement=name, metric="tiny", value=value * 1e-320, condition="'\"\\")]
        own += [Figure(measurement=name, metric=long, value=value, axis=long, at=at) for at in (1.0, 2.0)]
        accuracies = {"discriminator": 0.5, "classifier": 0.6}
        write_run(ablation, f"{name}{seed}", accuracies, shares_removed=4, seed=seed, measured=own)
    page = opened()
    assert page.title() == "Ablation"
    assert any("<script>" in text for text in shown(page, "details.run > summary"))
    measured = page.locator("details.measurement", has_text="<script>")
    measured.locator("summary").first.click()
    for chart in measured.locator(".chart").all():
        chart.scroll_into_view_if_needed()
        wait_until(lambda chart=chart: chart.locator("svg path").count() > 0)
    assert measured.locator(".chart").count() == 3
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


def test_a_figures_data_are_downloaded_and_no_spreadsheet_takes_a_name_for_a_formula(opened, ablation, write_run):
    name = '=1+1, "quoted"'
    write_run(ablation, name, {"discriminator": 0.5, "classifier": 0.625}, shares_removed=4, seed=7, shift=-1.5)
    page = opened()

    def downloaded(file: str) -> list[dict[str, str]]:
        with page.expect_download() as download:
            page.click(f"[data-csv='{file}']")
        assert download.value.suggested_filename == file
        with download.value.path().open(newline="") as lines:
            return list(csv.DictReader(lines))

    (row,) = [row for row in downloaded("difference.csv") if (row["x"], row["seed"]) == ("4", "7")]
    assert (row["mean"], row["low"], row["n"], row["shift"]) == ("0.125", "", "1", "-1.5")
    assert {row["run"] for row in downloaded("runs.csv") if row["seed"] == "7"} == {f"'{name}"}


def test_everything_can_be_read_without_scripts(opened):
    page = opened(script=False)
    assert [line[3] for line in cells(page)] == ["0.9100", "0.9100", "0.9150", "0.9350"]
    assert page.locator("noscript").is_visible()
    assert page.locator("details.measurement:visible").count() == 3
    scripted = "#filters", "[data-csv]", "#theme", ".charts"
    assert page.locator(", ".join(scripted)).count() > 6
    assert page.locator(", ".join(f"{each}:visible" for each in scripted)).count() == 0, "they need scripts"


def test_a_phone_has_room_for_the_names_of_classes_and_their_settings(opened, ablation, write_run):
    shutil.rmtree(ablation)
    updates = [{"class": "InverseExamples", "discrepancy": f"number-{i}", "steps": 2**i} for i in range(6)]
    for i, update in enumerate([{"class": "Direct"}, *updates]):
        write_run(ablation, f"u{i}", {"discriminator": 0.5 + i / 10}, generator_update=update)
    page = opened(viewport={"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    labels = page.locator("#accuracy-0 .role-axis-label text")
    boxes = [label.bounding_box() for label in labels.all() if "InverseExamples" in label.text_content()]
    assert len(boxes) == 6
    assert len({box["x"] + box["width"] for box in boxes}) == 6, "side by side, each at an angle"
    assert all(box["height"] > 100 for box in boxes)


def test_an_open_page_follows_the_runs_and_keeps_its_filters(browser, ablation, write_run):
    def make_page(version: str) -> str:
        return build_page(read_folder(ablation), "Ablation", ablation, None, 0.2, version)

    with make_server(Pages(ablation, make_page), 0) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        context = browser.new_context()
        page, complaints = context.new_page(), []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        page.wait_for_selector("html[data-ready='1']")
        page.select_option("select[name=shares_removed]", "4")
        assert page.locator("details.run:visible").count() == 3
        write_run(ablation, "new", {"discriminator": 0.9, "classifier": 0.91}, seed=9, shares_removed=4)
        page.wait_for_selector("details.run:has-text('new') >> visible=true")
        page.wait_for_selector("html[data-ready='1']")
        assert page.locator("details.run:visible").count() == 4
        context.close()
        server.shutdown()
        thread.join()
    assert complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_a_phone_and_a_desk_in_the_light_and_in_the_dark(opened, scheme, width):
    page = opened(viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for chart in page.locator(".charts svg").all():
        assert chart.bounding_box()["width"] <= width
    contrast = functools.partial(page.evaluate, _CONTRAST)
    for selector in ("body", "td", ".soft", "th", "#accuracy-0 svg .role-axis-label text", "[data-csv]"):
        assert contrast(selector) >= 4.5, selector
    if scheme == "dark":
        shapes = page.locator("#accuracy-0 .role-legend-symbol path[fill]").evaluate_all(
            "all => all.map((path) => getComputedStyle(path).fill)"
        )
        assert "rgb(0, 0, 0)" not in shapes, "black on black"
    picture = page.screenshot()
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    assert page.screenshot() != picture


_CONTRAST = """selector => {
  const light = colour => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const element = document.querySelector(selector), style = getComputedStyle(element);
  const ink = element.closest("svg") ? style.fill : style.color;
  const [a, b] = [light(ink), light(getComputedStyle(document.body).backgroundColor)];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""
