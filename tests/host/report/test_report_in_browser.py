"""Reports in a real browser: Debian's Chromium, without a window, driven by playwright."""

import shutil
from contextlib import contextmanager

import pytest

from ld3m_plugin.report.writing import write_report

pytestmark = pytest.mark.slow

#: Texts whose contrast to what is behind them is below that of WCAG 2, AA.
TOO_FAINT = """() => {
  const channels = (color) => (color.match(/[\\d.]+/g) ?? []).map(Number);
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((c) => c / 255).map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const found = channels(getComputedStyle(one).backgroundColor);
      if (found.length === 3 || found[3] > 0) return found.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const element of document.querySelectorAll("body *:not(script)")) {
    if (![...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
    if (["title", "desc"].includes(element.tagName)) continue;
    const style = getComputedStyle(element);
    const color = element.closest("svg") ? style.fill : style.color;
    const [one, other] = [luminance(channels(color).slice(0, 3)), luminance(behind(element))].sort((a, b) => b - a);
    const contrast = (one + 0.05) / (other + 0.05);
    if (contrast < 4.5) faint.push([element.textContent.slice(0, 40), contrast]);
  }
  return faint;
}"""
UNREADABLE = "() => [...document.images].filter((i) => !i.complete || i.naturalWidth === 0).length"


@pytest.fixture(scope="module")
def browser():
    """A Chromium of this machine; skips where there is none."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("there is no Chromium on this machine: apt-get install chromium")
    with playwright.sync_playwright() as running:
        # The sandbox needs rights that containers and root do not have.
        chromium = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser):
    """Opens a page; what it writes to the console, asks, or loads beside itself fails the test."""

    @contextmanager
    def open_page(path, width=1400, scheme="light", **options):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, **options)
        page, heard = context.new_page(), []
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("dialog", lambda dialog: (heard.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: heard.append(request.url[:80]) if not request.url.startswith(mine) else None)
        mine = (path.as_uri(), "data:")
        page.goto(path.as_uri())
        try:
            yield page
            assert heard == []
        finally:
            context.close()

    return open_page


@pytest.fixture(params=["run", "comparison"])
def folder(request, run_folder, comparison_folder):
    """A run and a comparison, with a class name that no line can hold."""
    return (run_folder if request.param == "run" else comparison_folder)(["cat", "dog" * 200, "bird"])


def test_it_reads_well_at_any_width_and_in_light_and_dark(folder, opened):
    path, backgrounds = write_report(folder), set()
    for width in (360, 1400):
        for scheme in ("light", "dark"):
            with opened(path, width, scheme) as page:
                assert page.evaluate("document.documentElement.scrollWidth") <= width
                assert page.evaluate("document.images.length") > 0
                assert page.evaluate(UNREADABLE) == 0
                page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
                assert page.evaluate("document.documentElement.scrollWidth") <= width
                assert page.evaluate(TOO_FAINT) == []
                backgrounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(backgrounds) == 2


def column(page, place):
    """The values of a column of the first table."""
    script = (
        f"[...document.querySelector('table.sortable').tBodies[0].rows].map((row) => row.cells[{place}].dataset.value)"
    )
    return page.evaluate(script)


def test_tables_sort_by_keyboard(folder, opened):
    with opened(write_report(folder)) as page:
        headers = page.locator("table.sortable").first.locator("th button")
        titles = headers.all_inner_texts()
        place = next(index for index, title in enumerate(titles) if title in ("distilled", "ConvNet"))
        before = column(page, place)
        headers.nth(place - 1).focus()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        numbers = [float(value) for value in column(page, place)]
        assert numbers == sorted(map(float, before))
        header = page.locator("table.sortable").first.locator("th[aria-sort]")
        assert header.get_attribute("aria-sort") == "ascending"
        assert titles[place] in page.locator("#sorted").inner_text()
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("Space")
        assert [float(value) for value in column(page, place)] == sorted(numbers, reverse=True)
        assert header.get_attribute("aria-sort") == "descending"
        assert header.count() == 1
        heights = page.evaluate(
            "[...document.querySelectorAll('th button')].map((b) => b.getBoundingClientRect().height)"
        )
        assert min(heights) >= 24  # WCAG 2.2, 2.5.8


def test_rows_without_a_value_stand_last_in_both_orders(comparison_folder, opened):
    with opened(write_report(comparison_folder())) as page:
        headers = page.locator("table.sortable").first.locator("th button")
        place = headers.all_inner_texts().index("numbers per class")  # random real images have none
        button = headers.nth(place)
        for _ in range(2):
            button.press("Enter")
            assert column(page, place)[-1] == ""


def test_the_first_key_leads_to_the_results(folder, opened):
    with opened(write_report(folder), 360) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
        page.keyboard.press("Enter")
        assert page.evaluate("location.hash") == "#main"


def test_it_reads_without_script_and_on_paper(folder, opened, browser):
    path = write_report(folder)
    with opened(path, java_script_enabled=False) as page:
        assert page.locator("th button").count() == 0
        assert page.locator("main table").first.is_visible()
        assert page.locator("img").first.is_visible()
        assert page.pdf(format="A4").startswith(b"%PDF")


@pytest.mark.parametrize("kind", ["run", "comparison"])
def test_names_of_strangers_do_nothing(kind, run_folder, comparison_folder, hostile, opened):
    if kind == "run":
        folder = run_folder(hostile, generator={"name": hostile[0], hostile[1]: hostile[2]}, seen_networks=hostile)
    else:
        folder = comparison_folder(hostile, data=hostile[1], generator=hostile[0], varied={hostile[7]: hostile[8]})
    with opened(write_report(folder), 360) as page:
        assert page.evaluate("document.scripts.length") == 1
        assert page.evaluate(UNREADABLE) == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
