"""Requests to addresses that users typed in: never to the inside of the network, whatever name or redirect leads there.

The name is resolved once, every address of it must be public, and the connection goes to the address that was
checked: a name that answers differently the second time gains nothing. Redirects are not followed.

A time-out of a socket begins anew with each byte, so that a server that sends one now and then holds whoever reads for
hours. The time here is for the whole exchange: when it is over, another thread ends the connection.
"""

import ipaddress
import socket
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from threading import Timer
from time import monotonic
from urllib.parse import SplitResult, urlsplit

import certifi
from django.conf import settings
from django.utils.translation import gettext as _
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.util import parse_url

MOST_BYTES = 1024 * 1024
GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")


class OutboundRefused(Exception):
    """The address must not be asked. `str()` says why."""


class OutboundFailed(Exception):
    """No answer: refused, cut off, too slow, or too long."""


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]


class _Line(HTTPConnection):
    """A connection that another thread can end: TLS takes the socket over, so that a copy of it is kept."""

    copy: socket.socket | None = None
    is_over = False

    def _new_conn(self) -> socket.socket:
        opened = super()._new_conn()
        self.copy = opened.dup()
        if self.is_over:
            raise TimeoutError("the connection took too long")
        return opened

    def end(self) -> None:
        self.is_over = True
        if self.copy is not None:
            with suppress(OSError):  # the other side was quicker
                self.copy.shutdown(socket.SHUT_RDWR)

    def let_go(self) -> None:
        """`close` is called by an answer without a length, too, before it is read."""
        self.close()
        if self.copy is not None:
            self.copy.close()


class _SecureLine(_Line, HTTPSConnection):
    """The same under TLS."""


def post(url: str, *, body: bytes, headers: dict[str, str], timeout: float) -> Answer:
    """POST the body and read the answer, at most a megabyte, within so many seconds in all.

    Raises OutboundRefused, OutboundFailed.
    """
    ends = monotonic() + timeout
    parts = split(url)
    line = _line(parts, public_address(parts), timeout=timeout)
    timer = Timer(max(ends - monotonic(), 0), line.end)
    timer.daemon = True
    timer.start()
    try:
        answer = _exchange(line, parts, body=body, headers=headers)
    except (HTTPError, HTTPException, OSError, ValueError) as error:
        if not line.is_over:
            raise OutboundFailed(f"{type(error).__name__}: {error}"[:200]) from error
    finally:
        timer.cancel()
        line.let_go()
    if line.is_over:  # what was cut off may look like an answer that was short
        raise OutboundFailed("The answer was too long or too slow.")
    return answer


def _exchange(line: _Line, parts: SplitResult, *, body: bytes, headers: dict[str, str]) -> Answer:
    line.request(
        "POST",
        parse_url(parts.geturl()).request_uri,
        body=body,
        headers={**headers, "Host": parts.netloc, "User-Agent": "Tutelage"},
        preload_content=False,
    )
    response = line.getresponse()
    received = b""
    for chunk in response.stream(16384, decode_content=False):
        received += chunk
        if len(received) > MOST_BYTES:
            raise OutboundFailed("The answer was too long or too slow.")
    return Answer(response.status, received, {name.lower(): value for name, value in response.headers.items()})


def split(url: str) -> SplitResult:
    """The parts of an address that may be asked, its name as the network writes it (例え.jp is xn--r8jz45g.jp).

    What goes over http can be read and changed on the way, keys with it: only a host that the deployment allows may be
    asked so. Raises OutboundRefused.
    """
    try:
        parts = urlsplit(url)
        parts = parts._replace(netloc=_netloc(parts)) if parts.username is None else parts
    except ValueError as error:  # UnicodeError is one
        raise OutboundRefused(_("The address has no valid name or port.")) from error
    is_secure = parts.scheme == "https" or (
        parts.scheme == "http" and host_of(parts) in settings.OUTBOUND_PRIVATE_HOSTS
    )
    if not is_secure or not parts.hostname or parts.username is not None:
        raise OutboundRefused(_("The address must begin with https:// and hold no user name."))
    return parts


def _netloc(parts: SplitResult) -> str:
    host = parts.hostname or ""
    name = f"[{host}]" if ":" in host else host.encode("idna").decode()
    return name if parts.port is None else f"{name}:{parts.port}"


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def host_of(parts: SplitResult) -> str:
    """host:port, as a deployment writes it."""
    return f"{parts.hostname}:{_port(parts)}"


def public_address(parts: SplitResult) -> str:
    """An address of the host, if all of them are public, or the deployment allows this host. Raises OutboundRefused."""
    host, port = str(parts.hostname), _port(parts)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise OutboundFailed(_("The name %(host)s leads to no address.") % {"host": host}) from error
    addresses = [str(entry[4][0]) for entry in found]
    if host_of(parts) not in settings.OUTBOUND_PRIVATE_HOSTS:
        for address in addresses:
            if not is_public(address):
                raise OutboundRefused(_("The name %(host)s leads to an address inside the network.") % {"host": host})
    return addresses[0]


def is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        # An IPv4 address in the clothes of an IPv6 one (mapped, 6to4, Teredo, NAT64) is judged as what it is.
        nested = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if nested is None and ip in ipaddress.ip_network("64:ff9b::/96"):
            nested = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if nested is not None:
            return is_public(str(nested))
        if ip not in GLOBAL_UNICAST:  # what is left out there wraps IPv4 in other ways, or is local by older rules
            return False
    return ip.is_global and not ip.is_multicast


def _line(parts: SplitResult, address: str, *, timeout: float) -> _Line:
    if parts.scheme == "http":
        return _Line(address, _port(parts), timeout=timeout)
    return _SecureLine(
        address,
        _port(parts),
        timeout=timeout,
        cert_reqs="CERT_REQUIRED",
        ca_certs=certifi.where(),
        assert_hostname=parts.hostname,
        server_hostname=parts.hostname,
    )
