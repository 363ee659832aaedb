"""Sign-in through an identity provider, against a real server on this machine that speaks OpenID Connect."""

import base64
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from allauth.socialaccount.models import SocialAccount
from django.test import Client
from django.urls import reverse

from annotation.models import User
from config.settings import sign_in_through
from tests.servers import Answering, listen

pytestmark = pytest.mark.django_db

CLIENT, SECRET = "the-site", "kept between the two"
ENTER = "/account/oidc/oidc/login/"


def part_of_token(values: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(values).encode()).rstrip(b"=").decode()


class Provider:
    """Discovery, authorization, token and userinfo: whoever comes is `person`."""

    def __init__(self) -> None:
        self.person = {"sub": "u-17", "email": "bob@example.org", "email_verified": True, "name": "Bob"}
        self.audience = CLIENT
        self.codes: dict[str, str] = {}
        self.asked: list[str] = []
        provider = self

        class Handler(Answering):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                provider.asked.append(parts.path)
                if parts.path == "/realm/.well-known/openid-configuration":
                    self.say(200, provider.discovery())
                elif parts.path == "/userinfo" and self.headers["Authorization"] == "Bearer access-1":
                    self.say(200, provider.person)
                else:
                    self.say(403, {})

            def do_POST(self) -> None:
                provider.asked.append(urlsplit(self.path).path)
                form = parse_qs(self.read_body().decode())
                self.say(*provider.token({name: values[0] for name, values in form.items()}))

            def say(self, status: int, values: dict[str, Any]) -> None:
                self.answer(status, json.dumps(values).encode(), Content_Type="application/json")

        self.server, host = listen(Handler)
        self.url = f"http://{host}"

    def discovery(self) -> dict[str, Any]:
        places = {f"{name}_endpoint": f"{self.url}/{name}" for name in ("authorization", "token", "userinfo")}
        methods = ["client_secret_post", "client_secret_basic"]
        return {
            "issuer": f"{self.url}/realm", "jwks_uri": f"{self.url}/keys",
            "token_endpoint_auth_methods_supported": methods, **places,
        }  # fmt: skip

    def authorize(self, address: str) -> str:
        """What somebody's browser meets there: they agree, and are sent back with a code."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        assert address.startswith(f"{self.url}/authorization?")
        assert (asked["client_id"], asked["response_type"]) == (CLIENT, "code")
        assert "openid" in asked["scope"].split()
        self.codes["code-1"] = asked["redirect_uri"]
        back = urlsplit(asked["redirect_uri"])
        return f"{back.path}?{urlencode({'code': 'code-1', 'state': asked['state']})}"

    def token(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """For the code that was given, once, to the client that knows its secret."""
        if (form.get("client_id"), form.get("client_secret")) != (CLIENT, SECRET):
            return 401, {"error": "invalid_client"}
        if self.codes.pop(form.get("code", ""), None) != form.get("redirect_uri"):
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {"iss": f"{self.url}/realm", "aud": self.audience, "iat": now, "exp": now + 60, **self.person}
        token = f"{part_of_token({'alg': 'RS256', 'typ': 'JWT', 'kid': '1'})}.{part_of_token(claims)}.c2lnbmF0dXJl"
        return 200, {"access_token": "access-1", "token_type": "Bearer", "expires_in": 60, "id_token": token}


@pytest.fixture
def provider(settings: Any) -> Iterator[Provider]:
    provider = Provider()
    settings.SOCIALACCOUNT_PROVIDERS = sign_in_through(
        {"server_url": f"{provider.url}/realm", "client_id": CLIENT, "client_secret": SECRET, "name": "The university"}
    )
    yield provider
    provider.server.shutdown()


def come_through(client: Client, provider: Provider, **options: str) -> Any:
    """The button, the provider, and back."""
    sent = client.post(f"{ENTER}?{urlencode(options)}")
    return client.get(provider.authorize(sent.headers["Location"]), follow=True)


def who_is(client: Client) -> str | None:
    return client.session.get("_auth_user_id")


@pytest.fixture
def connected(client: Client, provider: Provider, bob: User) -> User:
    """Bob, who connected his account with the provider."""
    client.force_login(bob)
    come_through(client, provider, process="connect")
    client.logout()
    return bob


def test_the_page_of_the_sign_in_names_the_provider(client: Client, provider: Provider) -> None:
    page = client.get(reverse("account_login")).content.decode()
    assert "The university" in page
    assert ENTER in page


def test_the_menu_leads_to_connecting_where_there_is_a_provider(
    client: Client, provider: Provider, bob: User, settings: Any
) -> None:
    client.force_login(bob)
    where = reverse("socialaccount_connections")
    assert where in client.get(reverse("home")).content.decode()
    assert ENTER in client.get(where).content.decode()
    settings.SOCIALACCOUNT_PROVIDERS = {}
    assert where not in client.get(reverse("home")).content.decode()


def test_whoever_connected_an_account_signs_in(client: Client, provider: Provider, connected: User) -> None:
    assert SocialAccount.objects.get().user == connected
    assert who_is(client) is None
    provider.asked.clear()
    found = come_through(client, provider)
    assert who_is(client) == str(connected.pk)
    assert found.redirect_chain[-1][0] == reverse("home")
    assert provider.asked[-2:] == ["/token", "/userinfo"]


def test_a_stranger_opens_no_account(client: Client, provider: Provider, bob: User) -> None:
    """Not under a name of their own, and not under somebody's address, which the provider may not have checked."""
    for person in ({"sub": "u-99", "email": "eve@example.org", "email_verified": True}, provider.person):
        provider.person = person
        found = come_through(client, provider)
        assert "Accounts are opened by invitation" in found.content.decode()
        assert who_is(client) is None
    assert list(User.objects.all()) == [bob]
    assert not SocialAccount.objects.exists()


def test_a_second_factor_is_asked_for_here_too(client: Client, provider: Provider, connected: User) -> None:
    TOTP.activate(connected, generate_totp_secret())
    assert come_through(client, provider).redirect_chain[-1][0] == reverse("mfa_authenticate")
    assert who_is(client) is None


def test_an_answer_that_nobody_asked_for_signs_nobody_in(client: Client, provider: Provider, connected: User) -> None:
    sent = client.post(ENTER)
    back = provider.authorize(sent.headers["Location"])
    assert Client().get(back).status_code == 401, "another browser's"
    forged = back.replace("state=", "state=x")
    assert client.get(forged).status_code == 401
    assert who_is(client) is None


def test_a_token_for_another_site_signs_nobody_in(client: Client, provider: Provider, connected: User) -> None:
    provider.audience = "another-site"
    come_through(client, provider)
    assert who_is(client) is None


def test_without_a_provider_there_is_no_such_door(client: Client) -> None:
    assert sign_in_through({"server_url": "", "client_id": "", "client_secret": "", "name": ""}) == {}
    assert client.post(ENTER).status_code == 404
