"""Reads the URL of a Redis. Each part of it is used or refused."""

from __future__ import annotations

import inspect
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
import redis.asyncio as redis
from redis.asyncio.connection import SSLConnection

from ...exceptions import InvalidValue

_TLS = frozenset(inspect.signature(SSLConnection.__init__).parameters)
_CLUSTER = frozenset(inspect.signature(redis.RedisCluster.__init__).parameters)
_SCHEMES = ("redis", "unix", "redis+sentinel", "redis+cluster")
_YES, _NO = ("true", "1", "yes"), ("false", "0", "no")
_VERIFY = ("required", "optional", "none")
_FOR_ALL = ("username", "password", "client_name", "health_check_interval", "socket_keepalive")
_FOR_SENTINELS = ("sentinel_username", "sentinel_password")
_TIME_LIMITS = ("socket_timeout", "socket_connect_timeout", "timeout", "retry_on_timeout")


class Address(msgspec.Struct, frozen=True):
    """Where a Redis is, and how to connect to it."""

    scheme: str
    """redis, unix, redis+sentinel or redis+cluster."""
    is_tls: bool
    hosts: list[tuple[str, int]]
    settings: dict[str, Any]
    """Arguments of redis-py's connections."""
    service: str = ""
    """The name of the service whose master Sentinels name."""
    sentinel_settings: dict[str, Any] = {}
    """Arguments of the connections to Sentinels."""


def read_url(url: str) -> Address:
    """Return the address in a URL. Raises InvalidValue, which names the fault and shows no password."""
    try:
        parts = urlsplit(url)
        hosts = _hosts_of(parts.netloc.rpartition("@")[2])
    except ValueError:
        raise _wrong("the URL cannot be read") from None
    if parts.fragment or "@" in parts.path + parts.query:  # not shown: they may be the end of a password
        raise _wrong("a '/', '?', '#' or '@' in the password of a URL is written %2F, %3F, %23 or %40")
    is_tls = parts.scheme.startswith("rediss")
    scheme = parts.scheme.replace("rediss", "redis", 1)
    if scheme not in _SCHEMES:
        raise _wrong(
            f"{parts.scheme[:20] or 'no'!r} is no known scheme; known are redis://, rediss://,"
            " unix://, redis+sentinel:// and redis+cluster://"
        )
    path, query = unquote(parts.path), _query_of(parts.query, scheme)
    settings = {
        **_login_of(unquote(parts.username or ""), unquote(parts.password or ""), query),
        **_settings_of(query),
        **_tls_of(query, scheme, is_tls),
    }
    if scheme == "unix":
        if not path or parts.netloc.rpartition("@")[2]:
            raise _wrong("unix:// needs an absolute path: unix:///run/redis.sock")
        settings |= {"path": path, "db": _db_of("", query)}
        return Address(scheme, is_tls, [], settings)
    if scheme == "redis+sentinel":
        service, _, db = path.strip("/").partition("/")
        if not service:
            raise _wrong("redis+sentinel:// needs a service: redis+sentinel://host:26379/mymaster")
        settings["db"] = _db_of(db, query)
        asking: dict[str, Any] = {"ssl": True, **_tls_of(query, scheme, is_tls)} if is_tls else {}
        asking |= {name.removeprefix("sentinel_"): query[name] for name in _FOR_SENTINELS if query.get(name)}
        return Address(scheme, is_tls, _with_port(hosts, 26379), settings, service, asking)
    if scheme == "redis+cluster":
        if _db_of(path.strip("/"), query):
            raise _wrong("a Cluster has database 0 alone: leave the number out, and take another namespace")
        return Address(scheme, is_tls, _with_port(hosts, 6379), settings)
    if len(hosts) > 1:
        raise _wrong(f"{parts.scheme}:// takes one host, and has {len(hosts)}")
    [(host, port)] = _with_port(hosts, 6379)
    settings |= {"host": host, "port": port, "db": _db_of(path.strip("/"), query)}
    return Address(scheme, is_tls, [(host, port)], settings)


def _wrong(what: str) -> InvalidValue:
    return InvalidValue(f"RedisBroker: {what}")


def _hosts_of(netloc: str) -> list[tuple[str, int | None]]:
    hosts = []
    for part in netloc.split(","):
        parsed = urlsplit(f"//{part}")
        hosts.append((parsed.hostname or "localhost", parsed.port))
    return hosts


def _with_port(hosts: list[tuple[str, int | None]], default: int) -> list[tuple[str, int]]:
    return [(host, port or default) for host, port in hosts]


