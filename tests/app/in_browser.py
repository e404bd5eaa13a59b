"""What tests of a page in Chromium share: until when they wait for it, and what axe-core says of it."""

from axe_playwright_python.sync_playwright import Axe

SECONDS = 1000  # milliseconds, Playwright's unit
NOT_OURS = {  # axe's rule -> Streamlit's own element, which no page can mend
    "presentation-role-conflict": "[data-testid=stFileUploaderDropzone]",  # has a label, and the role of no element
    "list": "[data-testid=stSidebarNavItems]",  # a phone's navigation: its groups stand between the list and its items
    "listitem": "[data-testid=stSidebarNavItems]",
}
POLL = 100  # milliseconds between looks; by default the page is drawn, and asked, 60 times a second


def finished(page):
    """Wait until the script has run to its end, and the scrubber, if there is one, has decoded its frames."""
    page.wait_for_selector("h1")
    page.wait_for_timeout(300)
    page.wait_for_function(
        """() => document.querySelector('[data-test-script-state]') && !document.querySelector(
        '[data-test-script-state=running], [data-testid=stProgress], [data-stale=true]')""",
        polling=POLL,
    )


def accessible(page):
    """Assert that axe-core finds no violation of its rules on the page, in its shadow roots too."""
    found, axe = [], Axe("") if page.evaluate("'axe' in window") else Axe()  # a page reads its 500 kB once
    for violation in axe.run(page).response["violations"]:
        theirs = NOT_OURS.get(violation["id"])
        for node in violation["nodes"]:
            (target, *_) = node["target"]
            if not theirs or not page.evaluate(
                "([target, theirs]) => document.querySelector(target).closest(theirs)", [target, theirs]
            ):
                found.append((violation["id"], node["html"][:300], node["failureSummary"]))
    assert found == []


def ready(page):
    page.wait_for_selector(":is(.scrubber, .pipeline)[data-ready=true]")
    return page.locator(".scrubber"), page.get_by_role("slider", name="frame")
