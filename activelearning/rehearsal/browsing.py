"""A simulated teacher's browser: signs in, reads the guidelines, answers what the desk shows. Plain HTTP."""

import time
from html.parser import HTMLParser
from urllib.parse import urljoin

import requests


class NotServed(Exception):
    """The platform did not answer as a page does; the sentence says what to do."""


class DeskPage(HTMLParser):
    """What a rehearsed teacher reads off the desk: its state, the offer shown, and the guidelines' version."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.state = ""
        self.offer = ""
        self.said = ""
        """What the page announces, such as that the answer is stored; empty where it was refused."""
        self.version = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        if found.get("id") == "desk":
            self.state, self.offer = found.get("data-state", ""), found.get("data-offer", "")
            self.said = found.get("data-said", "")
        elif tag == "input" and found.get("name") == "version":
            self.version = found.get("value", "")


class Browser:
    """One signed-in session. A request that fails for want of a server is tried again for `patience` seconds."""

    def __init__(self, site: str, *, patience: float = 60.0) -> None:
        self.site = site
        self.patience = patience
        self.session = requests.Session()
        self.session.headers["Accept-Language"] = "en"

    def sign_in(self, username: str, password: str) -> None:
        self._request("GET", "/account/login/")
        done = self._request("POST", "/account/login/", {"login": username, "password": password})
        if done.url.rstrip("/").endswith("/account/login"):
            raise NotServed(f"{username} could not sign in at {self.site}.")

    def open_desk(self, path: str) -> DeskPage:
        """The desk, past the guidelines: they are confirmed as read where they are shown."""
        desk = DeskPage(self._request("GET", path).text)
        if desk.state == "guidelines":
            self._request("POST", f"{path}guidelines/read/", {"version": desk.version})
            desk = DeskPage(self._request("GET", path).text)
        return desk

    def answer(self, path: str, *, offer: str, choice: str) -> DeskPage:
        """Send one answer; the page that comes back shows the next comparison."""
        return DeskPage(self._request("POST", f"{path}answer/", {"offer": offer, "choice": choice}).text)

    def skip(self, path: str, *, offer: str, reason: str) -> DeskPage:
        return DeskPage(self._request("POST", f"{path}skip/", {"offer": offer, "reason": reason}).text)

    def _request(self, verb: str, path: str, data: dict[str, str] | None = None) -> requests.Response:
        """A request as a browser makes it. An answer is safe to send again: the desk takes it once."""
        headers = {"HX-Request": "true"} if path.startswith("/desk/") else {}  # as the desk's own page asks
        until = time.monotonic() + self.patience
        while True:
            body = None if data is None else data | {"csrfmiddlewaretoken": self.session.cookies.get("csrftoken") or ""}
            try:
                response = self.session.request(
                    verb, urljoin(self.site, path), data=body, timeout=30, headers={**headers, "Referer": self.site}
                )
                if response.status_code < 500 and response.status_code != 429:
                    if response.status_code >= 400:
                        raise NotServed(f"{verb} {path} was answered with {response.status_code}.")
                    return response
                why = f"{verb} {path} was answered with {response.status_code}"
            except (requests.ConnectionError, requests.Timeout) as error:
                why = f"nothing answers at {self.site} ({type(error).__name__})"
            if time.monotonic() > until:
                raise NotServed(f"Gave up after {self.patience:.0f} s: {why}. Is the platform running? make run")
            time.sleep(0.5)
