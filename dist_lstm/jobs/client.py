"""The way into a Ray cluster from outside: its address, the token, a client that does not wait for ever.

Whoever reaches Ray's jobs can run programs, so a token is asked for unless `RAY_AUTH_MODE=disabled`, and
it goes over plain http to this machine alone (a forwarded port), or elsewhere when that is said to be meant.
"""

import ipaddress
import logging
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast
from urllib.parse import urlsplit

from dist_lstm.errors import UserError
from dist_lstm.jobs.session import RAY_ENVIRONMENT

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

ADDRESS = "http://127.0.0.1:8265"
#: A request may take this long; Ray's own client waits for ever.
_SECONDS = 20.0
_LOGGERS = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk", "ray._private.runtime_env")


@dataclass(frozen=True)
class Token:
    """The secret of a cluster.

    Attributes:
        value: The secret; not shown with the rest.
        source: Where it was found.
    """

    value: str = field(repr=False)
    source: str


def find_token() -> Token | None:
    """The token, found where Ray looks for it.

    Source: https://docs.ray.io/en/latest/ray-security/token-auth.html

    Returns:
        The token; None where `RAY_AUTH_MODE` is `disabled`.

    Raises:
        UserError: If there is none, or others can read its file.
    """
    mode = os.environ.get("RAY_AUTH_MODE", "token").lower()
    if mode == "disabled":
        return None
    if mode != "token":
        raise UserError("RAY_AUTH_MODE", f"expected token or disabled, got {mode}")
    if value := os.environ.get("RAY_AUTH_TOKEN"):
        return _checked(value, "RAY_AUTH_TOKEN")
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise UserError(path, "others can read this token", f"`chmod 600 {path}`, and renew it if they did")
        return _checked(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            path,
            f"no token can be read: {getattr(error, 'strerror', error)}",
            (
                "put the cluster's token there (cluster/README.md, 'The token'), or set RAY_AUTH_MODE=disabled "
                "for a cluster that asks for none"
            ),
        ) from error


def _checked(text: str, source: str) -> Token:
    value = text.strip()
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        raise UserError(source, "holds no token: it is empty, or not one word of ASCII")
    return Token(value, source)


def check_address(address: str, token: Token | None, insecure: bool) -> str:
    """Whether a token may go to an address.

    Args:
        address: A URL, or host and port.
        token: The token; None for a cluster that asks for none.
        insecure: Whether the user says that plain http to another machine is meant.

    Returns:
        The URL, without a slash at its end.

    Raises:
        UserError: If it is no URL of http or https, or the way is open to others.
    """
    url = (address if "://" in address else f"http://{address}").rstrip("/")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UserError(f"--address {address}", error) from error
    if parts.scheme not in ("http", "https") or not host:
        raise UserError(f"--address {address}", f"expected the URL of Ray's dashboard, such as {ADDRESS}")
    if parts.username or parts.password:
        raise UserError("--address", "a password in the URL ends up in logs", "use Ray's token instead")
    if parts.scheme == "https" or _is_loopback(host):
        return url
    if token is None:
        raise UserError(f"--address {url}", "whoever reaches it can run programs", "it must ask for a token")
    if not insecure:
        raise UserError(
            f"--address {url}",
            "plain http shows the token to the network",
            (f"forward the port (cluster/README.md) and use {ADDRESS}, or give --insecure in a network you trust"),
        )
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def connect(address: str | None = None, insecure: bool = False) -> "JobSubmissionClient":
    """A client of a cluster's jobs.

    Args:
        address: URL of its dashboard; None for `RAY_API_SERVER_ADDRESS`, else this machine.
        insecure: Whether plain http to another machine is meant.

    Returns:
        The client; each request ends with an answer or a `UserError` within 20 seconds.

    Raises:
        UserError: If the address is open to others, there is no token, or no cluster answers that takes it.
    """
    token = find_token()
    url = check_address(address or os.environ.get("RAY_API_SERVER_ADDRESS") or ADDRESS, token, insecure)
    # Read by Ray, and stronger than the address it is given.
    os.environ.update(RAY_ENVIRONMENT | {"RAY_API_SERVER_ADDRESS": url})
    headers = {"Authorization": f"Bearer {token.value}"} if token else {}
    return _client(url, headers, token.source if token else "")


def _client(url: str, headers: dict[str, str], source: str) -> "JobSubmissionClient":
    import requests
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)

    class Client(JobSubmissionClient):
        def _do_request(self, method: str, endpoint: str, **options: Any) -> requests.Response:
            try:
                return super()._do_request(method, endpoint, timeout=_SECONDS, **options)
            except AuthenticationError as error:
                problem = f"refuses the token of {source}" if source else "asks for a token"
                raise UserError(url, problem, "it must be the one that the cluster was started with") from error
            except requests.exceptions.RequestException as error:
                reason = "no answer in time" if isinstance(error, requests.exceptions.Timeout) else "no connection"
                raise UserError(
                    url, reason, "start the cluster or forward its dashboard's port, and look at --address"
                ) from error

        def _raise_error(self, r: requests.Response) -> NoReturn:
            said = (r.text.strip().splitlines() or [""])[-1]
            raise UserError(url, f"answers {r.status_code}: {said[:500]}")

    try:
        return Client(url, headers=headers)
    except (RuntimeError, ValueError, KeyError, requests.exceptions.RequestException) as error:
        raise UserError(url, f"is not the dashboard of a Ray cluster: {error}") from error


def ask(client: "JobSubmissionClient", endpoint: str) -> Any:
    """What a cluster answers to a question of its dashboard.

    Args:
        client: Its client.
        endpoint: Such as `/api/cluster_status`.

    Returns:
        The `data` of the answer.

    Raises:
        UserError: If it does not answer.
    """
    answer = cast("Any", client)._do_request("GET", endpoint)  # noqa: SLF001 (it has no other way)
    if answer.status_code != 200:
        raise UserError(f"{client.get_address()}", f"answers {answer.status_code} to {endpoint}")
    return answer.json().get("data", answer.json())
