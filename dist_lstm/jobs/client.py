"""Access to a Ray cluster from outside: its address, its token, and its dashboard's REST API with deadlines.

Anyone who reaches Ray's jobs can run programs, so a token is required unless `RAY_AUTH_MODE=disabled`. It is sent
over plain http to this machine only (a forwarded port), unless the user allows other machines.
"""

import ipaddress
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dist_lstm.errors import UserError
from dist_lstm.jobs.session import RAY_ENVIRONMENT

if TYPE_CHECKING:
    import requests

ADDRESS = "http://127.0.0.1:8265"
#: Seconds of silence after which a request fails.
_SECONDS = 20.0


@dataclass(frozen=True)
class Token:
    """The authentication token of a cluster.

    Attributes:
        value: The token; left out of `repr`.
        source: The environment variable or file that it was read from.
    """

    value: str = field(repr=False)
    source: str


def find_token() -> Token | None:
    """Find the token where Ray looks for it: `RAY_AUTH_TOKEN`, `RAY_AUTH_TOKEN_PATH`, `~/.ray/auth_token`.

    Source: https://docs.ray.io/en/latest/ray-security/token-auth.html

    Returns:
        The token; None where `RAY_AUTH_MODE` is `disabled`.

    Raises:
        UserError: If there is none, others can read its file, or `RAY_AUTH_MODE` is not a mode.
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
    """Check that a token may be sent to an address.

    Args:
        address: A URL, or host and port.
        token: The token; None for a cluster without authentication.
        insecure: Whether plain http to another machine is allowed.

    Returns:
        The URL, without a trailing slash.

    Raises:
        UserError: If it is not an http or https URL, or others could read what is sent.

    Example:
        >>> check_address("localhost:8265/", token=None, insecure=False)
        'http://localhost:8265'
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


@dataclass(frozen=True)
class Dashboard:
    """The dashboard of a Ray cluster, through its documented REST API.

    Each request returns an answer or raises a `UserError`, at the latest after 20 seconds of silence.

    Source: https://docs.ray.io/en/latest/cluster/running-applications/job-submission/rest.html

    Attributes:
        url: Its URL, without a trailing slash.
        token: The cluster's token; None for a cluster without authentication.
    """

    url: str
    token: Token | None = None

    def jobs(self) -> list[dict[str, Any]]:
        """Details of all jobs."""
        return self._request("GET", "/api/jobs/").json()

    def job(self, job_id: str) -> dict[str, Any]:
        """Details of a job: `status`, `message`, `entrypoint`, `metadata`, times and others."""
        return self._request("GET", f"/api/jobs/{job_id}").json()

    def logs(self, job_id: str) -> str:
        """All output of a job so far."""
        return self._request("GET", f"/api/jobs/{job_id}/logs").json()["logs"]

    def stop(self, job_id: str) -> None:
        """Request that a job stops; returns before it has."""
        self._request("POST", f"/api/jobs/{job_id}/stop")

    def delete(self, job_id: str) -> None:
        """Remove a job that has ended from the list."""
        self._request("DELETE", f"/api/jobs/{job_id}")

    def state(self, endpoint: str) -> Any:
        """`data` in the answer of an endpoint such as `/api/cluster_status`; the whole answer if it has none."""
        answer = self._request("GET", endpoint).json()
        return answer.get("data", answer)

    def submit(self, **job: Any) -> None:
        """Upload the files of a job's runtime environment and submit it.

        Args:
            **job: Arguments of `ray.job_submission.JobSubmissionClient.submit_job`.

        Raises:
            UserError: If the cluster can't be reached or refuses the job.
        """
        from dist_lstm.jobs.ray_private import submission_client

        # Ray reads this variable and prefers it to the address that it is given.
        os.environ.update(RAY_ENVIRONMENT | {"RAY_API_SERVER_ADDRESS": self.url})
        headers = {"Authorization": self._authorization} if self.token else {}
        with self._errors():
            submission_client(self.url, headers, _SECONDS).submit_job(**job)

    @property
    def _authorization(self) -> str:
        return f"Bearer {self.token.value}" if self.token else ""

    def _request(self, method: str, endpoint: str) -> "requests.Response":
        import requests

        def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
            # As `auth`, since requests prefers a password in ~/.netrc to a header.
            if self.token:
                request.headers["Authorization"] = self._authorization
            return request

        with self._errors():
            answer = requests.request(
                method, self.url + endpoint, auth=authorize, timeout=_SECONDS, allow_redirects=False
            )
        if answer.status_code in (401, 403):
            raise self._refused()
        if answer.status_code != 200:
            reason = (answer.text.strip().splitlines() or [""])[-1]
            raise UserError(self.url, f"answers {answer.status_code} to {endpoint}: {reason[:500]}")
        return answer

    def _refused(self) -> UserError:
        problem = f"refuses the token of {self.token.source}" if self.token else "asks for a token"
        return UserError(self.url, problem, "it must be the one that the cluster was started with")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        import requests
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            raise self._refused() from error
        except (requests.exceptions.RequestException, ConnectionError) as error:
            problem = "no answer in time" if isinstance(error, requests.exceptions.Timeout) else "no connection"
            advice = "start the cluster or forward its dashboard's port, and check --address"
            raise UserError(self.url, problem, advice) from error
        except RuntimeError as error:
            reason = (str(error).strip().splitlines() or [""])[-1]
            raise UserError(self.url, reason[:500]) from error


def connect(address: str | None = None, insecure: bool = False) -> Dashboard:
    """Connect to the dashboard of a cluster.

    Args:
        address: URL of its dashboard; None for `RAY_API_SERVER_ADDRESS` or, if that is not set, this machine.
        insecure: Whether plain http to another machine is allowed.

    Returns:
        The dashboard, which has answered once.

    Raises:
        UserError: If the token may not be sent there (`check_address`), there is no token, or no cluster there
            accepts it.
    """
    token = find_token()
    url = check_address(address or os.environ.get("RAY_API_SERVER_ADDRESS") or ADDRESS, token, insecure)
    dashboard = Dashboard(url, token)
    try:
        version = dashboard.state("/api/version").get("ray_version")
    except (ValueError, AttributeError) as error:
        raise UserError(url, f"is not the dashboard of a Ray cluster: {error}") from error
    if version is None:
        raise UserError(url, "is not the dashboard of a Ray cluster: it has no version of Ray")
    return dashboard
