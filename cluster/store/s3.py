"""A store on S3: key `a/b` is the object PREFIX/a/b of a bucket. For AWS, Ceph and others with create-only puts."""

import contextlib
import random
import secrets
import time
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError

from cluster.store.base import CHUNK, STALE_SECONDS, Entry, Store, conflict, open_data, valid_key
from cluster.store.s3_client import ATTEMPTS, S3Options, Taken, explained, status
from distill.errors import MissingError, StoreError

MIB = 1 << 20
MOST_PARTS = 10_000  # of one object, S3's limit
MOST_PUT = 5 << 30  # bytes in one request, S3's limit


class S3Store(Store):
    """Objects below a prefix of a bucket, which must exist. Opening one asks nobody."""

    def __init__(self, options: S3Options, part_bytes: int = 16 * MIB):
        self.options = options
        self.part_bytes = part_bytes
        self.client = options.client()

    @classmethod
    def from_url(cls, url: str) -> "S3Store":
        return cls(S3Options.parse(url))

    @property
    def url(self) -> str:
        return self.options.url

    def check_writable(self) -> None:
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
                _pause(attempt)  # the other writer is not done, or its object was deleted
        raise StoreError(f"{self._where(key)}: other writers kept coming first and going; try again")

    def _write(self, key: str, source: BinaryIO) -> None:
        size = source.seek(0, 2)
        source.seek(0)
        if size >= self.options.multipart_mib * MIB and self._completes_safely:
            return self._write_parts(key, source, size)
        if size > MOST_PUT:
            where = self._where(key)
            raise StoreError(f"{where}: {size} bytes need parts, with which this server may overwrite; use another")
        with self._explained(key):
            self.client.put_object(**self._at(key), Body=source, IfNoneMatch="*")

    def _write_parts(self, key: str, source: BinaryIO, size: int) -> None:
        """Nothing is visible before the last request, and what was sent is dropped if anything fails."""
        at, step = self._at(key), max(self.part_bytes, -(-size // MOST_PARTS))
        if self._exists(key):
            raise Taken(self._where(key))
        with self._explained(key), contextlib.ExitStack() as undo:
            upload = self.client.create_multipart_upload(**at)["UploadId"]
            undo.callback(self._abort, key, upload)
            parts = []
            for number in range(1, -(-size // step) + 1):
                sent = self.client.upload_part(**at, UploadId=upload, PartNumber=number, Body=source.read(step))
                parts.append({"PartNumber": number, "ETag": sent["ETag"]})
            self.client.complete_multipart_upload(
                **at, UploadId=upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
            )
            undo.pop_all()

    def _abort(self, key: str, upload: str) -> None:
        # What made us abort is the error to show; an upload that could not be dropped is invisible and swept later.
        with contextlib.suppress(ClientError, BotoCoreError):
            self.client.abort_multipart_upload(**self._at(key), UploadId=upload)

    @cached_property
    def _completes_safely(self) -> bool:
        """Whether completing parts refuses to overwrite. Ceph 16 ignores the condition there, though not in a put."""
        if self.options.multipart != "auto":
            return self.options.multipart == "on"
        key = f".probe-{secrets.token_hex(8)}"
        with self._explained(key), contextlib.ExitStack() as undo:
            self.client.put_object(**self._at(key), Body=b"")
            undo.callback(self.client.delete_object, **self._at(key))
            upload = self.client.create_multipart_upload(**self._at(key))["UploadId"]
            undo.callback(self._abort, key, upload)
            at = self._at(key) | {"UploadId": upload}
            part = {"PartNumber": 1, "ETag": self.client.upload_part(**at, PartNumber=1, Body=b"x")["ETag"]}
            try:
                self.client.complete_multipart_upload(**at, MultipartUpload={"Parts": [part]}, IfNoneMatch="*")
            except ClientError as error:
                return status(error) == 412
            return False

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
            self._size(key)  # S3 has no empty range, and a missing object must be told
            return b""
        span = {} if (start, stop) == (0, None) else {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}
        with self._explained(key):
            for attempt in range(ATTEMPTS):
                try:
                    body = self.client.get_object(**self._at(key), **span)["Body"]
                except ClientError as error:
                    if status(error) == 416:  # begins at or behind the end
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

    def _exists(self, key: str) -> bool:
        try:
            self._size(key)
        except MissingError:
            return False
        return True

    def _check_bucket(self) -> None:
        try:
            with self._explained(""):
                self.client.head_bucket(Bucket=self.options.bucket)
        except MissingError:
            bucket = self.options.bucket
            raise StoreError(f"{self.url}: there is no bucket {bucket!r}; make it or correct the store's url") from None

    def _list(self, folder: str) -> list[Entry]:
        prefix, found = self.options.prefix, []
        with self._explained(folder):
            pages = self.client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.options.bucket, Prefix=prefix + folder):
                found += [Entry(o["Key"].removeprefix(prefix), o["Size"]) for o in page.get("Contents", ())]
        return [entry for entry in found if valid_key(entry.key)]

    # ------------------------------------------------------------ deleting

    def _delete(self, keys: list[str]) -> None:
        for key in keys:  # one by one: batch deletes need checksums that not every server takes
            with self._explained(key):
                self.client.delete_object(**self._at(key))

    def _sweep(self, folder: str) -> None:
        with self._explained(folder):
            pages = self.client.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=self.options.bucket, Prefix=self.options.prefix + folder):
                for upload in page.get("Uploads", ()):
                    if (datetime.now(UTC) - upload["Initiated"]).total_seconds() > STALE_SECONDS:
                        self._abort(upload["Key"].removeprefix(self.options.prefix), upload["UploadId"])

    # ------------------------------------------------------------ small things

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self.options.bucket, "Key": self.options.prefix + key}

    def _where(self, key: str) -> str:
        return f"s3://{self.options.bucket}/{self.options.prefix}{key}"

    def _explained(self, key: str) -> contextlib.AbstractContextManager[None]:
        return explained(self._where(key), self.options.bucket)


def _pause(attempt: int) -> None:
    """Wait a random part of a doubling time, at most 5 s."""
    time.sleep(random.uniform(0, min(5.0, 0.05 * 2**attempt)))
