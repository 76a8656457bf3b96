"""The site in a real Chromium, opened from `file:`: all that can be clicked works, nothing can be injected."""

import io
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import numpy as np
import pytest
from PIL import Image
from support import gallery
from support.browser import browser_or_skip, visit

from cluster.gallery.site import Options, alone, build
from distill.published import forms, write


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site of two runs of one dataset, a poster, canvases, a sampler and a set with hostile names; its URL."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forms, "SAMPLER_MODULES", ("support.",))
        where = gallery.places(tmp_path_factory.mktemp("gallery"))
        sets = gallery.folders(where)
        write(gallery.many(1000), where.folder / "sets" / "many")
        names = ["first-20", "second-20", *sets.values(), str(where.folder / "sets" / "many")]
        out = where.folder / "site"
        options = Options(title=gallery.HOSTILE[0], downloads=False, seeds=4)
        results = build(names, out, where.store, where.tracking, options)
        (out / "alone.html").write_text(alone(results[0], options))
    return out.as_uri()


@pytest.fixture(scope="module")
def browser():
    with browser_or_skip() as running:
        yield running


PAGES = (
    "index.html", "compare-digits.html", "first-20/index.html", "poster/index.html", "fabric/index.html",
    "fabric/swatch.html", "clouds/index.html", "hostile/index.html", "many/index.html",
)  # fmt: skip


def seen(element) -> Image.Image:
    """What an element looks like."""
    return Image.open(io.BytesIO(element.screenshot()))


def level_of(element) -> float:
    """Mean grey level of a piece of an element."""
    return gallery.colour(seen(element).crop((20, 20, 40, 40)))


def until(page, condition) -> None:
    """Wait until a JavaScript condition holds in the page, or a Python one (a callable) of what is seen of it.

    Page.wait_for_function would need eval(), which the policy of the pages forbids.
    """
    holds = condition if callable(condition) else lambda: page.evaluate(condition)
    for _ in range(400):
        if holds():
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"still not after 20 seconds: {condition}")


@pytest.mark.parametrize("path", PAGES)
def test_a_page_loads_whole_from_a_file_and_asks_nobody(path, site, browser):
    seen = visit(browser, 390, 844).open(f"{site}/{path}")
    page = seen.page
    page.evaluate("for (const i of [...document.images].slice(0, 60)) i.loading = 'eager'")
    until(page, "[...document.images].slice(0, 60).every(i => i.complete)")
    assert page.evaluate("[...document.images].slice(0, 60).filter(i => !i.naturalWidth).map(i => i.src)") == []
    assert page.evaluate("[...document.images].every(i => i.hasAttribute('alt'))")
    overflow = page.evaluate("document.scrollingElement.scrollWidth - innerWidth")
    assert overflow <= 0, "wider than a phone"
    assert page.evaluate("window.hacked") is None
    assert seen.faults == []


def test_hostile_names_are_text(site, browser):
    page = visit(browser).open(f"{site}/hostile/index.html").page
    assert page.locator(".card .name").all_inner_texts() == list(gallery.HOSTILE)
    assert page.locator("h1").inner_text() == gallery.HOSTILE[1]
    assert page.locator(".card img").first.get_attribute("alt") == f"Distilled image of {gallery.HOSTILE[0]}"
    assert "/home/somebody" not in page.content()
    page.goto(f"{site}/index.html")
    assert page.locator("h1").inner_text() == gallery.HOSTILE[0]


