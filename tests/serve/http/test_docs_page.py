"""The page at /docs in a browser: it asks for a key, shows the models and tries requests out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serve.browser import CHROMIUM, Page, browser_page
from tests.serve.http.guarded import FIRST, Guarded
from tests.serve.server import Server, wait_until

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
PREDICT = "#docs .opblock-summary-path[data-path='/models/cart/predict']"


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser_page() as page:
        yield page


def exists(page: Page, selector: str) -> bool:
    return bool(page.evaluate(f'document.querySelector("{selector}") !== null'))


def click(page: Page, selector: str) -> None:
    assert wait_until(lambda: exists(page, selector), 60), selector
    page.evaluate(f'document.querySelector("{selector}").click()')


def enter_key(page: Page, key: str) -> None:
    page.evaluate(f'document.querySelector("#login input").value = "{key}"')
    click(page, "#login button")


def predict_on_page(page: Page) -> None:
    """Try the example of the model out, and wait for its answer."""
    click(page, PREDICT)
    click(page, "#docs .is-open .try-out__btn")
    click(page, "#docs .is-open .execute")
    answer = "#docs .is-open .live-responses-table tbody .response"
    assert wait_until(lambda: exists(page, answer), 60)
    text = page.evaluate(f'document.querySelector("{answer}").textContent')
    assert text.startswith("200"), text


def test_the_page_of_a_guarded_service_asks_for_a_key(page: Page, guarded: Guarded) -> None:
    page.open(f"{guarded.server.url}/docs")
    assert wait_until(lambda: exists(page, "#login:not([hidden])"), 60)
    assert not exists(page, PREDICT)
    enter_key(page, "wrong-key-of-the-tests")
    message = 'document.querySelector("#message").textContent'
    assert wait_until(lambda: "unknown key" in page.evaluate(message), 60)
    enter_key(page, FIRST)
    assert wait_until(lambda: exists(page, PREDICT), 60)
    assert not exists(page, "#login:not([hidden])")
    predict_on_page(page)


def test_the_page_of_an_open_service_asks_for_nothing(page: Page, server: Server) -> None:
    page.open(f"{server.url}/docs")
    assert wait_until(lambda: exists(page, "#docs .opblock"), 60)
    assert not exists(page, "#login:not([hidden])")
