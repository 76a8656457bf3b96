"""How to reach an S3 server, and what its errors mean for the user.

Credentials come only from the usual AWS chain (environment, profile, role); the rest from the url's options, else from
that chain too (AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_DEFAULT_REGION):

    s3://bucket/prefix?endpoint=http://127.0.0.1:9000&region=us-east-1&path_style=1
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
)

from distill.errors import AwayError, MissingError, StoreError

ATTEMPTS = 8  # of one request: about 6 s of jittered, doubling pauses; up to 90 s if the server says SlowDown
_PREFIX = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]*/)*")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ENDPOINT = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+/?")

_REMOVE = dict.fromkeys(("multipart", "multipart_mib"), "{} has no effect, every object is one request: remove it")


FULL = {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage"}
"""What servers call it that nothing more can be written, beside the status 507."""


class Taken(StoreError):
    """A create-only write failed because of an object, or of another write in progress."""


@dataclass(frozen=True)
class S3Options:
    """The parts of a url."""

    bucket: str
    prefix: str
    """Empty, or ends in "/"."""
    endpoint: str | None = None
    region: str | None = None
    path_style: bool = False
    """Bucket in the path instead of in the host name; STILLHOUSE_S3_PATH_STYLE=1 has the same effect."""

    @classmethod
    def parse(cls, url: str) -> "S3Options":
        """StoreError, with the fix, for invalid urls and options."""
        parts = urlsplit(url)
        prefix = f"{parts.path.strip('/')}/".removeprefix("/")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        if not _BUCKET.fullmatch(parts.netloc) or not _PREFIX.fullmatch(prefix) or ".." in prefix or parts.fragment:
            raise StoreError(f"store {url!r}: write s3://bucket/prefix, of letters, digits, '_', '.', '-' and '/'")
        path_style = options.pop("path_style", os.environ.get("STILLHOUSE_S3_PATH_STYLE", "0"))
        endpoint, region = options.pop("endpoint", None), options.pop("region", None)
        faults = [
            *(_REMOVE.get(name, "unknown option {}").format(name) for name in options),
            *(["path_style is 0 or 1"] if path_style not in ("0", "1") else []),
            *(["endpoint is http(s)://host:port, without user or password"]
              if endpoint is not None and not _ENDPOINT.fullmatch(endpoint) else []),
        ]  # fmt: skip
        if faults:
            raise StoreError(f"store {url!r}: " + "; ".join(faults))
        return cls(parts.netloc, prefix, endpoint, region, path_style == "1")

    @property
    def url(self) -> str:
        """The url, with the options that are not default."""
        options = {
            "endpoint": self.endpoint,
            "region": self.region,
            "path_style": "1" if self.path_style else None,
        }
        query = urlencode({name: value for name, value in options.items() if value is not None}, safe=":/")
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/") + (f"?{query}" if query else "")

    def pyarrow_url(self, name: str) -> str:
        """The url of the prefix `name` for pyarrow's file system, which spells the options otherwise."""
        endpoint = urlsplit(self.endpoint) if self.endpoint else None
        options = {
            "scheme": endpoint.scheme if endpoint else None,
            "endpoint_override": endpoint.netloc if endpoint else None,
            "region": self.region,
        }
        query = urlencode({name: value for name, value in options.items() if value is not None}, safe=":/[]")
        return f"s3://{self.bucket}/{self.prefix}{name}" + (f"?{query}" if query else "")

    def client(self):
        """A boto3 client; it retries 500, 502, 503, 504, SlowDown, timeouts and cut connections with jitter."""
        config = Config(
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=32,
            tcp_keepalive=True,
            # Servers other than AWS refuse the checksums that newer clients add; snapshots carry their own SHA-256.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if self.path_style else "auto"},
        )
        with explained(self.url, self.bucket):
            return boto3.session.Session().client(
                "s3", endpoint_url=self.endpoint, region_name=self.region, config=config
            )


@contextmanager
def explained(where: str, bucket: str) -> Iterator[None]:
    """Turn errors of boto3 and the server into StoreErrors with a fix. `where` is the object or the store."""
    try:
        yield
    except ClientError as error:
        raise _explain(error, where, bucket) from None
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise StoreError(f"{where}: {error}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile") from None
    except (ConnectionError, HTTPClientError) as error:
        fix = "check the endpoint (AWS_ENDPOINT_URL or ?endpoint=) and the network"
        raise AwayError(f"{where}: {error} (up to {ATTEMPTS} attempts); {fix}") from None
    except BotoCoreError as error:
        raise StoreError(f"{where}: {error}; check the AWS settings") from None


def status(error: ClientError) -> int:
    """HTTP status of the server's answer."""
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def _explain(error: ClientError, where: str, bucket: str) -> StoreError:
    code, answer = error.response.get("Error", {}).get("Code", ""), status(error)
    if code == "NoSuchBucket":
        return StoreError(f"{where}: there is no bucket {bucket!r}; make it or correct the store's url")
    if code in FULL or answer == 507:
        fix = f"delete what bucket {bucket!r} does not need, or raise its quota, and run the same command again"
        return StoreError(f"{where}: the store is full ({code or answer}); {fix}: what was written is whole")
    if answer in (409, 412):
        return Taken(f"{where}: {code} ({answer}); another writer came first: try again")
    if answer == 404:
        return MissingError(f"{where} is not there; check the store and the name")
    if answer in (401, 403):
        return StoreError(f"{where}: {code} ({answer}); check the credentials and their rights in bucket {bucket!r}")
    kind = AwayError if answer >= 500 else StoreError
    return kind(f"{where}: {code} ({answer}) from {error.operation_name}, after its retries; try again later")