def test_the_policy_of_a_page_stops_scripts_styles_and_requests_that_are_not_its_own(site, browser):
    seen = visit(browser).open(f"{site}/first-20/index.html")
    seen.page.evaluate(
        """() => { const s = document.createElement('script'); s.textContent = 'window.hacked = 1';
        const i = document.createElement('img'); i.src = 'http://127.0.0.1:9/x.png';
        const d = document.createElement('div'); d.innerHTML = '<p id=p style="color: rgb(1, 2, 3)">';
        document.body.append(s, i, d); }"""
    )
    assert seen.page.evaluate("window.hacked") is None
    assert seen.page.evaluate("getComputedStyle(document.getElementById('p')).color") != "rgb(1, 2, 3)"
    until(seen.page, "document.images[document.images.length - 1].complete")
    assert seen.faults and all("Content Security Policy" in fault or "127.0.0.1:9" in fault for fault in seen.faults)
    for directive in ("script-src", "style-src", "img-src"):
        assert any(f"{directive} " in fault for fault in seen.faults), directive


def test_the_scrubber_shows_each_step_by_key_and_plays_them(site, browser):
    seen_ = visit(browser).open(f"{site}/second-20/index.html")
    page, stage = seen_.page, seen_.page.locator("#class-3 .stage")
    assert page.locator("#step-out").inner_text() == "published, step 20"
    assert gallery.colour(seen(stage)) > 0.8
    page.locator("#step").focus()
    for level, step in ((0.5, 10), (0.1, 0)):
        page.keyboard.press("ArrowLeft")
        assert page.locator("#step-out").inner_text() == f"step {step}"
        until(page, "!document.querySelector('#class-3 canvas').hidden")
        until(page, lambda: level_of(stage.locator("canvas")) == pytest.approx(level, abs=0.03))  # noqa: B023
    page.get_by_label("Play the steps").click()
    until(page, "document.getElementById('step-out').textContent === 'step 20'")
    page.get_by_label("As published").check()
    until(page, "document.querySelector('#class-3 canvas').hidden")
    assert seen_.faults == []


def test_results_are_compared_at_one_step_and_columns_can_be_hidden(site, browser):
    seen_ = visit(browser).open(f"{site}/compare-digits.html")
    page = seen_.page
    page.locator("#step").focus()
    page.keyboard.press("Home")
    until(page, "[...document.querySelectorAll('tbody tr:first-child canvas')].every(c => !c.hidden && c.width > 0)")
    for stage in page.locator("tbody tr").first.locator(".stage").all():
        until(page, lambda: level_of(stage) == pytest.approx(0.1, abs=0.03))  # noqa: B023
    page.get_by_label("second", exact=True).uncheck()
    assert page.locator("tbody tr").first.locator("td:visible .stage").count() == 1
    assert seen_.faults == []


def test_textures_are_tiled_and_fill_the_page(site, browser):
    seen_ = visit(browser).open(f"{site}/fabric/index.html")
    page, canvas = seen_.page, seen_.page.locator("#class-2 canvas")
    page.locator("input[name=copies][value='3']").check()
    until(page, "document.querySelector('#class-2 canvas').width === 192")
    assert canvas.evaluate("c => c.height") == 144

    def the_same_nine_times() -> bool:
        whole = np.asarray(seen(canvas).convert("L").resize((24, 24)), float)
        cells = whole.reshape(3, 8, 3, 8).transpose(0, 2, 1, 3).reshape(9, 8, 8)
        return np.abs(cells - cells.mean(0)).mean() < 0.25 * cells.mean(0).std()

    until(page, the_same_nine_times)
    page.locator("#class-1 .stage").focus()
    page.keyboard.press("Enter")
    assert page.locator("#viewer").is_visible() and page.locator("#viewer-name").inner_text() == gallery.HOSTILE[1]
    page.locator("#close").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#viewer-name").inner_text() == "lemon"
    until(page, "document.querySelector('#viewer canvas').width > 1000")
    viewer = page.locator("#viewer")
    until(page, lambda: np.asarray(seen(viewer).convert("L").crop((900, 100, 1200, 500))).std() > 10)
    page.keyboard.press("Escape")
    assert not page.locator("#viewer").is_visible()
    assert page.evaluate("document.activeElement.closest('.card').id") == "class-1"
    assert seen_.faults == []


