"""The cache that all processes share: Redis, and each process's own memory while Redis is away."""

import time
from collections.abc import Callable
from functools import cached_property
from typing import Any

from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache, RedisCacheClient
from redis.exceptions import RedisError

PAUSE = 2.0
"""Seconds in which Redis is not asked after it did not answer: a page waits for one time-out, not for ten."""


class KeptClient(RedisCacheClient):
    """Django makes a client anew for every call, which costs more than the call; one serves all threads."""

    def get_client(self, key: Any = None, *, write: bool = False) -> Any:
        if write not in self._kept:
            self._kept[write] = super().get_client(key, write=write)
        return self._kept[write]

    @cached_property
    def _kept(self) -> dict[bool, Any]:
        return {}


class SharedCache(RedisCache):
    """Django's own, which raises where Redis does not answer: a page must not fail for that, nor a limit stop counting.

    While Redis is away each process counts by itself, as it would without one.
    """

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._class = KeptClient
        self._own = LocMemCache("while Redis is away", {})
        self._away_until = 0.0

    def clear(self) -> None:
        """Only keys of the cache: the same server carries the messages to the workers."""
        client = self._cache.get_client(write=True)
        for key in client.scan_iter(f"{self.key_prefix}:*"):
            client.delete(key)

    def _ask(self, name: str, *args: Any, **kwargs: Any) -> Any:
        if time.monotonic() >= self._away_until:
            try:
                return getattr(RedisCache, name)(self, *args, **kwargs)
            except RedisError:
                self._away_until = time.monotonic() + PAUSE
        return getattr(self._own, name)(*args, **kwargs)


def _asking(name: str) -> Callable[..., Any]:
    def method(self: SharedCache, *args: Any, **kwargs: Any) -> Any:
        return self._ask(name, *args, **kwargs)

    return method


for _name in ("add", "get", "set", "touch", "delete", "get_many", "set_many", "delete_many", "has_key", "incr"):
    setattr(SharedCache, _name, _asking(_name))
