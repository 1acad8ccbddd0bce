"""Turns errors of redis-py and the network into errors of a broker."""

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

# uvloop raises RuntimeError for writing to a closed connection; any other RuntimeError is a defect.
# redis-py raises RedisClusterException, which is no RedisError, if no node of a Cluster can be reached.
CLIENT_ERRORS = (RedisError, RedisClusterException, OSError, TimeoutError, RuntimeError)

# If redis-py has a class for an error, the message lacks the code.
_TRANSIENT_CLASSES = (
    BusyLoadingError,
    ReadOnlyError,
    MasterDownError,
    ClusterDownError,
    ClusterError,
    TryAgainError,
    AskError,
)
_CLUSTER_ERRORS = (
    AskError,
    ClusterCrossSlotError,
    ClusterDownError,
    TryAgainError,
)  # MovedError is an AskError
_TRANSIENT_TEXTS = ("LOADING", "BUSY", "UNBLOCKED", "NOREPLICAS", "MASTERDOWN", "ERR max number of clients")
# Errors of OpenSSL about certificates, which redis-py passes on as text alone.
_CERTIFICATE_FAULT = re.compile(
    r"\[(?:SSL|X509): \w*(?:CERT|UNKNOWN_CA|KEY_VALUES)\w*\][^(]*|PEM lib|No such file or directory"
)
_CLOSED_HANDLER = "the handler is closed"


class Unanswered(BrokerUnavailable):
    """The call was sent and has no answer: it may have been carried out."""


class StoreFull(BrokerError):
    """The server's memory is full, and it refuses a call that needs more."""


def is_of_another_master(error: BaseException) -> bool:
    """Return whether the server is no longer the master: the next connection must find the new one."""
    return isinstance(error, ReadOnlyError) or str(error).startswith("UNBLOCKED")


def node_of_a_cluster(endpoint: str) -> str:
    """Return the message for a node of a Cluster that is used as if it were a single server."""
    scheme, _, rest = endpoint.partition("://")
    host = "host:6379" if scheme == "unix" else rest.rpartition("/")[0]
    return (
        f"Redis at {endpoint} is a node of a Cluster, which has most keys elsewhere: use"
        f" {'rediss' if scheme == 'rediss' else 'redis'}+cluster://{host}"
    )


def _is_of_a_cluster(error: BaseException) -> bool:
    """Return whether only a node of a Cluster raises this error."""
    return isinstance(error, _CLUSTER_ERRORS) and not isinstance(error, MasterDownError)


def to_broker_error(error: BaseException, endpoint: str, was_sent: bool = False) -> Exception:
    """Return a BrokerError that names the endpoint and the remedy; BrokerUnavailable if the fault may pass by
    itself.

    Returns the error itself if it is a NoScriptError or a defect: a defect must not look like an outage.
    """
    if isinstance(error, NoScriptError):
        return error
    if isinstance(error, RuntimeError) and _CLOSED_HANDLER not in str(error):  # guard: defect
        return error
    if isinstance(error.__cause__, ResponseError):
        error = error.__cause__  # redis-py raises ConnectionError if the server refuses a setting
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
            if "unknown command" in text and "SENTINEL" in text.upper():
                return BrokerError(
                    f"Redis at {endpoint} is no Sentinel: name Sentinels, which listen at 26379"
                )
            return refusal(f"Redis at {endpoint} refuses a call: {text[:200]}")
    is_answer, is_tls = isinstance(error, ResponseError), endpoint.startswith("rediss")
    if is_tls and not is_answer and (found := _CERTIFICATE_FAULT.search(str(error))):
        return BrokerError(
            f"Redis at {endpoint} cannot be reached in TLS, because of a certificate"
            f" ({found[0].strip(' .')}): the server's must be for that host, and signed by the CA in"
            " ssl_ca_certs; the client's is set by ssl_certfile and ssl_keyfile"
        )
    if "max number of clients" in str(error):  # the server refuses the connection
        return BrokerUnavailable(
            f"Redis at {endpoint} takes no more clients: raise its maxclients, or run fewer processes"
        )
    tls = " in TLS" if is_tls else ""
    return (Unanswered if was_sent and not is_answer else BrokerUnavailable)(
        f"Redis at {endpoint} does not answer ({name}): is it running{tls}, and is that its address?"
    )


def to_channel_error(error: BaseException, endpoint: str) -> Exception:
    """Return what ``to_broker_error`` does, with the remedy for a user that has no right on channels."""
    if isinstance(error, NoPermissionError):
        return BrokerError(
            f"Redis at {endpoint} does not let this user subscribe to channels: give it the channels"
            " &ais2:{<namespace>:*}:* and the commands +ssubscribe +sunsubscribe +spublish"
        )
    return to_broker_error(error, endpoint)
