"""The page in a browser, as somebody uses it who has an image and no patience."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from benchmarks.service_process import ServiceProcess
from tests.support.accessibility import find_barriers
from tests.support.bright_model import make_image, write_bright
from tests.support.brightness import picture

READY = "html[data-ready=yes]"
WIDE, PHONE = 1200, 390


def is_mistake(message: ConsoleMessage) -> bool:
    """Hints, such as that reading pixels back is slow, and refusals that are asked for are none."""
    return message.type == "error" and "status of 4" not in message.text


@pytest.fixture
def images(tmp_path: Path) -> dict[str, Path]:
    """By name; of the first both objects reach the model's thresholds, of the second none does."""
    contents = {"light.png": picture(204), "dark.png": picture(90), "broken.jpg": b"no image"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {name: tmp_path / name for name in contents}


@pytest.fixture(params=[WIDE])
def page(browser: Browser, served: ServiceProcess, request: pytest.FixtureRequest) -> Iterator[Page]:
    """What the console says, and a request to anywhere else, fails the test."""
    context = browser.new_context(viewport={"width": request.param, "height": 800})
    page = context.new_page()
    said: list[str] = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda message: said.append(message.text) if is_mistake(message) else None)
    page.on(
        "request",
        lambda sent: said.append(sent.url) if not sent.url.startswith((served.url, "blob:", "data:")) else None,
    )
    page.goto(served.url)
    page.wait_for_selector(READY)
    yield page
    assert said == []
    context.close()


def choose(page: Page, *paths: Path) -> None:
    page.locator("#files").set_input_files(paths)
    expect(page.locator("#status")).to_have_text(re.compile(r" ms$|: image"))  # what would be evaluated is not allowed


def rows(page: Page) -> list[list[str]]:
    return [row.locator("td").all_inner_texts() for row in page.locator("#detections tr").all()]


@pytest.mark.parametrize("page", [WIDE, PHONE], indirect=True)
def test_an_image_is_chosen_and_its_objects_are_drawn(page: Page, images: dict[str, Path]) -> None:
    assert page.locator("#model").inner_text() == "brightness: dim, bright (whole, gone)"
    choose(page, images["light.png"])
    assert rows(page) == [["bright", "–", "0.667", "8, 16, 72, 80"], ["dim", "whole", "0.449", "0, 0, 32, 32"]]
    assert page.locator("#status").inner_text().startswith("2 objects in ")
    assert page.locator("#legend li").all_inner_texts() == ["dim 1", "bright 1"]
    width, room = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert width <= room
    # The picture is grey; whatever has a colour was drawn onto it.
    coloured = """() => { const c = document.querySelector('canvas'), d = c.getContext('2d')
        .getImageData(0, 0, c.width, c.height).data; let n = 0;
        for (let i = 0; i < d.length; i += 4) n += Math.max(d[i], d[i+1], d[i+2]) - Math.min(d[i], d[i+1], d[i+2]) > 60;
        return n / (c.width * c.height); }"""
    assert 0.005 < page.evaluate(coloured) < 0.3
    page.locator("#slider").press("End")
    assert page.evaluate(coloured) == 0


def test_the_slider_by_keyboard(page: Page, images: dict[str, Path]) -> None:
    choose(page, images["light.png"])
    assert page.locator("#slider-value").inner_text() == "by class"
    page.locator("#slider").focus()
    for key, value, count in (("End", "1.00", 0), ("Home", "0.01", 2)):
        page.keyboard.press(key)
        assert page.locator("#slider-value").inner_text() == value
        assert len(rows(page)) == count
    page.locator("#slider").fill("0.5")
    assert [row[0] for row in rows(page)] == ["bright"]
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.locator("#slider-value").inner_text() == "by class"
    assert len(rows(page)) == 2


