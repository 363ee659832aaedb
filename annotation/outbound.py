"""Requests to addresses that users typed in: never to the inside of the network, whatever name or redirect leads there.

The name is resolved once, every address of it must be public, and the connection goes to the address that was
checked: a name that answers differently the second time gains nothing. Redirects are not followed.
"""

import ipaddress
import socket
from dataclasses import dataclass
from http.client import HTTPException
from time import monotonic
from urllib.parse import SplitResult, urlsplit

import certifi
import urllib3
from django.conf import settings
from django.utils.translation import gettext as _

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


def post(url: str, *, body: bytes, headers: dict[str, str], timeout: float) -> Answer:
    """POST the body and read the answer, at most a megabyte, within so many seconds in all.

    Raises OutboundRefused, OutboundFailed.
    """
    parts = split(url)
    address = public_address(parts)
    ends = monotonic() + timeout
    pool = _pool(parts, address)
    try:
        response = pool.request(
            "POST",
            parts._replace(scheme="", netloc="", path=parts.path or "/", fragment="").geturl(),
            body=body,
            headers={**headers, "Host": parts.netloc, "User-Agent": "Tutelage"},
            timeout=urllib3.Timeout(total=timeout),
            retries=False,
            redirect=False,
            preload_content=False,
        )
        received = b""
        for chunk in response.stream(16384, decode_content=False):
            received += chunk
            if len(received) > MOST_BYTES or monotonic() > ends:
                raise OutboundFailed("The answer was too long or too slow.")
        return Answer(response.status, received, {name.lower(): value for name, value in response.headers.items()})
    except (urllib3.exceptions.HTTPError, HTTPException, OSError, ValueError) as error:
        raise OutboundFailed(f"{type(error).__name__}: {error}"[:200]) from error
    finally:
        pool.close()


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


def _pool(parts: SplitResult, address: str) -> urllib3.HTTPConnectionPool:
    if parts.scheme == "http":
        return urllib3.HTTPConnectionPool(address, _port(parts), maxsize=1)
    return urllib3.HTTPSConnectionPool(
        address,
        _port(parts),
        maxsize=1,
        cert_reqs="CERT_REQUIRED",
        ca_certs=certifi.where(),
        assert_hostname=parts.hostname,
        server_hostname=parts.hostname,
    )
