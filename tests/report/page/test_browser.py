"""The page in a real browser, from the disk and without a network, as a reader meets it on a desk and on a phone."""

from __future__ import annotations

import base64
import csv
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import synthetic
from conftest import ROOT
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from ssa.report.figures.style import COLUMN, RC
from ssa.report.write import write_report

pytestmark = pytest.mark.slow
SHOTS = ROOT / "build" / "screenshots"
SIZES = {"desk": (1400, 900), "phone": (390, 844)}
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs a browser: apt-get install chromium chromium-driver")
    folder = synthetic.write(tmp_path_factory.mktemp("study"))
    write_report(folder, folder / "tables", folder / "figures", folder / "report.html")
    return (folder / "report.html").as_uri()


def browser(size: str, scheme: str = "light") -> webdriver.Chrome:
    """Chromium of one of :data:`SIZES`, with the network off."""
    width, height = SIZES[size]
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for text in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--window-size={width},{height}"):
        options.add_argument(text)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if size == "phone":
        metrics = {"width": width, "height": height, "pixelRatio": 2, "touch": True}
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    made.set_script_timeout(120)  # axe-core goes through the whole page, on a busy machine for more than the usual 30 s
    made.execute_cdp_cmd("Network.enable", {})
    off = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    made.execute_cdp_cmd("Network.emulateNetworkConditions", off)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    made.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    return made


def drawn(page: webdriver.Chrome) -> None:
    """Go to the interactive part and wait until its charts are there."""
    page.execute_script("document.getElementById('explore').scrollIntoView()")
    WebDriverWait(page, 60).until(lambda at: at.find_element(By.ID, "explorer").get_attribute("data-drawn"))


def shot(page: webdriver.Chrome, name: str) -> None:
    """The whole page, from top to bottom, as a picture for a person to look at."""
    page.execute_script("scrollTo({top: 0, behavior: 'instant'})")
    width, height = page.execute_script("return [innerWidth, document.documentElement.scrollHeight]")
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    taken = page.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    SHOTS.mkdir(parents=True, exist_ok=True)
    (SHOTS / f"report-{name}.png").write_bytes(base64.b64decode(taken["data"]))


def findings(page: webdriver.Chrome) -> list[Any]:
    """The findings of axe-core that are serious or worse."""
    from axe_core_python.selenium import Axe

    found = Axe().run(page)
    assert len(found["passes"]) > 20
    return [(v["id"], v["nodes"][0]["html"]) for v in found["violations"] if v["impact"] in ("serious", "critical")]


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[webdriver.Chrome]:
    made = browser("desk")
    made.get(address)
    drawn(made)
    yield made
    made.quit()


@pytest.mark.parametrize(
    ("size", "scheme"), [("desk", "light"), ("phone", "light"), ("desk", "dark"), ("phone", "dark")]
)
def test_the_page_opens_offline_without_a_complaint(address: str, size: str, scheme: str) -> None:
    page = browser(size, scheme)
    try:
        page.get(address)
        drawn(page)
        for image in page.find_elements(By.CSS_SELECTOR, "figure img"):
            assert image.is_displayed()
            assert page.execute_script("return arguments[0].complete && arguments[0].naturalWidth", image) > 100
        for chart in page.find_elements(By.CSS_SELECTOR, ".chart"):
            assert chart.size["height"] > 200
            assert chart.find_elements(By.CSS_SELECTOR, ".scatterlayer .trace")
        # Nothing sticks out. A phone's innerWidth grows with what does.
        assert page.execute_script("const all = document.documentElement; return all.scrollWidth <= all.clientWidth")
        assert findings(page) == []
        shot(page, f"{size}-{scheme}")
        assert page.get_log("browser") == []
    finally:
        page.quit()


def curves(page: webdriver.Chrome, chart: str) -> dict[str, list[float]]:
    """The numbers that a chart shows now, by method."""
    script = "return document.getElementById(arguments[0]).data.filter((t) => t.name).map((t) => [t.name, [...t.y]])"
    return dict(page.execute_script(script, chart))


def choose(page: webdriver.Chrome, name: str, text: str) -> None:
    label = next(e for e in page.find_elements(By.CSS_SELECTOR, "label.pick") if e.text.startswith(name))
    Select(label.find_element(By.TAG_NAME, "select")).select_by_visible_text(text)


def test_each_choice_changes_what_is_shown(page: webdriver.Chrome) -> None:
    for name, texts in {
        "Masks": ("magnitude", "random"),
        "Fine-tuning": ("constant, rate 0.01, 20 epochs, augmented", "one-cycle, rate 0.1, 20 epochs, augmented"),
    }.items():
        seen = []
        for text in texts:
            choose(page, name, text)
            seen.append([curves(page, chart) for chart in ("by-sparsity", "paired", "by-epoch")])
            assert text in page.find_element(By.CSS_SELECTOR, "#explorer .status").text
        assert all(first != second for first, second in zip(*seen, strict=True))
    for name, text, chart in (
        ("Sparsity", "50%", "by-epoch"),
        ("Differences", "Iterative", "paired"),
        ("Measure", "Test accuracy, BatchNorm re-estimated under the mask", "by-sparsity"),
    ):
        before = curves(page, chart), page.find_element(By.ID, "chosen").text
        choose(page, name, text)
        assert (curves(page, chart), page.find_element(By.ID, "chosen").text) != before


