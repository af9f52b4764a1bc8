"""The page that tries a model, in a browser without a window."""

import re
import shutil
import socket
import threading
from contextlib import contextmanager

import pytest

pytest.importorskip("fastapi", reason="the service needs the extra serve")
uvicorn = pytest.importorskip("uvicorn", reason="the service needs the extra serve")
playwright = pytest.importorskip("playwright.sync_api", reason="the page is tried with playwright")
expect = playwright.expect
expect.set_options(timeout=30_000)  # as the waits of a page; 5 seconds are not enough on a busy machine

from recbole_ssm import Recommender  # noqa: E402
from recbole_ssm.serving.service.app import create_app  # noqa: E402
from recbole_ssm.serving.service.settings import Settings  # noqa: E402
from recbole_ssm.testing.checkpoints import made_checkpoint  # noqa: E402

pytestmark = pytest.mark.slow

TITLE = "The <b>{}</b> film & more"
CONTRAST = 4.5
"""WCAG 2.2 AA, for text of usual size."""


@contextmanager
def served(app):
    """The address of an app that a server in another thread answers for."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def recommender(tmp_path_factory):
    keys = {"hidden_size": 8, "headdim": 4, "d_state": 4, "num_layers": 1, "transition_memory": True}
    return Recommender(made_checkpoint(tmp_path_factory.mktemp("made") / "made.pth", 30, **keys))


@pytest.fixture(scope="module")
def titles(tmp_path_factory):
    file = tmp_path_factory.mktemp("items") / "made.item"
    rows = (f"i{number}\t{TITLE.format(number)}\tDrama Crime\n" for number in range(1, 31))
    file.write_text("item_id:token\tmovie_title:token_seq\tclass:token_seq\n" + "".join(rows))
    return file


@pytest.fixture(scope="module")
def popular(tmp_path_factory):
    file = tmp_path_factory.mktemp("popular") / "popular.txt"
    file.write_text("".join(f"i{number}\n" for number in range(1, 31)))
    return file


@pytest.fixture(scope="module")
def address(recommender, titles, popular):
    with served(create_app(recommender, Settings(items=titles, popular=popular))) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def shown(browser, address, **options):
    """The page at an address. Whatever it prints as an error, or asks of another server, fails the test."""
    context = browser.new_context(**options)
    page = context.new_page()
    wrong = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith(address) else wrong.append(request.url))
    page.goto(address)
    page.wait_for_selector("#items li")
    yield page
    context.close()
    assert wrong == []


def recommended(page) -> list[str]:
    return page.locator("#items .title").all_text_contents()


def names(found) -> list[str]:
    return [TITLE.format(item.removeprefix("i")) for item, _ in found]


def test_what_is_pressed_before_an_answer_is_not_lost(browser, address):
    with shown(browser, address) as page:
        page.locator(".pick").first.click()
        page.wait_for_selector("#history li")
        held = []
        page.route("**/recommend", lambda route: route.continue_() if held else held.append(route))
        with page.expect_request("**/recommend"):
            page.reload()  # shows the session, and asks what to recommend
        expect(page.locator("#history li")).to_have_count(1)
        page.locator("#anew").press("Enter")
        held[0].continue_()
        expect(page.locator("#history li")).to_have_count(0)
        expect(page.locator("#source")).to_contain_text("popular")


def test_a_session_by_keyboard_alone(browser, address, recommender):
    with shown(browser, address) as page:
        expect(page.locator("#source")).to_contain_text("popular")
        page.keyboard.press("Tab")
        expect(page.locator("#query")).to_be_focused()
        page.keyboard.type("<B>3")
        expect(page.locator("#found [role=option]")).to_have_count(2)
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        chosen = page.locator("#found [aria-selected=true]")
        assert chosen.get_attribute("id") == page.locator("#query").get_attribute("aria-activedescendant")
        first = re.search(r"\d+", chosen.inner_text())[0]
        page.keyboard.press("Enter")
        page.wait_for_selector("#history li")
        assert page.locator("#found").is_hidden()
        assert page.locator("#history li").all_inner_texts() == [TITLE.format(first)]
        assert recommended(page) == names(recommender.recommend([[f"i{first}"]], 10)[0])
        assert re.fullmatch(r"Click 1: the model took [\d.]+ ms, .* [\d.]+ ms\.", page.locator("#took").inner_text())

        for _ in range(2):  # past the button that starts anew, to the first recommendation
            page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "pick"
        second = re.search(r"\d+", recommended(page)[0])[0]
        page.keyboard.press("Enter")
        expect(page.locator("#history li")).to_have_count(2)
        assert recommended(page) == names(recommender.recommend([[f"i{first}", f"i{second}"]], 10)[0])
        assert page.evaluate("document.activeElement.className") == "pick"  # the focus is not lost with the old list
        assert page.locator("#times li").count() == 2

        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_selector(".parts:not([hidden]) td")
        item = re.search(r"\d+", recommended(page)[0])[0]
        parts = {part.item: part for part in recommender.explain([f"i{first}", f"i{second}"], f"i{item}")}
        for row in page.locator(".parts:not([hidden]) tbody tr").all():
            title, near, _ = row.locator("td").all_inner_texts()
            assert near == f"{parts['i' + re.search('[0-9]+', title)[0]].similarity:.2f}"

        page.reload()  # the session goes on
        expect(page.locator("#history li")).to_have_count(2)
        page.locator("#anew").press("Enter")
        expect(page.locator("#history li")).to_have_count(0)
        expect(page.locator("#source")).to_contain_text("popular")


def test_a_double_click_is_one(browser, address):
    with shown(browser, address) as page:
        first = recommended(page)[0]
        page.locator(".pick").first.dblclick()
        expect(page.locator("#history li")).to_have_text([first])
        second = recommended(page)[1]
        page.locator(".pick").nth(1).click()
        expect(page.locator("#history li")).to_have_text([second, first])


@pytest.mark.parametrize(("model", "missing"), [("LRURec", "Came next"), ("PCTM", "Nearness")])
def test_a_reason_that_the_model_does_not_have_has_no_column(browser, tmp_path, popular, model, missing):
    keys = {"hidden_size": 8, "num_layers": 1} if model == "LRURec" else {}
    made = Recommender(made_checkpoint(tmp_path / "made.pth", 30, model, **keys))
    with served(create_app(made, Settings(popular=popular, warm=False))) as address, shown(browser, address) as page:
        page.locator(".pick").first.click()
        page.wait_for_selector("#history li")
        page.locator(".why").first.click()
        page.wait_for_selector(".parts:not([hidden]) td")
        heads = page.locator(".parts:not([hidden]) th")
        seen = [head.inner_text() for head in heads.all() if head.is_visible()]
        assert seen == [head for head in ("Because of", "Nearness", "Came next") if head != missing]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_it_can_be_read(browser, address, scheme, width):
    """Narrow and wide, light and dark: nothing is cut off, and text stands out from its ground."""
    with shown(browser, address, color_scheme=scheme, viewport={"width": width, "height": 700}) as page:
        page.locator(".pick").first.click()
        page.wait_for_selector("#history li")
        page.locator(".why").first.click()
        page.wait_for_selector(".parts:not([hidden]) td")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        poor = page.evaluate(_POOR_CONTRAST, CONTRAST)
        assert poor == []
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground))) < 300) == (scheme == "dark")


def test_a_token_is_asked_for(browser, recommender, popular):
    with served(create_app(recommender, Settings(token="secret", popular=popular))) as address:
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector("#login:not([hidden])")
        page.locator("#token").fill("wrong")
        page.locator("#token").press("Enter")
        expect(page.locator("#problem")).to_contain_text("Bearer")
        expect(page.locator("#token")).to_be_focused()
        page.locator("#token").fill("secret")
        page.locator("#token").press("Enter")
        page.wait_for_selector("#items li")
        assert page.locator("#login").is_hidden() and page.locator("#problem").is_hidden()
        page.close()


def test_a_service_that_is_gone_is_said(browser, recommender, popular):
    page = browser.new_page()
    with served(create_app(recommender, Settings(popular=popular))) as address:
        page.goto(address)
        page.wait_for_selector("#items li")
        kept = recommended(page)
    page.locator(".pick").first.click()
    page.wait_for_selector("#problem:not([hidden])")
    assert "cannot be reached" in page.locator("#problem").inner_text()
    assert recommended(page) == kept
    page.close()


_POOR_CONTRAST = """least => {
    const numbers = color => color.match(/[\\d.]+/g).map(Number);
    const light = color => numbers(color).slice(0, 3).map(c => c / 255)
        .map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
    const ground = element => {
        for (let at = element; at; at = at.parentElement) {
            const color = getComputedStyle(at).backgroundColor;
            if (numbers(color)[3] !== 0) return color;
        }
        return 'rgb(255, 255, 255)';
    };
    const found = [];
    for (const element of document.querySelectorAll('body *')) {
        const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
        const hidden = getComputedStyle(element).clipPath !== 'none'; // for screen readers alone
        if (!own || hidden || !element.checkVisibility()) continue;
        const [a, b] = [light(getComputedStyle(element).color), light(ground(element))];
        const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
        if (ratio < least) found.push([element.outerHTML.slice(0, 80), ratio]);
    }
    return found;
}"""