def test_a_poster_has_regions_patches_and_a_lens(site, browser):
    seen_ = visit(browser).open(f"{site}/poster/index.html")
    page = seen_.page
    assert page.locator(".regions").is_hidden() and page.locator(".dots").is_hidden()
    page.get_by_label("Class regions").check()
    page.get_by_label("Patch centres").check()
    assert page.locator(".regions").is_visible() and page.locator(".dots").is_visible()
    assert page.locator(".sheet text").all_text_contents() == list(gallery.HOSTILE)
    sheet = page.locator(".sheet").bounding_box()

    def labels(x: float, y: float) -> list[str]:
        page.mouse.move(sheet["x"] + x * sheet["width"], sheet["y"] + y * sheet["height"])
        return page.locator(".labels li span:first-child").all_inner_texts()

    assert labels(0.1, 0.1) == [gallery.HOSTILE[0]] and labels(0.9, 0.9) == [gallery.HOSTILE[3]]
    assert sorted(labels(0.5, 0.5)) == sorted(gallery.HOSTILE)  # the patch in the middle is a quarter of each
    page.locator(".patch").focus()
    page.keyboard.press("Home")
    assert page.locator(".labels li span:first-child").all_inner_texts() == [gallery.HOSTILE[0]]
    assert page.locator(".lens canvas").get_attribute("aria-label") == f"patch 1: {gallery.HOSTILE[0]} 100 %"
    page.get_by_label("Lens").uncheck()
    assert page.locator(".lens").is_hidden()
    assert seen_.faults == []


def test_samples_follow_their_sliders(site, browser):
    seen_ = visit(browser).open(f"{site}/clouds/index.html")
    page, canvas = seen_.page, seen_.page.locator("#class-1 canvas")
    until(page, "!document.querySelector('#class-1 canvas').hidden")

    def spread() -> float:
        """Of the grey levels in the middle of the canvas, where the sample is."""
        shown = seen(canvas).convert("L")
        x, y = shown.width // 2, shown.height // 2
        return np.ptp(np.asarray(shown.crop((x - 30, y - 30, x + 30, y + 30)), float))

    until(page, lambda: spread() > 100)
    page.locator("#truncation").focus()
    page.keyboard.press("Home")
    assert page.locator("#truncation-out").inner_text() == "0.30"
    until(page, lambda: spread() < 70)  # the same noise, 0.3 of it
    before = canvas.screenshot()
    page.locator("#seed").focus()
    page.keyboard.press("End")
    assert page.locator("#seed-out").inner_text() == "3"
    until(page, lambda: canvas.screenshot() != before)
    page.locator("input[name=seeds][value=all]").check()
    until(page, "document.querySelector('#class-1 canvas').width === 32")
    assert seen_.faults == []


def test_garments_wear_the_texture_and_are_saved(site, browser):
    seen_ = visit(browser, accept_downloads=True).open(f"{site}/fabric/swatch.html#class-2")
    page, canvas = seen_.page, seen_.page.locator("#garment")
    until(page, "document.getElementById('garment').dataset.drawn")
    assert page.locator("h1").inner_text() == "lemon"

    def look() -> str:
        return page.evaluate("document.getElementById('garment').toDataURL()")

    looks = []
    for garment in ("dress", "shirt", "cushion"):
        page.locator(f"input[name=garment][value={garment}]").check()
        until(page, f"document.getElementById('garment').dataset.drawn.startsWith('{garment}')")
        assert canvas.get_attribute("aria-label") == f"lemon on a {garment}"
        until(page, lambda: look() not in looks)
        looks.append(look())
    page.locator("#rotation").focus()
    page.keyboard.press("End")
    until(page, lambda: look() not in looks)
    looks.append(look())
    page.locator(".thumbs button").first.click()
    until(page, f"document.querySelector('h1').textContent === {gallery.HOSTILE[0]!r}")
    until(page, lambda: look() not in looks)
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save as PNG").click()
    with Image.open(saved.value.path()) as image:
        assert image.format == "PNG" and image.size == (640, 800)
        alpha = image.getchannel("A").histogram()
        assert 0.3 < alpha[255] / (640 * 800) < 0.8 and alpha[0] + alpha[255] == 640 * 800
    assert saved.value.suggested_filename == "img-src-x-onerror-alert-1-cushion.png"
    assert seen_.faults == []


