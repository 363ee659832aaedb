"""Requests to addresses that users typed in: never to the inside of the network, whatever name or redirect leads there.

The name is resolved once, every address of it must be public, and the connection goes to the address that was
checked: a name that answers differently the second time gains nothing. Redirects are not followed.
"""

import ipaddress
import socket
from dataclasses import dataclass
from time import monotonic
from urllib.parse import SplitResult, urlsplit

import certifi
import urllib3
from django.conf import settings
from django.utils.translation import gettext as _

MOST_BYTES = 1024 * 1024


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
            parts._replace(scheme="", netloc="", fragment="").geturl() or "/",
            body=body,
            headers={**headers, "Host": parts.netloc.rpartition("@")[2], "User-Agent": "Tutelage"},
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
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise OutboundFailed(f"{type(error).__name__}: {error}"[:200]) from error
    finally:
        pool.close()


def split(url: str) -> SplitResult:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise OutboundRefused(_("The address must begin with http:// or https:// and hold no user name."))
    try:
        _port(parts)
    except ValueError as error:
        raise OutboundRefused(_("The address has no valid port.")) from error
    return parts


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