def test_points_stand_at_their_sparsity(page: webdriver.Chrome) -> None:
    for chart in ("by-sparsity", "paired"):
        script = (
            "const at = document.getElementById(arguments[0]); return [at.data.map((t) => [...t.x]), at.layout.xaxis]"
        )
        lines, axis = page.execute_script(script, chart)
        assert axis["ticktext"] == ["50", "90", "95", "98"]
        assert {x for line in lines for x in line} == set(axis["tickvals"])


def test_the_selection_is_in_the_address_and_comes_back_with_it(address: str, page: webdriver.Chrome) -> None:
    choose(page, "Masks", "magnitude")
    choose(page, "Fine-tuning", "constant, rate 0.01, 20 epochs, augmented")
    choose(page, "Sparsity", "90%")
    choose(page, "Differences", "Iterative")
    page.find_element(By.CSS_SELECTOR, "input[value=random]").send_keys(Keys.SPACE)
    shown = page.find_element(By.ID, "explorer").text
    assert "SSA random" not in page.find_element(By.ID, "chosen").text
    other = browser("desk")
    try:
        other.get(page.current_url)
        drawn(other)
        assert other.find_element(By.ID, "explorer").text == shown
        assert not other.find_element(By.CSS_SELECTOR, "input[value=random]").is_selected()
        assert curves(other, "by-epoch") == curves(page, "by-epoch")
        other.get(f"{address}#explore&criterion=unknown&sparsity=95")  # of a study that has other masks
        assert other.find_element(By.ID, "chosen-title").text.startswith("At 95% sparsity")
    finally:
        other.quit()
        page.find_element(By.CSS_SELECTOR, "input[value=random]").send_keys(Keys.SPACE)


def test_without_a_ticked_method_a_line_says_what_to_do(page: webdriver.Chrome) -> None:
    boxes = page.find_elements(By.CSS_SELECTOR, "#explorer input[type=checkbox]")
    for box in boxes:
        box.send_keys(Keys.SPACE)
    status = page.find_element(By.CSS_SELECTOR, "#explorer .status")
    assert status.text.endswith("No method is ticked: tick one to see its results.")
    assert not page.find_element(By.ID, "by-sparsity").is_displayed()
    assert not page.find_element(By.ID, "chosen").is_displayed()
    for box in boxes:
        box.send_keys(Keys.SPACE)
    assert "No method is ticked" not in status.text
    assert page.find_element(By.ID, "by-sparsity").size["height"] > 200


def downloaded(page: webdriver.Chrome, link: WebElement, folder: Path) -> list[dict[str, str]]:
    """The rows of the CSV file that ``link`` gives."""
    page.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", link)
    link.send_keys(Keys.ENTER)
    path = folder / str(link.get_attribute("download"))
    WebDriverWait(page, 30).until(lambda _: path.is_file())
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_each_charts_numbers_can_be_downloaded(page: webdriver.Chrome, tmp_path: Path) -> None:
    choose(page, "Masks", "random")
    choose(page, "Measure", "Test accuracy")
    choose(page, "Sparsity", "95%")
    for chart in ("by-sparsity", "paired", "by-epoch"):
        rows = downloaded(page, page.find_element(By.CSS_SELECTOR, f"a[data-chart={chart}]"), tmp_path)
        assert {row["criterion"] for row in rows} == {"random"}
        means = {
            method: [float(row["mean"]) for row in rows if row["method"] == method] for method in curves(page, chart)
        }
        assert means == curves(page, chart)
        assert all(float(row["low"]) < float(row["mean"]) < float(row["high"]) and row["n"] == "6" for row in rows)
    rows = downloaded(page, page.find_element(By.CSS_SELECTOR, "a[data-chart=chosen]"), tmp_path)
    texts = [cell.text for cell in page.find_elements(By.CSS_SELECTOR, "#chosen td:nth-child(2)")]
    assert [f"{float(row['accuracy']):.2f}" for row in rows] == [text.split()[0] for text in texts]


def test_a_method_can_be_taken_away_with_the_keyboard(page: webdriver.Chrome) -> None:
    box = page.find_element(By.CSS_SELECTOR, "input[value=temperature]")
    assert "SSA temperature" in curves(page, "by-sparsity")
    box.send_keys(Keys.SPACE)
    assert "SSA temperature" not in curves(page, "by-sparsity")
    assert "SSA temperature" not in [cell.text for cell in page.find_elements(By.CSS_SELECTOR, "#chosen th")]
    box.send_keys(Keys.SPACE)
    assert "SSA temperature" in curves(page, "by-sparsity")


