"""A store on S3: key `a/b` is the object PREFIX/a/b of a bucket. For AWS, Ceph and others with create-only puts."""

import contextlib
import random
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import BinaryIO

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError

from cluster.store.base import CHUNK, STALE_SECONDS, Store, StoredObject, conflict, open_data, valid_key
from cluster.store.s3_client import ATTEMPTS, S3Options, Taken, explained, status
from distill.errors import MissingError, StoreError

MOST_PUT = 5 << 30  # bytes in one request, S3's limit


class S3Store(Store):
    """Objects below a prefix of a bucket, which must exist. Opening one sends no request.

    Every object is one create-only put, so it has at most 5 GiB and is never there in part.
    """

    def __init__(self, options: S3Options):
        self.options = options
        self.client = options.client()

    @classmethod
    def from_url(cls, url: str) -> "S3Store":
        return cls(S3Options.parse(url))

    @property
    def url(self) -> str:
        return self.options.url

    def _check_writable(self) -> None:
        at = self._at(".writable")
        with self._explained(""):  # needs the same permission as a put, and leaves no object
            upload = self.client.create_multipart_upload(**at)["UploadId"]
            self.client.abort_multipart_upload(**at, UploadId=upload)

    # ------------------------------------------------------------ writing

    def _create(self, key: str, data: bytes | Path) -> None:
        with open_data(data) as source:
            for attempt in range(ATTEMPTS):
                try:
                    return self._write(key, source)
                except Taken:
                    if self._holds(key, source):
                        return None
                _pause(attempt)  # the other writer has not finished, or its object was deleted
        raise StoreError(f"{self._where(key)}: other writers kept creating and deleting it; try again")

    def _write(self, key: str, source: BinaryIO) -> None:
        size = source.seek(0, 2)
        source.seek(0)
        if size > MOST_PUT:
            raise StoreError(
                f"{self._where(key)}: {size:,} bytes, and S3 takes at most {MOST_PUT / 2**30:.0f} GiB in one "
                'request; make it smaller: for experts set experts.dtype="bfloat16" or raise experts.save_every'
            )
        with self._explained(key):
            self.client.put_object(**self._at(key), Body=source, IfNoneMatch="*")

    def _holds(self, key: str, source: BinaryIO) -> bool:
        """Whether the object is there; ConflictError if it has other bytes than `source`."""
        try:
            size = self._size(key)
            same = source.seek(0, 2) == size
            source.seek(0)
            for start in range(0, size if same else 0, 8 * CHUNK):
                same = same and self._read(key, start, start + 8 * CHUNK) == source.read(8 * CHUNK)
        except MissingError:
            return False
        if not same:
            raise conflict(self._where(key))
        return True

    # ------------------------------------------------------------ reading

    def _read(self, key: str, start: int, stop: int | None) -> bytes:
        if start == stop:
            self._size(key)  # S3 has no empty range, but a missing object must raise
            return b""
        span = {} if (start, stop) == (0, None) else {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}
        with self._explained(key):
            for attempt in range(ATTEMPTS):
                try:
                    body = self.client.get_object(**self._at(key), **span)["Body"]
                except ClientError as error:
                    if status(error) == 416:  # it starts at or after the end
                        return b""
                    raise
                try:
                    return body.read()
                except (HTTPClientError, IncompleteReadError):  # boto3 retries requests, not bodies cut in the middle
                    if attempt == ATTEMPTS - 1:
                        raise
                _pause(attempt)

    def _size(self, key: str) -> int:
        try:
            with self._explained(key):
                return self.client.head_object(**self._at(key))["ContentLength"]
        except MissingError:
            self._check_bucket()  # a HEAD has no body to say which of the two is missing
            raise

    def _check_bucket(self) -> None:
        try:
            with self._explained(""):
                self.client.head_bucket(Bucket=self.options.bucket)
        except MissingError:
            bucket = self.options.bucket
            raise StoreError(f"{self.url}: there is no bucket {bucket!r}; make it or correct the store's url") from None

    def _list(self, folder: str) -> list[StoredObject]:
        prefix, objects = self.options.prefix, []
        with self._explained(folder):
            pages = self.client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.options.bucket, Prefix=prefix + folder):
                objects += [StoredObject(o["Key"].removeprefix(prefix), o["Size"]) for o in page.get("Contents", ())]
        return [o for o in objects if valid_key(o.key)]

    # ------------------------------------------------------------ deleting

    def _delete(self, keys: list[str]) -> None:
        for key in keys:  # one by one: batch deletes need checksums that not every server takes
            with self._explained(key):
                self.client.delete_object(**self._at(key))

    def _sweep(self, folder: str) -> None:
        """Abort unfinished uploads: check_writable leaves one if its second request fails.

        Their age is by the server's clock alone.
        """
        with self._explained(folder):
            pages = self.client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=self.options.bucket, Prefix=self.options.prefix + folder):
                now = parsedate_to_datetime(page["ResponseMetadata"]["HTTPHeaders"]["date"])
                for upload in page.get("Uploads", ()):
                    if (now - upload["Initiated"]).total_seconds() > STALE_SECONDS:
                        self._abort(upload["Key"].removeprefix(self.options.prefix), upload["UploadId"])

    def _abort(self, key: str, upload: str) -> None:
        with contextlib.suppress(ClientError, BotoCoreError):  # another process was first, or the next sweep does it
            self.client.abort_multipart_upload(**self._at(key), UploadId=upload)

    # ------------------------------------------------------------ small things

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self.options.bucket, "Key": self.options.prefix + key}

    def _where(self, key: str) -> str:
        return f"s3://{self.options.bucket}/{self.options.prefix}{key}"

    def _explained(self, key: str) -> contextlib.AbstractContextManager[None]:
        return explained(self._where(key), self.options.bucket)


def _pause(attempt: int) -> None:
    """Wait a random share of a time that doubles with each attempt, at most 5 s."""
    time.sleep(random.uniform(0, min(5.0, 0.05 * 2**attempt)))