def test_several_images_one_of_them_broken(page: Page, images: dict[str, Path]) -> None:
    choose(page, *images.values())
    assert "broken.jpg: image 1 cannot be used: not one of JPEG" in page.locator("#status").inner_text()
    buttons = page.locator("#chosen button")
    assert buttons.all_inner_texts() == ["light.png", "dark.png"]
    buttons.nth(1).press("Enter")
    assert rows(page) == []
    assert page.locator("#canvas").get_attribute("aria-label") == "dark.png: nothing found"
    assert page.evaluate("document.activeElement.textContent") == "dark.png"


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_an_image_is_dropped_or_pasted(page: Page, event: str) -> None:
    page.evaluate(
        """async ([event, bytes]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], 'given.png', {type: 'image/png'}));
            const key = event === 'paste' ? 'clipboardData' : 'dataTransfer';
            const made = new (event === 'paste' ? ClipboardEvent : DragEvent)(event, {[key]: data, bubbles: true});
            document.body.dispatchEvent(made);
        }""",
        [event, list(picture(204))],
    )
    page.wait_for_selector("#detections tr")
    assert len(rows(page)) == 2


def test_the_json_can_be_copied(page: Page, images: dict[str, Path]) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    choose(page, images["light.png"])
    page.locator("summary").press("Enter")
    page.locator("#copy").click()
    expect(page.locator("#status")).to_have_text("Copied")
    answer = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert answer["name"] == "light.png"
    assert [one["category"] for one in answer["detections"]] == ["bright", "dim"]


@pytest.mark.parametrize("page", [WIDE, PHONE], indirect=True)
def test_it_has_no_barriers(page: Page, images: dict[str, Path], served: ServiceProcess) -> None:
    """With results, and the page of the routes."""
    choose(page, images["light.png"], images["dark.png"])
    assert find_barriers(page) == []
    page.goto(f"{served.url}/docs")
    page.wait_for_selector(READY)
    assert find_barriers(page) == []


def test_all_images_are_searched_in_tiles(browser: Browser, tmp_path: Path) -> None:
    """A small object is found once its image is cut into tiles."""
    path = write_bright(tmp_path / "bright.onnx", object_size={"image_side": 128, "p10": 5, "p50": 7, "p90": 10})
    make_image((640, 480), white=(300, 200, 308, 206)).save(tmp_path / "large.png")
    with ServiceProcess(path) as served:
        page = browser.new_page()
        page.goto(served.url)
        page.wait_for_selector(READY)
        choose(page, tmp_path / "large.png")
        assert rows(page) == []
        page.get_by_label("In tiles").check()
        page.wait_for_selector("#detections tr")
        assert [row[-1] for row in rows(page)] == ["300, 200, 308, 206"]
        page.close()


def test_tiles_of_an_unknown_size_are_not_offered(page: Page, images: dict[str, Path]) -> None:
    choose(page, images["light.png"])
    assert not page.get_by_label("In tiles").is_visible()


def test_dark_is_dark(page: Page) -> None:
    def ground() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    page.emulate_media(color_scheme="light")
    light = ground()
    page.emulate_media(color_scheme="dark")
    assert ground() != light


def test_a_token_is_asked_for(browser: Browser, model: Path, images: dict[str, Path]) -> None:
    with ServiceProcess(model, DETECTOR_TOKEN="right") as served:
        page = browser.new_page()
        page.goto(served.url)
        page.wait_for_selector(READY)
        for token in ("wrong", "right"):
            assert page.locator("#token-form").is_visible()
            page.locator("#token").fill(token)
            page.keyboard.press("Enter")
        page.wait_for_selector("#token-form", state="hidden")
        choose(page, images["light.png"])
        assert len(rows(page)) == 2
        page.close()


def test_the_routes_are_explained(page: Page, served: ServiceProcess) -> None:
    page.goto(f"{served.url}/docs")
    page.wait_for_selector(READY)
    assert page.locator(".route h2 code").all_inner_texts() == [
        "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/v2/models/{name}/ready", "/v1/predict",
        "/v1/model", "/metrics", "/v2", "/v2/models/{name}", "/v2/models/{name}/infer",
    ]  # fmt: skip
    commands = "\n".join(page.locator("pre").all_inner_texts())
    assert f"--data-binary @photo.jpg {served.url}/v1/predict" in commands
    assert f'"datatype":"UINT8","shape":[1,3,2,2],"data":[0,0,0,0,0,0,0,0,0,0,0,0]}}]}}\' {served.url}/v2/' in commands
