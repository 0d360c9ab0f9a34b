"""The disk cache under everything that can go wrong with a disk."""
import logging
import os
import subprocess
import sys

import pytest

from jtorch.runtime import cache
from jtorch.runtime.cache import Cache


def only_file(directory):
    (path,) = (p for p in directory.glob("??/*"))
    return path


def test_round_trip(tmp_path):
    kept = Cache(tmp_path / "new" / "cache")
    assert kept.get("key") is None
    kept.put("key", b"bytes")
    kept.put("empty", b"")
    assert kept.get("key") == b"bytes" and kept.get("empty") == b""
    kept.put("key", b"other")
    assert Cache(kept.directory).get("key") == b"other"


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:10], lambda b: b"", lambda b: b"garbage" * 99,
                                    lambda b: b[:-1] + bytes([b[-1] ^ 1])])
def test_damage_is_a_miss_reported_once(tmp_path, caplog, damage):
    kept = Cache(tmp_path)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            kept.put("key", b"bytes" * 100)
            path = only_file(tmp_path)
            path.write_bytes(damage(path.read_bytes()))
            assert kept.get("key") is None
            assert not path.exists()
    assert len(caplog.records) == 1
    kept.put("key", b"again")
    assert kept.get("key") == b"again"


def test_the_least_recently_used_go(tmp_path):
    kept = Cache(tmp_path, limit=10_000)
    for k in range(8):
        kept.put(str(k), bytes(1000))
        os.utime(kept.path(str(k)), (k, k))
    assert kept.get("0") is not None  # and so it is used now
    for k in range(8, 14):
        kept.put(str(k), bytes(1000))
    assert kept.get("0") is not None
    assert kept.get("1") is None
    assert sum(p.stat().st_size for p in tmp_path.glob("??/*")) <= 10_000


def test_there_are_not_too_many_entries(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "ENTRIES", 20)
    kept = Cache(tmp_path)
    for k in range(30):
        kept.put(str(k), b"flag")
        os.utime(kept.path(str(k)), (k, k))
    kept.sweep()
    assert [k for k in range(30) if kept.get(str(k)) is not None] == list(range(12, 30))


def test_a_write_looks_at_few_files(tmp_path, monkeypatch):
    """And yet what many processes write, each of them little, stays within the limits."""
    looks: list[int] = []
    of_cache = Cache._files

    def files(self, *folders):
        found = of_cache(self, *folders)
        looks.append(len(found[0]))
        return found

    monkeypatch.setattr(Cache, "_files", files)
    monkeypatch.setattr(cache, "ENTRIES", 512)
    kept = Cache(tmp_path, limit=8 << 20)
    for k in range(3000):
        if k % 10 == 0:
            kept = Cache(tmp_path, limit=8 << 20)  # another process
        kept.put(str(k), b"flag")
    count = len(list(tmp_path.glob("??/*")))
    assert 400 <= count <= 1000 and max(looks) < 400 and len(looks) < 600


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_read_only_directory(tmp_path):
    Cache(tmp_path).put("key", b"bytes")
    for directory in (*tmp_path.iterdir(), tmp_path):
        directory.chmod(0o500)
    kept = Cache(tmp_path)
    assert kept.get("key") == b"bytes"
    kept.put("other", b"bytes")
    assert kept.get("other") is None


def test_a_place_that_cannot_be(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    kept = Cache(tmp_path / "file" / "cache")
    with caplog.at_level(logging.WARNING):
        kept.put("key", b"bytes")
        kept.put("key", b"bytes")
    assert kept.get("key") is None
    assert len(caplog.records) == 1


def test_no_cache():
    kept = Cache(None)
    kept.put("key", b"bytes")
    assert kept.get("key") is None


def test_many_processes(tmp_path):
    """All write the same keys and read them back, while a small limit makes them sweep under each other."""
    text = """
import sys
from pathlib import Path
from jtorch.runtime.cache import Cache
kept = Cache(Path(sys.argv[1]), limit=200_000)
for n in range(300):
    key = str(n % 40)
    body = kept.get(key)
    assert body is None or body == key.encode() * 5000, key
    kept.put(key, key.encode() * 5000)
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    running = [subprocess.Popen([sys.executable, "-c", text, str(tmp_path)], env=env, stderr=subprocess.PIPE)
               for _ in range(4)]
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0 and not errors
    assert not list(tmp_path.glob("??/tmp*"))


def test_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("JTORCH_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("JTORCH_CACHE_SIZE", "1.5M")
    cache.default.cache_clear()
    try:
        assert cache.default().limit == 3 << 19
        cache.put_blob("key", b"bytes")
        assert cache.get_blob("key") == b"bytes"
        assert only_file(tmp_path).exists()
    finally:
        cache.default.cache_clear()
