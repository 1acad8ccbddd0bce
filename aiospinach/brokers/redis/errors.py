"""What it means that a server refuses a call, or does not answer."""

from __future__ import annotations

import re

from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    ClusterError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)

from ...exceptions import BrokerError, BrokerUnavailable

# uvloop has a RuntimeError for writing to a connection that was closed meanwhile; all others are defects.
# redis-py's error for a Cluster none of whose nodes can be reached is no RedisError.
CLIENT_ERRORS = (RedisError, RedisClusterException, OSError, TimeoutError, RuntimeError)

# redis-py cuts the code off the message where it has a class for the error.
_TRANSIENT_CLASSES = (
    BusyLoadingError,
    ReadOnlyError,
    MasterDownError,
    ClusterDownError,
    ClusterError,
    TryAgainError,
    AskError,
)
_OF_NODES = (AskError, ClusterCrossSlotError, ClusterDownError, TryAgainError)  # MovedError is an AskError
_TRANSIENT_TEXTS = ("LOADING", "BUSY", "UNBLOCKED", "NOREPLICAS", "MASTERDOWN", "ERR max number of clients")
# What OpenSSL says of a certificate, before any command is sent; redis-py hands it on as text alone.
_OF_CERTIFICATES = re.compile(
    r"\[(?:SSL|X509): \w*(?:CERT|UNKNOWN_CA|KEY_VALUES)\w*\][^(]*|PEM lib|No such file or directory"
)


_OF_CLOSED = "the handler is closed"


class Unanswered(BrokerUnavailable):
    """The call was sent, and nobody knows whether it was carried out."""


class StoreFull(BrokerError):
    """The server's memory is full, and it refuses what would need more."""


def is_of_another_master(error: BaseException) -> bool:
    """The server is no master any more: whoever is it now must be asked for anew."""
    return isinstance(error, ReadOnlyError) or str(error).startswith("UNBLOCKED")


def node_of_a_cluster(endpoint: str) -> str:
    """What to say of a node of a Cluster that is used as if it were a server of its own."""
    scheme, _, rest = endpoint.partition("://")
    host = "host:6379" if scheme == "unix" else rest.rpartition("/")[0]
    return (
        f"Redis at {endpoint} is a node of a Cluster, which has most keys elsewhere: use"
        f" {'rediss' if scheme == 'rediss' else 'redis'}+cluster://{host}"
    )


def _is_of_a_cluster(error: BaseException) -> bool:
    """Only a node of a Cluster says so: a key lies elsewhere, or nowhere, or two keys lie apart."""
    return isinstance(error, _OF_NODES) and not isinstance(error, MasterDownError)


def to_broker_error(error: BaseException, endpoint: str, was_sent: bool = False) -> Exception:
    """A BrokerError that says where, and what to do; what may pass by itself is BrokerUnavailable.

    Returns the error itself if it is a defect, which must not look like a server that is away.
    """
    if isinstance(error, NoScriptError):
        return error
    if isinstance(error, RuntimeError) and _OF_CLOSED not in str(error):  # guard: defect
        return error
    if isinstance(error.__cause__, ResponseError):
        error = error.__cause__  # redis-py says that it cannot connect where the server refuses a setting
    name = type(error).__name__
    if isinstance(error, (AuthenticationError, AuthorizationError, NoPermissionError)):
        return BrokerError(
            f"Redis at {endpoint} does not let this user in, or do this ({name}): check user, password and"
            " ACL"
        )
    if _is_of_a_cluster(error) and "+cluster://" not in endpoint:
        return BrokerError(node_of_a_cluster(endpoint))
    if isinstance(error, ResponseError) and not isinstance(error, _TRANSIENT_CLASSES):
        text = str(error)
        if not text.startswith(_TRANSIENT_TEXTS):
            refusal = StoreFull if "used memory > 'maxmemory'" in text else BrokerError
            return refusal(f"Redis at {endpoint} refuses a call: {text[:200]}")
    is_answer, is_tls = isinstance(error, ResponseError), endpoint.startswith("rediss")
    if is_tls and not is_answer and (said := _OF_CERTIFICATES.search(str(error))):
        return BrokerError(
            f"Redis at {endpoint} cannot be reached in TLS, because of a certificate ({said[0].strip(' .')}):"
            " the server's must be for that host, and signed by the CA in ssl_ca_certs; a client's is given"
            " by ssl_certfile and ssl_keyfile"
        )
    if "max number of clients" in str(error):  # it says so in endpoint of an answer to the first call
        return BrokerUnavailable(
            f"Redis at {endpoint} takes no more clients: raise its maxclients, or run fewer processes"
        )
    tls = " in TLS" if is_tls else ""
    return (Unanswered if was_sent and not is_answer else BrokerUnavailable)(
        f"Redis at {endpoint} does not answer ({name}): is it running{tls}, and is that its address?"
    )
