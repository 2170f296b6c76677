"""What the tests in Chromium share: a page that notes what it does, and axe-core."""


def noting(context):
    """A new page that notes what it asks for and complains of."""
    page = context.new_page()
    page.asked, page.complaints = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    return page


def asked_elsewhere(page):
    """What the page has asked others for."""
    here = ("file:", "data:", "blob:")  # a worker's source is a blob
    return [url for url in page.asked if not url.startswith(here)]


def kept_out(page):
    """What axe-core finds that keeps somebody out."""
    from axe_playwright_python.sync_playwright import Axe

    return [
        (violation["id"], violation["nodes"][0]["html"][:200])
        for violation in Axe().run(page).response["violations"]
        if violation["impact"] in ("serious", "critical")
    ]
