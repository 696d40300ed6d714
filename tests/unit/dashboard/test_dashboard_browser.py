"""The page in a real browser: Debian's headless Chromium, as `.ci/run` installs it."""

import csv
import functools
import os
import shutil
import time
from threading import Thread
from urllib.parse import unquote

import pytest
from PIL import Image

from gan_lightning.dashboard.comparison import compare
from gan_lightning.dashboard.page import build_page
from gan_lightning.dashboard.rows import figure_rows
from gan_lightning.dashboard.run_folders import read_folder
from gan_lightning.dashboard.serve import Pages, make_server
from gan_lightning.figures import Figure

CHROMIUM = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None)
READY = "html[data-ready='1']"


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


@pytest.fixture(scope="module")
def open_folder(browser, tmp_path_factory):
    """Return a function that opens the page of a folder; fails where the console complains or a request goes out."""
    contexts, complaints = [], []

    def open_page(root, script: bool = True, more: str = "", **settings):
        path = tmp_path_factory.mktemp("page") / "page.html"
        path.write_text(build_page(read_folder(root), "Ablation", path.parent), encoding="utf-8")
        context = browser.new_context(java_script_enabled=script, **settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda request: None if request.url.startswith(("file:", "data:")) else complaints.append(request.url),
        )
        page.goto(path.as_uri() + more)
        if script:
            page.wait_for_selector(READY)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="module")
def page(open_folder, shared_layers):
    """Return the page of the ablation of shared layers, on which all tests of this module look."""
    return open_folder(shared_layers, viewport={"width": 1280, "height": 900})


@pytest.fixture(autouse=True)
def _at_first(request):
    """Give the common page back as it was opened."""
    yield
    if "page" in request.fixturenames:
        at(request.getfixturevalue("page"), "")


def in_sight(page, chart: str) -> None:
    """Bring a chart into sight, and wait until it shows the page's present state."""
    page.locator(f"#{chart}").scroll_into_view_if_needed()
    deadline = time.monotonic() + 30
    while not page.evaluate("id => boxes.get(document.getElementById(id)).stamp === stamp", chart):
        assert time.monotonic() < deadline, f"{chart} is not drawn"
        time.sleep(0.01)


def texts(page, chart: str) -> list[str]:
    """Return what the marks of a chart say; the chart is brought into sight first."""
    in_sight(page, chart)
    return page.locator(f"#{chart} path.mark").evaluate_all("all => all.map(mark => mark.dataset.text)")


def four_digits(value: float) -> str:
    in_page = float(f"{value:.6g}")
    return f"{float(f'{in_page:.4g}'):.15g}"


