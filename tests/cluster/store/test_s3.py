"""The S3 store on a bad network and with bad settings: nothing half written, nothing overwritten, every fault named."""

import re

import pytest
from support.proxy import faulty_proxy

from cluster.store import StoredObject, open_store, s3, s3_client
from distill.errors import AwayError, ConflictError, MissingError, StoreError

MIB = 1 << 20
BIG = bytes(range(256)) * (12 * MIB // 256)


@pytest.fixture
def proxy(s3_server, s3_url, monkeypatch):
    """A faulty proxy before the real server, found through the environment."""
    with faulty_proxy(s3_server.endpoint) as (proxy, endpoint):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        yield proxy


@pytest.fixture
def look(s3_server, s3_bucket, s3_url):
    """What is on the server below the test's prefix, past the proxy: {key: bytes}, and the unfinished uploads."""
    client, prefix = s3_server.client(), s3_url.rpartition("/")[2] + "/"

    def look():
        found = client.list_objects_v2(Bucket=s3_bucket, Prefix=prefix).get("Contents", [])
        bodies = {o["Key"]: client.get_object(Bucket=s3_bucket, Key=o["Key"])["Body"].read() for o in found}
        uploads = client.list_multipart_uploads(Bucket=s3_bucket, Prefix=prefix).get("Uploads", [])
        return {key.removeprefix(prefix): body for key, body in bodies.items()}, [u["Key"] for u in uploads]

    return look


@pytest.mark.parametrize("fault", ["drop", "lose", "cut", "error", "slow_down"])
@pytest.mark.parametrize("every", [2, 3])
def test_every_kth_request_failing_is_hidden_by_retries(proxy, s3_url, look, fault, every, monkeypatch):
    _no_waiting(monkeypatch)
    proxy.plan = lambda number, method, path: fault if number % every == 0 else None
    store = open_store(s3_url)
    for i in range(4):
        store.create(f"small/k{i}", bytes([i]) * 1000)
        assert store.read(f"small/k{i}", 10, 900) == bytes([i]) * 890
    store.create("big", BIG)
    assert store.read("big") == BIG
    assert [e.size for e in store.list("")] == [12 * MIB] + [1000] * 4
    assert [e.key for e in store.delete("small", dry_run=False)] == [f"small/k{i}" for i in range(4)]
    assert any(seen[2] for seen in proxy.seen)
    proxy.plan = lambda *request: None
    assert look() == ({"big": BIG}, [])


@pytest.mark.parametrize("fault", ["drop", "lose", "error"])
def test_a_network_that_dies_for_good_leaves_a_whole_object_or_none(proxy, s3_url, look, fault, monkeypatch):
    _no_waiting(monkeypatch)
    store = open_store(s3_url)
    proxy.plan = lambda number, method, path: fault
    with pytest.raises(StoreError, match="s3://stillhouse") as error:
        store.create("big", BIG)
    assert not isinstance(error.value, ConflictError | MissingError)
    proxy.plan = lambda *request: None
    assert look() == ({"big": BIG} if fault == "lose" else {}, [])  # only answers are lost: the object is there
    store.create("big", BIG)
    assert look() == ({"big": BIG}, [])


def test_a_check_that_dies_in_the_middle_leaves_no_object_and_is_swept_later(proxy, s3_url, look, monkeypatch):
    _no_waiting(monkeypatch)
    store = open_store(s3_url + "/a")
    store.check_writable()
    assert look() == ({}, [])
    proxy.plan = lambda number, method, path: "drop" if method == "DELETE" else None
    with pytest.raises(StoreError, match="endpoint|closed"):
        store.check_writable()
    proxy.plan = lambda *request: None
    above = open_store(s3_url)
    assert look()[0] == {} and len(look()[1]) == 1
    above.delete("a", dry_run=False)
    assert len(look()[1]) == 1, "an upload in progress must not be swept"
    monkeypatch.setattr(s3, "STALE_SECONDS", -60)
    above.delete("a", dry_run=True)
    assert len(look()[1]) == 1
    above.delete("a", dry_run=False)
    assert look() == ({}, [])


def test_a_create_whose_answer_was_lost_meets_its_own_bytes(proxy, s3_url):
    store = open_store(s3_url)
    proxy.plan = lambda number, method, path: "lose" if number == 1 else None
    store.create("k", b"mine")
    assert [(method, fault) for method, _, fault in proxy.seen][:2] == [("PUT", "lose"), ("PUT", None)]
    proxy.plan = lambda number, method, path: "lose" if number == 4 else None
    with pytest.raises(ConflictError):
        store.create("k", b"other")
    assert store.read("k") == b"mine"


@pytest.mark.parametrize("theirs", [BIG, b"other"])
def test_a_writer_that_comes_second_adopts_or_conflicts(proxy, s3_url, s3_server, s3_bucket, look, theirs):
    """The other writes while our request is on its way."""
    key = s3_url.removeprefix(f"s3://{s3_bucket}/") + "/big"

    def plan(number, method, path):
        if method == "PUT":
            s3_server.client().put_object(Bucket=s3_bucket, Key=key, Body=theirs)

    proxy.plan = plan
    if theirs == BIG:
        open_store(s3_url).create("big", BIG)
    else:
        with pytest.raises(ConflictError):
            open_store(s3_url).create("big", BIG)
    assert look() == ({"big": theirs}, [])


@pytest.mark.parametrize("data", [b"x" * 1000, BIG])
def test_an_object_is_one_request(proxy, s3_url, data):
    open_store(s3_url).create("k", data)
    assert [method for method, _, _ in proxy.seen] == ["PUT"]


def test_an_object_beyond_one_request_is_refused_before_any_is_sent(proxy, s3_url, tmp_path):
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(s3.MOST_PUT + 1)  # takes no room on the disk
    with pytest.raises(StoreError, match=r"k: 5,368,709,121 bytes, and S3 takes at most 5 GiB in one"):
        open_store(s3_url).create("k", tmp_path / "huge")
    assert proxy.seen == []


def test_a_range_is_one_request_of_its_bytes(proxy, s3_url):
    store = open_store(s3_url)
    store.create("k", bytes(range(100)))
    proxy.seen.clear()
    assert store.read("k", 10, 20) == bytes(range(10, 20))
    assert [method for method, _, _ in proxy.seen] == ["GET"]


def test_pauses_between_retries_are_random(proxy, s3_url, monkeypatch):
    pauses = _no_waiting(monkeypatch)
    for _ in range(2):
        proxy.plan = lambda number, method, path: "slow_down" if method == "GET" else None
        with pytest.raises(StoreError, match="SlowDown"):
            open_store(s3_url).read("k")
    half = len(pauses) // 2
    assert half == s3_client.ATTEMPTS - 1
    assert pauses[:half] != pauses[half:]
    assert all(0 <= pause <= min(2**i, 20) for i, pause in enumerate(pauses[:half]))


@pytest.mark.parametrize("call", ["read", "size", "list", "create", "delete", "check_writable"])
def test_a_bucket_that_is_not_there_is_named(s3_url, call):
    store = open_store("s3://no-such-bucket/x")
    arguments = {"create": ("k", b""), "delete": ("k", False), "check_writable": (), "list": ("",)}.get(call, ("k",))
    with pytest.raises(StoreError, match="no bucket 'no-such-bucket'; make it") as error:
        getattr(store, call)(*arguments)
    assert not isinstance(error.value, MissingError)


def test_wrong_credentials_are_named(s3_url, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    for call in (lambda s: s.read("k"), lambda s: s.size("k"), lambda s: s.check_writable(), lambda s: s.list("")):
        with pytest.raises(StoreError, match="credentials") as error:
            call(open_store(s3_url))
        assert "wrong" not in str(error.value)


def test_missing_credentials_are_named(s3_url, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(StoreError, match="set AWS_ACCESS_KEY_ID"):
        open_store(s3_url).read("k")


def test_an_endpoint_that_does_not_answer_is_named(s3_url, monkeypatch):
    _no_waiting(monkeypatch)
    for call in (lambda s: s.read("k"), lambda s: s.create("k", b"x"), lambda s: s.list("")):
        with pytest.raises(StoreError, match="check the endpoint"):
            call(open_store(s3_url + "?endpoint=http://127.0.0.1:1"))


def test_a_body_that_is_always_cut_is_an_error_in_the_end(proxy, s3_url, monkeypatch):
    _no_waiting(monkeypatch)
    store = open_store(s3_url)
    store.create("k", b"x" * 1000)
    proxy.seen.clear()
    proxy.plan = lambda *request: "cut"
    with pytest.raises(StoreError, match="k"):
        store.read("k")
    assert len(proxy.seen) == s3_client.ATTEMPTS


@pytest.mark.parametrize(
    "url, fault",
    [
        ("s3://B/x", "write s3://"),
        ("s3://bucket/../x", "write s3://"),
        ("s3://bucket/a//x", "write s3://"),
        ("s3://user:secret@bucket/x", "write s3://"),
        ("s3://bucket/x#y", "write s3://"),
        ("s3://bucket/x?acl=public", "unknown option acl"),
        ("s3://bucket/x?path_style=yes", "path_style is 0 or 1"),
        ("s3://bucket/x?multipart=on", "multipart has no effect, every object is one request: remove it"),
        ("s3://bucket/x?multipart_mib=64", "multipart_mib has no effect"),
        ("s3://bucket/x?endpoint=ftp://h", "endpoint is http"),
        ("s3://bucket/x?endpoint=http://u:p@h", "without user"),
    ],
)
def test_a_url_with_faults_is_refused(url, fault):
    with pytest.raises(StoreError, match=re.escape(fault)):
        open_store(url)


def test_all_faults_of_a_url_are_listed():
    with pytest.raises(StoreError, match="unknown option a; unknown option b; path_style is 0 or 1"):
        open_store("s3://bucket/x?a=1&b=2&path_style=yes")


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/a/b", "s3://bucket/a?region=eu-west-1&path_style=1"])
def test_options_survive_the_url(url, monkeypatch):
    monkeypatch.delenv("STILLHOUSE_S3_PATH_STYLE", raising=False)
    options = s3_client.S3Options.parse(url)
    assert options.url == url and s3_client.S3Options.parse(options.url) == options


@pytest.mark.parametrize("by", ["url", "environment", "nothing"])
def test_path_style_puts_the_bucket_in_the_path(by, monkeypatch):
    monkeypatch.setenv("STILLHOUSE_S3_PATH_STYLE", "1" if by == "environment" else "0")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    url = "s3://bucket/x?region=eu-west-1" + ("&path_style=1" if by == "url" else "")
    made = open_store(url).client.generate_presigned_url("get_object", {"Bucket": "bucket", "Key": "k"})
    assert (".amazonaws.com/bucket/k" in made) == (by != "nothing"), made


def test_objects_lie_below_the_prefix_only(s3_url, s3_server, s3_bucket):
    store, above = open_store(s3_url + "/deep"), open_store(s3_url)
    store.create("k", b"x")
    above.create("deeper", b"y")
    assert store.list("") == [StoredObject("k", 1)]
    assert [e.key for e in above.list("deep")] == ["deep/k"]


def _no_waiting(monkeypatch) -> list[float]:
    """Retries at once, as often as they like; the pauses that were asked for."""
    pauses = []
    monkeypatch.setattr("time.sleep", pauses.append)
    monkeypatch.setattr("botocore.retries.quota.RetryQuota.acquire", lambda self, amount: True)
    return pauses


def test_rays_own_files_go_where_the_options_of_the_url_say(s3_server, s3_url, monkeypatch):
    """pyarrow, which writes them, knows nothing of the store; without the endpoint Amazon would be asked."""
    from pyarrow.fs import FileSystem, FileType

    from cluster.store import ray_url

    monkeypatch.delenv("AWS_ENDPOINT_URL")
    url = f"{s3_url}?endpoint={s3_server.endpoint}"
    system, path = FileSystem.from_uri(ray_url(url, "ray"))
    with system.open_output_stream(f"{path}/state.json") as file:
        file.write(b"{}")
    assert system.get_file_info(f"{path}/state.json").type == FileType.File
    assert open_store(url).read("ray/state.json") == b"{}"


@pytest.mark.parametrize("fault", ["drop", "slow_down", "error"])
def test_a_server_that_goes_away_for_a_while_is_waited_for(s3_server, s3_url, monkeypatch, fault):
    """After boto3's own attempts; what is written while it is away is there, once, when it is back."""
    monkeypatch.setenv("STILLHOUSE_PATIENCE", "600")
    pauses = _no_waiting(monkeypatch)
    with faulty_proxy(s3_server.endpoint) as (proxy, endpoint):
        store = open_store(f"{s3_url}?endpoint={endpoint}")
        store.create("before", b"1")
        until = len(proxy.seen) + 3 * s3_client.ATTEMPTS
        proxy.plan = lambda number, method, path: fault if number <= until else None
        store.create("after", b"2")
        assert len(proxy.seen) > until and pauses
        assert [o.key for o in store.list()] == ["after", "before"] and store.read("after") == b"2"


def test_a_server_that_was_never_there_is_not_waited_for(s3_url, monkeypatch):
    monkeypatch.setenv("STILLHOUSE_PATIENCE", "600")
    _no_waiting(monkeypatch)
    with pytest.raises(AwayError, match="check the endpoint"):
        open_store(f"{s3_url}/new?endpoint=http://127.0.0.1:9").create("a", b"1")


def test_a_store_that_is_full_says_so_at_once_and_keeps_what_it_has(s3_server, s3_url, monkeypatch):
    monkeypatch.setenv("STILLHOUSE_PATIENCE", "600")
    pauses = _no_waiting(monkeypatch)
    with faulty_proxy(s3_server.endpoint) as (proxy, endpoint):
        store = open_store(f"{s3_url}?endpoint={endpoint}")
        store.create("before", b"1")
        proxy.plan = lambda number, method, path: "full" if method == "PUT" else None
        with pytest.raises(StoreError, match=r"the store is full \(QuotaExceeded\); delete what bucket 'stillhouse"):
            store.create("after", b"2")
        assert not pauses and store.read("before") == b"1" and len(store.list()) == 1


def test_a_slow_store_is_only_slow(proxy, s3_url, monkeypatch):
    monkeypatch.setattr("support.proxy.SLOW_SECONDS", 0.1)
    proxy.plan = lambda number, method, path: "slow"
    store = open_store(s3_url)
    store.create("a/b", BIG)
    assert store.read("a/b", 5, 10) == BIG[5:10] and [o.size for o in store.list()] == [12 * MIB]
    assert {fault for *_, fault in proxy.seen} == {"slow"}
