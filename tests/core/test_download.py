"""A download is resumed, verified and moved into place as a whole; without a network the message says what to do."""

import hashlib
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from codesign.core.download import RemoteFile, download
from codesign.core.errors import DataError, InvalidValueError

CONTENT = bytes(range(256)) * 40_000  # 10 MB
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT; breaks off after `limits[n]` bytes of the n-th request, and may know no ranges."""

    limits: list
    knows_ranges = True
    status = 0
    ranges: list


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.headers.get("Range") or ""
        self.server.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-") or 0) if self.server.knows_ranges else 0
        status = self.server.status or (416 if start >= len(CONTENT) else 206 if start else 200)
        body = CONTENT[start:] if status < 300 else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        number = len(self.server.ranges) - 1
        self.wfile.write(body[: self.server.limits[number] if number < len(self.server.limits) else None])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server(("127.0.0.1", 0), Handler) as server:
        server.ranges, server.limits = [], []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def file(server):
    return RemoteFile("jets.tar.gz", f"http://127.0.0.1:{server.server_port}/jets.tar.gz", MD5, "10.5281/zenodo.1")


def test_a_file_arrives_whole(server, file, tmp_path):
    seen = []
    path = download(file, tmp_path / "new", lambda have, total: seen.append((have, total)))
    assert path.read_bytes() == CONTENT
    assert list((tmp_path / "new").iterdir()) == [path]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)


def test_a_whole_file_is_not_fetched_again(server, file, tmp_path):
    download(file, tmp_path)
    download(file, tmp_path)
    assert len(server.ranges) == 1


def test_a_broken_download_goes_on_where_it_ended(server, file, tmp_path):
    server.limits = [3_000_000, 2_000_000]
    assert download(file, tmp_path).read_bytes() == CONTENT
    assert server.ranges == ["", "bytes=3000000-", "bytes=5000000-"]


def test_a_download_of_an_earlier_process_goes_on(server, file, tmp_path):
    (tmp_path / "jets.tar.gz.part").write_bytes(CONTENT[:4_000_000])
    assert download(file, tmp_path).read_bytes() == CONTENT
    assert server.ranges == ["bytes=4000000-"]


def test_a_part_that_is_whole_already_is_only_verified(server, file, tmp_path):
    (tmp_path / "jets.tar.gz.part").write_bytes(CONTENT)
    assert download(file, tmp_path).read_bytes() == CONTENT


def test_a_server_without_ranges_sends_everything_again(server, file, tmp_path):
    server.knows_ranges = False
    (tmp_path / "jets.tar.gz.part").write_bytes(b"x" * 4_000_000)
    assert download(file, tmp_path).read_bytes() == CONTENT


def test_a_server_that_sends_nothing_more_is_an_error_and_the_part_is_kept(server, file, tmp_path):
    server.limits = [3_000_000, 0]
    message = (
        f"jets.tar.gz cannot be downloaded from {file.url} (it ended after 3000000 of {len(CONTENT)} bytes). Try "
        f"again, it resumes; or get it from https://doi.org/10.5281/zenodo.1 on a machine with a network and put it at "
        f"{tmp_path / 'jets.tar.gz'}."
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        download(file, tmp_path)
    assert (tmp_path / "jets.tar.gz.part").stat().st_size == 3_000_000
    assert download(file, tmp_path).read_bytes() == CONTENT


def test_a_wrong_digest_leaves_nothing_behind(server, file, tmp_path):
    (tmp_path / "jets.tar.gz.part").write_bytes(b"x" + CONTENT[1:4_000_000])
    wrong = hashlib.md5(b"x" + CONTENT[1:]).hexdigest()
    message = (
        f"The download of jets.tar.gz has md5 {wrong}; the published one is {MD5}. It was deleted: download it again, "
        f"or get it from https://doi.org/10.5281/zenodo.1 and put it at {tmp_path / 'jets.tar.gz'}."
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        download(file, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_present_file_with_another_digest_is_not_overwritten(server, file, tmp_path):
    path = tmp_path / "jets.tar.gz"
    path.write_bytes(b"mine")
    md5 = hashlib.md5(b"mine").hexdigest()
    message = f"{path} has md5 {md5}; the published one is {MD5}. Delete the file and download it again."
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        download(file, tmp_path)
    assert path.read_bytes() == b"mine"


def test_a_refusal_names_its_status(server, file, tmp_path):
    server.status = 404
    with pytest.raises(DataError, match=re.escape(f"cannot be downloaded from {file.url} (status 404). Try again")):
        download(file, tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_a_network_the_message_names_file_source_and_place(tmp_path):
    with socket.socket() as silent:  # bound, but not listening
        silent.bind(("127.0.0.1", 0))
        file = RemoteFile("jets.tar.gz", f"http://127.0.0.1:{silent.getsockname()[1]}/", MD5, "10.5281/zenodo.1")
        message = (
            rf"^jets.tar.gz cannot be downloaded from {file.url} \(.*Connection refused\)\. Try again, it resumes; or "
            rf"get it from https://doi.org/10.5281/zenodo.1 on a machine with a network and put it at "
            rf"{tmp_path}/jets.tar.gz\.$"
        )
        with pytest.raises(DataError, match=message):
            download(file, tmp_path)


def test_only_web_addresses_are_allowed():
    with pytest.raises(
        InvalidValueError, match=r"^The address of f is 'file:///etc/passwd'; allowed: https:// or http://\.$"
    ):
        RemoteFile("f", "file:///etc/passwd", MD5, "")