def settle(page) -> None:
    """Wait until the page has drawn what its address says."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 30)))")


def at(page, address: str) -> None:
    page.evaluate("address => { location.hash = address }", address)
    settle(page)


def test_marks_say_the_means_intervals_and_n_that_were_worked_out(page, shared_layers):
    assert page.locator("h1").inner_text() == "Ablation"
    drawn = texts(page, "figure-0")
    rows = figure_rows(compare(read_folder(shared_layers).runs))
    wanted = [row for row in rows if (row["protocol"], row["metric"], row["axis"]) == ("tuned", "accuracy", "")]
    assert len(wanted) == 5 * 5
    for row in wanted:
        name = row["subject"] + (" · random weights" if row["weights"] == "random" else "")
        ends = "" if row["low"] is None else f" [{four_digits(row['low'])}, {four_digits(row['high'])}]"
        said = f"{name}: {four_digits(row['mean'])}{ends}, n = {row['n']}, shares_removed = {row['x']}"
        assert any(text.startswith(said) for text in drawn), (said, drawn)
    assert "Below the scale: chance 0.1" in page.locator("#figure-0 .note").inner_text()
    assert page.locator("#figure-0 path.line").count() == 5, "numbers are joined"


def test_the_difference_is_drawn_about_a_line_at_zero(page):
    drawn = texts(page, "figure-1")
    assert page.locator("#figure-1 figcaption").inner_text() == "difference: tuned"
    assert len(drawn) == 5
    assert all(text.startswith("classifier - discriminator: ") for text in drawn)
    assert page.locator("#figure-1 line.zero").count() == 1


def test_accuracies_stay_between_0_and_1_and_values_are_dodged_about_their_tick(page):
    texts(page, "figure-0")
    ticks = [float(text) for text in page.locator("#figure-0 text.ytick").all_text_contents()]
    assert all(0 <= tick <= 1 for tick in ticks)
    assert len(ticks) > 2
    places = page.locator("#figure-0 path.mark").evaluate_all(
        "all => all.filter(m => m.dataset.text.includes('removed = 2')).map(m => m.transform.baseVal[0].matrix.e)"
    )
    (tick,) = page.locator("#figure-0 text.xtick").evaluate_all(
        "all => all.filter(t => t.firstChild.data === '2').map(t => t.x.baseVal[0].value)"
    )
    assert len(places) == 5
    assert sum(places) / 5 == pytest.approx(tick, abs=0.1)


def test_filters_take_several_values_and_stand_in_the_address(page):
    page.locator("details.filter[data-name=shares_removed] summary").click()
    for value in ("1", "3"):
        page.locator(f"details.filter[data-name=shares_removed] input[value='{value}']").check()
    settle(page)
    assert {text.rsplit(" ", 1)[1] for text in texts(page, "figure-0")} == {"1", "3"}
    assert page.locator("#runs tbody tr").count() == 10
    assert "f.shares_removed=1&f.shares_removed=3" in unquote(page.evaluate("location.hash"))
    page.click("#reset")
    settle(page)
    assert page.locator("#runs tbody tr").count() == 25
    assert page.evaluate("location.hash") == ""


def test_an_address_brings_back_the_state_and_a_chosen_seed_stands_alone(page):
    at(page, "f.seed=2&f.protocol=tuned&sort=-transfer%2Fclassifier%2Ftuned%2Faccuracy")
    assert all("seed 2" in text and "[" not in text for text in texts(page, "figure-0"))
    column = page.locator("#runs thead th").all_inner_texts().index("transfer/classifier/tuned/accuracy ↓")
    values = [float(text) for text in page.locator(f"#runs tbody td:nth-child({column + 1})").all_inner_texts()]
    assert len(values) == 5
    assert values == sorted(values, reverse=True)
    in_sight(page, "figure-2")
    assert page.locator("#figure-2").get_attribute("class").split() == ["chart", "empty"], "another probe"


def test_two_runs_are_compared_by_their_differences_curves_and_pictures_by_epoch(page):
    at(page, "run=shared%2F00ab%2Frun&run=shared%2F31ab%2Frun")
    rows = [line.split("\t") for line in page.locator("#diff tbody tr").all_inner_texts()]
    assert rows == [["shares_removed", "0", "3"], ["seed", "0", "1"]]
    in_sight(page, "logged")
    names = page.locator("#logged path.line").evaluate_all("all => all.map(line => line.dataset.name)")
    assert names == ["shares_removed = 0, seed 0", "shares_removed = 3, seed 1"]
    shown = []
    for place in (0, 1, 2):
        page.locator("#epoch").fill(str(place))
        shown.append(
            [
                each.split("/pictures/")[1]
                for each in page.locator("#compared img").evaluate_all("all => all.map(i => i.src)")
            ]
        )
    assert shown == [["samples-epoch-0001.png"] * 2, ["samples-epoch-0005.png"] * 2, ["samples.png"] * 2]
    page.locator("#compared img").first.scroll_into_view_if_needed()
    deadline = time.monotonic() + 20
    while page.locator("#compared img").first.evaluate("image => image.naturalWidth") != 4:
        assert time.monotonic() < deadline, "the picture beside the page is not shown"


def test_the_keyboard_reads_a_chart_figure_by_figure(page):
    texts(page, "figure-0")
    page.locator("#figure-0 svg").focus()
    page.keyboard.press("ArrowRight")
    first = page.locator("#tip").inner_text()
    page.keyboard.press("ArrowRight")
    second = page.locator("#tip").inner_text()
    assert "n = 5, shares_removed = 0" in first
    assert first != second
    page.keyboard.press("Escape")
    assert not page.locator("#tip").is_visible()


def test_a_curve_says_all_lines_at_the_pointer(page):
    in_sight(page, "logged")
    box = page.locator("#logged svg").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 100)
    said = page.locator("#tip").inner_text().splitlines()
    assert len(said) == 12
    assert len({line.rsplit(" ", 1)[1] for line in said}) == 1, "all at one batch"


def test_what_is_shown_is_saved_as_csv_svg_and_png(page):
    at(page, "f.shares_removed=4")
    texts(page, "figure-0")

    def saved(button: str):
        with page.expect_download() as download:
            page.click(f"#figure-0 .save button:text-is('{button}')")
        return download.value.path()

    with saved("CSV").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert {row["shares_removed"] for row in rows} == {"4"}
    assert {row["seed"] for row in rows} == {"all", "0", "1", "2", "3", "4"}
    drawing = saved("SVG").read_text()
    assert drawing.startswith("<svg")
    assert "var(" not in drawing
    with Image.open(saved("PNG")) as image:
        assert image.width == 2 * page.locator("#figure-0 svg").evaluate("drawing => drawing.viewBox.baseVal.width")
        assert len(image.convert("RGB").getcolors(100_000)) > 5
    with page.expect_download() as download:
        page.click("#runs-csv")
    assert len(download.value.path().read_text().splitlines()) == 1 + 5


def test_what_is_not_in_sight_is_not_drawn(open_folder, shared_layers):
    fresh = open_folder(shared_layers, viewport={"width": 1280, "height": 500})
    assert fresh.locator("svg").count() <= 2
    closed = fresh.locator("details.measurement:has(> summary:has-text('anatomy'))")
    assert closed.locator(".chart").count() > 1
    assert closed.locator("svg").count() == 0
    closed.locator("summary").first.click()
    closed.locator(".chart").first.scroll_into_view_if_needed()
    closed.locator("svg path.mark").first.wait_for()


@pytest.mark.slow
def test_names_with_markup_and_figures_of_all_sizes_are_drawn(open_folder, tmp_path, write_run):
    name = "<script>document.title='taken'<\u2215script>"
    long = f"😀{name}{'long' * 40}"
    for seed, value in ((7, 1.5e308), (8, -1.5e308)):
        own = [Figure(measurement=name, metric=long, subject=long, value=value)]
        own += [Figure(measurement=name, metric="tiny", value=value * 1e-320, condition="'\"\\")]
        own += [Figure(measurement=name, metric=long, value=value, axis=long, at=at) for at in (1.0, 2.0)]
        accuracies = {"discriminator": 0.5, "classifier": 0.6}
        write_run(tmp_path, f"{name}{seed}", accuracies, option=f"{long}{seed}", seed=seed, measured=own)
    for seed in range(60):
        write_run(
            tmp_path, f"s{seed}", {"discriminator": 0.5 + seed / 1000, "classifier": 0.6}, seed=seed, option=[1, 2]
        )
    page = open_folder(tmp_path)
    assert page.title() == "Ablation"
    measured = page.locator("details.measurement:has(> summary:has-text('<script>'))")
    measured.locator("summary").first.click()
    for chart in measured.locator(".chart").all():
        chart.scroll_into_view_if_needed()
        chart.locator("svg path").first.wait_for(state="attached")
    assert measured.locator(".chart").count() == 3
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


@pytest.mark.slow
def test_texts_are_not_joined_and_have_room_on_a_phone(open_folder, tmp_path, write_run):
    for i in range(6):
        update = {"class": "InverseExamples", "discrepancy": f"number-{i}", "steps": 2**i}
        write_run(tmp_path, f"u{i}", {"discriminator": 0.5 + i / 10}, generator_update=update)
    page = open_folder(tmp_path, viewport={"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    texts(page, "figure-0")
    assert page.locator("#figure-0 path.line").count() == 0
    labels = [each.bounding_box() for each in page.locator("#figure-0 text.xtick").all()]
    assert len({box["x"] + box["width"] for box in labels}) == 6, "side by side, each at an angle"


@pytest.mark.slow
def test_a_search_has_parallel_coordinates_and_ranges_as_filters(open_folder, search):
    page = open_folder(search)
    assert page.locator("pre.command").inner_text().startswith("gan-lightning fit --i=")
    in_sight(page, "parallel")
    assert page.locator("#parallel path.line").count() == 40
    page.locator("details.filter[data-name=class_weight] summary").click()
    page.locator("input[aria-label='class_weight from']").fill("0.01")
    page.keyboard.press("Tab")
    settle(page)
    kept = [run for run in read_folder(search).runs if run.settings["class_weight"] >= 0.01]
    assert page.locator("#parallel path.line").count() == len(kept) == page.locator("#runs tbody tr").count()
    page.select_option("select[name=x]", "generators")
    settle(page)
    assert all("generators = " in text for text in texts(page, "figure-0"))


@pytest.mark.slow
def test_everything_important_can_be_read_without_scripts(open_folder, shared_layers):
    page = open_folder(shared_layers, script=False)
    assert "grows by" in page.locator(".sentence").first.inner_text()
    assert page.locator(".answer").first.locator("tbody tr:visible").count() == 5
    assert page.locator("noscript").is_visible()
    assert page.locator(".script:visible").count() == 0


@pytest.mark.slow
def test_an_open_page_follows_a_running_sweep_and_keeps_its_state(browser, tmp_path, running_sweep, hold):
    root = tmp_path / "runs"
    shutil.copytree(running_sweep, root)

    def make_page(version: str) -> str:
        return build_page(read_folder(root), "Ablation", root, None, 0.2, version)

    with hold(root), make_server(Pages(root, make_page), 0) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        context = browser.new_context()
        page, complaints = context.new_page(), []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"http://127.0.0.1:{server.server_port}/#f.status=running")
        page.wait_for_selector(READY)
        assert page.locator("#runs tbody tr").count() == 3
        in_sight(page, "logged")
        assert page.locator("#logged path.line").count() == 3, "the curves of running trials"
        log = root / "shared/42ab/run/metrics.csv"
        with page.expect_event("load", timeout=30_000):
            log.write_text(log.read_text().rpartition("\n")[0] + "\n41,0.01\n42,7.5\n")
        page.wait_for_selector(READY)
        assert page.locator("#runs tbody tr").count() == 3
        assert page.evaluate("data.curves.filter(([, , , values]) => values.at(-1) === 7.5).length") == 1
        context.close()
        server.shutdown()
        thread.join()
    assert complaints == []


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_a_phone_and_a_desk_in_the_light_and_in_the_dark(open_folder, shared_layers, scheme, width):
    page = open_folder(shared_layers, viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    texts(page, "figure-0")
    contrast = functools.partial(page.evaluate, _CONTRAST)
    for selector in (
        ".sentence",
        ".sentence b",
        ".doubt",
        "td",
        ".soft",
        "#runs th button",
        "#figure-0 svg text.xtick",
    ):
        assert contrast(selector) >= 4.5, selector
    if width == 390:
        page.locator(".answer > details summary").first.click()
        cell = page.locator(".answer td[data-title='95% interval']").first
        assert cell.is_visible()
        assert cell.bounding_box()["x"] + cell.bounding_box()["width"] <= width, "no column is lost"
        frames = [each.bounding_box() for each in page.locator("#runs tbody tr").first.locator("td").all()]
        assert len(frames) > 5
        assert all(frame["x"] >= 0 and frame["x"] + frame["width"] <= width for frame in frames)
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before


_CONTRAST = """selector => {
  const light = colour => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const element = document.querySelector(selector), style = getComputedStyle(element);
  const ink = element.closest("svg") ? style.fill : style.color;
  const ground = element.closest(".answer") ?? document.body;
  const [a, b] = [light(ink), light(getComputedStyle(ground).backgroundColor)];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""