def test_a_thousand_classes_are_there_at_once_and_their_images_when_they_are_seen(site, browser):
    seen_ = visit(browser).open(f"{site}/many/index.html")
    page = seen_.page
    assert page.locator(".card").count() == 1000
    assert (
        page.evaluate("[...document.querySelectorAll('.card img')].filter(i => i.complete && i.naturalWidth).length")
        < 400
    )
    page.locator("#find").fill("class 99")
    assert page.locator(".card:visible").count() == 11 and page.locator("#found").inner_text() == "11 of 1000"
    until(page, "document.querySelector('#class-999 img').naturalWidth === 8")
    assert seen_.faults == []


def test_the_index_narrows_by_text_and_method(site, browser):
    seen_ = visit(browser).open(f"{site}/index.html")
    page = seen_.page
    assert page.locator(".result").count() == 7
    page.locator("#find").fill("second")
    assert page.locator(".result:visible h3").all_inner_texts() == ["second"]
    assert page.locator("section:visible").count() == 1
    page.locator("#find").fill("")
    page.locator("#method").select_option("pixels × trajectory")
    assert page.locator(".result:visible").count() == 2
    page.locator("#budget").select_option("2")
    assert page.locator(".result:visible h3").all_inner_texts() == ["second"]
    page.locator(".result:visible h3 a").click()
    page.wait_for_url("**/second-20/index.html")
    assert seen_.faults == []


def test_dark_and_light_are_the_systems_until_the_visitor_chooses(site, browser):
    page = visit(browser, color_scheme="dark").open(f"{site}/index.html").page
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.get_by_label("Dark or light").click()
    light = page.evaluate(background)
    assert sum(map(int, light[4:-1].split(","))) > 600 > 150 > sum(map(int, dark[4:-1].split(",")))
    page.goto(f"{site}/first-20/index.html")
    assert page.evaluate(background) == light


def test_a_page_by_itself_works_in_the_frame_in_which_mlflow_shows_it(site, browser):
    """MLflow shows an HTML artifact from a blob in a frame that may run scripts and has no origin."""
    seen_ = visit(browser).open(f"{site}/index.html")
    page = seen_.page
    text = (Path(url2pathname(urlparse(site).path)) / "alone.html").read_text()
    page.goto("about:blank")
    page.evaluate(
        """text => { const f = document.createElement('iframe'); f.sandbox = 'allow-scripts'; f.width = f.height = 800;
        f.src = URL.createObjectURL(new Blob([text], {type: 'text/html'})); document.body.append(f); }""",
        text,
    )
    frame = page.frame_locator("iframe")
    frame.locator("body[data-ready]").wait_for()
    frame.locator("#step").focus()
    page.keyboard.press("Home")
    frame.locator("#class-0 .stage.drawn").wait_for()
    assert frame.locator("#class-0 img").first.evaluate("i => i.naturalWidth") == 8
    assert seen_.faults == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(scheme, site, browser):
    from axe_playwright_python.sync_playwright import Axe

    axe = Axe()
    for path in PAGES[:-1] if scheme == "light" else ("index.html", "first-20/index.html", "fabric/swatch.html"):
        page = visit(browser, color_scheme=scheme).open(f"{site}/{path}").page
        found = axe.run(page).response["violations"]
        serious = [
            (v["id"], [n["html"][:160] for n in v["nodes"][:3]])
            for v in found
            if v["impact"] in ("serious", "critical")
        ]
        assert not serious, path
        page.context.close()
