"""Credentials in URIs: refused, since configs, command lines, logs and messages would hold them in clear."""

import re
from urllib.parse import unquote

from dist_lstm.errors import UserError

#: A port is no password: hdfs://host:8020/folder@2.
_PASSWORD = re.compile(r"://[^/\s@\"',]*:(?!\d{1,5}/)[^\s@]*@")
_PARAMETER = re.compile(
    r"://[^\s\"']*[?&](?:[^\s=&]*(?:key|secret|token|passw|signature)[^\s=&]*|sig)="  # such as ?secret_key=
    r"|://[^\s\"']*\?[^\s\"']*=[^\s\"'&]*:[^\s\"'&]*@",  # such as ?endpoint_override=user:password@host
    re.IGNORECASE,
)


def refuse_keys(where: object, text: str) -> None:
    """Refuse a URI with a password, a secret key or a token; the message does not show the URI.

    Args:
        where: The setting, option or file that holds the text.
        text: A path or URI, or a text with URIs in it.

    Raises:
        UserError: If a URI has one, before the @ or among its parameters.

    Example:
        >>> refuse_keys("data.path", "s3://bucket/sales.parquet?region=eu-central-1")  # may stay
    """
    # A % may hide the : or the @.
    if any(pattern.search(form) for pattern in (_PASSWORD, _PARAMETER) for form in (text, unquote(text))):
        raise UserError(
            where,
            "holds a URI with a password or a secret key, which others could read in files and logs",
            "leave it out of the URI and set it in the environment (for S3: AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY), or use a profile",
        )


def without_keys(uri: str) -> str:
    """A URI that may be shown: without what is before the @ and after the question mark, where keys may be.

    Args:
        uri: A URI of a store.

    Returns:
        Its scheme, bucket and path.

    Example:
        >>> without_keys("s3://key:secret@bucket/runs/x?region=z")
        's3://bucket/runs/x'
    """
    return re.sub(r"(?<=://)[^/]*@", "", _PASSWORD.sub("://", uri).partition("?")[0])