def test_every_number_shown_carries_n_and_its_interval(page: webdriver.Chrome) -> None:
    choose(page, "Sparsity", "98%")
    cells = page.find_elements(By.CSS_SELECTOR, "#chosen td:nth-child(2)")
    assert cells
    assert all(" to " in cell.text and "n = 6" in cell.text for cell in cells)
    for row in page.find_elements(By.CSS_SELECTOR, ".forest .numbers"):
        assert "n = " in row.text
    texts = page.execute_script("return document.getElementById('paired').data.filter((t) => t.name)[0].text")
    assert len(texts) == 4
    assert all("n = 6" in text for text in texts)


def test_tables_sort_by_a_column_both_ways(page: webdriver.Chrome) -> None:
    table = page.find_element(By.CSS_SELECTOR, "#tables table")
    column = len(table.find_elements(By.CSS_SELECTOR, "thead th"))
    head = table.find_element(By.CSS_SELECTOR, "thead th:last-child")
    for order in ("ascending", "descending"):
        head.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
        assert head.get_attribute("aria-sort") == order
        texts = [cell.text for cell in table.find_elements(By.CSS_SELECTOR, f"tbody td:nth-child({column})")]
        numbers = [float(text.split(" ")[0]) for text in texts if text != "–"]
        assert len(numbers) > 2
        assert numbers == sorted(numbers, reverse=order == "descending")
        assert "–" not in texts[: len(numbers)]  # what is not there comes last


def test_a_figure_is_enlarged_and_put_back_with_the_keyboard(page: webdriver.Chrome) -> None:
    button = page.find_element(By.CSS_SELECTOR, "#accuracy_vs_sparsity button")
    dialog = page.find_element(By.ID, "zoom")
    assert not dialog.is_displayed()
    button.send_keys(Keys.ENTER)
    assert dialog.is_displayed()
    image = dialog.find_element(By.TAG_NAME, "img")
    width = image.size["width"]
    assert width >= page.find_element(By.CSS_SELECTOR, "#accuracy_vs_sparsity img").size["width"]
    dialog.find_element(By.CSS_SELECTOR, "[data-zoom='1.25']").click()
    assert image.size["width"] == pytest.approx(1.25 * width, abs=1)
    assert findings(page) == []
    webdriver.ActionChains(page).send_keys(Keys.ESCAPE).perform()
    assert not dialog.is_displayed()
    assert page.switch_to.active_element == button


def test_the_library_is_not_run_before_a_reader_gets_there(address: str) -> None:
    page = browser("phone")
    try:
        page.get(address)
        assert page.execute_script("return typeof window.Plotly") == "undefined"
        drawn(page)
        assert page.execute_script("return typeof window.Plotly") == "object"
    finally:
        page.quit()


def test_print_opens_what_is_folded(page: webdriver.Chrome) -> None:
    pdf = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF")
    assert page.execute_script("return [...document.querySelectorAll('details')].every((d) => d.open)")
    SHOTS.mkdir(parents=True, exist_ok=True)
    (SHOTS / "report-print.pdf").write_bytes(pdf)


def test_wide_tables_take_the_room_beside_the_text(page: webdriver.Chrome) -> None:
    page.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    script = (
        "return [...document.querySelectorAll('.scroll')].map((s) => [s.scrollWidth - s.clientWidth, s.clientWidth])"
    )
    over, widths = zip(*page.execute_script(script), strict=True)
    text = page.find_element(By.TAG_NAME, "main").size["width"]
    assert max(widths) > text
    assert max(over) == 0  # so that the last column, a verdict's, is in view
    assert page.execute_script("return document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_tiles_stand_side_by_side(page: webdriver.Chrome) -> None:
    boxes = [tile.rect for tile in page.find_elements(By.CSS_SELECTOR, ".tiles div")]
    assert len(boxes) == 5
    assert len({box["y"] for box in boxes}) == 1
    assert all(left["x"] + left["width"] <= right["x"] for left, right in itertools.pairwise(boxes))


def test_on_a_phone_a_figures_type_is_as_large_as_in_print_and_captions_are_short(address: str) -> None:
    page = browser("phone")
    try:
        page.get(address)
        wide = 0
        for image in page.find_elements(By.CSS_SELECTOR, ".drawing img"):
            inches = int(image.get_property("naturalWidth")) / RC["savefig.dpi"]
            assert image.size["width"] >= int(96 * inches)  # 96 CSS pixels are an inch, as 72 points are
            box = image.find_element(By.XPATH, "..")
            seen, whole = (box.get_property(name) for name in ("clientWidth", "scrollWidth"))
            assert seen <= 390
            assert (whole > seen) is (inches > COLUMN)  # one column fits, both scroll
            wide += inches > COLUMN
        assert wide > 2
        for caption in page.find_elements(By.CSS_SELECTOR, ".drawing + figcaption > p"):
            assert caption.size["height"] < 110  # four lines with the buttons
    finally:
        page.quit()


def test_on_a_phone_tables_scroll_in_their_box(address: str) -> None:
    page = browser("phone")
    try:
        page.get(address)
        page.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        script = "return [...document.querySelectorAll('.scroll')].map((s) => [s.scrollWidth, s.clientWidth])"
        sizes = page.execute_script(script)
        assert any(whole > seen for whole, seen in sizes)
        assert all(seen <= 390 for _, seen in sizes)
        assert page.execute_script(
            "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )
    finally:
        page.quit()