def _query_of(text: str, scheme: str) -> dict[str, str]:
    """Return the settings after the '?'. Raises InvalidValue if one is unknown for this scheme, or given
    twice."""
    known = [*_FOR_ALL, "db"]
    if scheme == "unix":
        known.remove("socket_keepalive")
    if scheme == "redis+sentinel":
        known += _FOR_SENTINELS
    query = {}
    for name, values in parse_qs(text, keep_blank_values=True).items():
        shown = name[:30]
        if name in _TIME_LIMITS:
            raise _wrong(
                f"the URL has a setting {name}, but RedisBroker sets its own time limits: use"
                " RedisBroker(url, enqueue_timeout=) for scheduling, and lease= for workers"
            )
        if name not in known and not name.startswith("ssl_"):
            raise _wrong(
                f"the URL has a setting {shown!r} that {scheme}:// does not take; it takes"
                f" {', '.join(known)}, and with rediss the ssl_ settings of redis-py"
            )
        if len(values) > 1:
            raise _wrong(f"the URL has its setting {shown!r} twice")
        query[name] = values[0]
    return query


def _login_of(username: str, password: str, query: Mapping[str, str]) -> dict[str, Any]:
    login = {}
    for name, before_host in (("username", username), ("password", password)):
        if before_host and query.get(name):
            raise _wrong(f"the URL has a {name} twice, before the host and after the '?'")
        if value := before_host or query.get(name):
            login[name] = value
    return login


def _settings_of(query: Mapping[str, str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if query.get("client_name"):
        settings["client_name"] = query["client_name"]
    if "socket_keepalive" in query:
        settings["socket_keepalive"] = _flag_of("socket_keepalive", query["socket_keepalive"])
    if "health_check_interval" in query:
        interval = query["health_check_interval"]
        if not (interval.isascii() and interval.isdigit() and len(interval) < 10):
            raise _wrong("health_check_interval of the URL must be a whole number of seconds; 0 is never")
        settings["health_check_interval"] = int(interval)
    return settings


def _db_of(path: str, query: Mapping[str, str]) -> int:
    texts = {text for text in (path, query.get("db", "")) if text}
    for text in texts:
        if not (text.isascii() and text.isdigit()):
            raise _wrong(f"{text[:20]!r} is no number of a database")
    if len(texts) > 1:
        raise _wrong("the URL names two databases, one as its path and one as db=")
    return int(texts.pop()) if texts else 0


def _flag_of(name: str, text: str) -> bool:
    if text.lower() not in _YES + _NO:
        raise _wrong(f"{name} of the URL must be one of {', '.join(_YES + _NO)}")
    return text.lower() in _YES


def _tls_of(query: Mapping[str, str], scheme: str, is_tls: bool) -> dict[str, Any]:
    tls: dict[str, Any] = {name: value for name, value in query.items() if name.startswith("ssl_")}
    for name, value in tls.items():
        if name in ("ssl_include_verify_flags", "ssl_exclude_verify_flags"):
            raise _wrong(f"{name} is a list, which no URL can carry: pass a client of redis.asyncio")
        if name not in _TLS:
            raise _wrong(f"the URL has a setting {name[:30]} that redis-py does not know")
        if not is_tls:
            raise _wrong(f"the URL has a setting {name}, but no TLS: begin it with rediss")
        if scheme == "redis+cluster" and name not in _CLUSTER:
            raise _wrong(f"redis-py has no setting {name} for a Cluster")
        if name == "ssl_cert_reqs":
            tls[name] = _verification_of(value)
    if not is_tls:
        return {}
    if "ssl_check_hostname" in tls:
        tls["ssl_check_hostname"] = _flag_of("ssl_check_hostname", tls["ssl_check_hostname"])
    if "ssl_min_version" in tls:
        version = tls["ssl_min_version"].replace(".", "_")
        if version not in ("TLSv1_2", "TLSv1_3"):
            raise _wrong("ssl_min_version must be TLSv1_2, TLSv1.2, TLSv1_3 or TLSv1.3")
        tls["ssl_min_version"] = ssl.TLSVersion[version]
    # The default of redis-py before 6 is False.
    tls.setdefault("ssl_check_hostname", tls.get("ssl_cert_reqs") != "none")
    if scheme == "redis+cluster" and "ssl_check_hostname" not in _CLUSTER:
        raise _wrong("redis-py has no setting ssl_check_hostname for a Cluster")
    return tls


def _verification_of(text: str) -> str:
    """Return ssl_cert_reqs in redis-py's spelling. Python's ssl module, Celery and Heroku have another."""
    word = text.lower().removeprefix("ssl.").removeprefix("cert_")
    if word not in _VERIFY:
        raise _wrong(
            f"ssl_cert_reqs of the URL must be one of {', '.join(_VERIFY)}, or of"
            f" {', '.join(f'CERT_{value.upper()}' for value in _VERIFY)}"
        )
    return word
