"""What a page is made of is compiled and packed once, and then read from the cache."""

import base64
import gzip
import hashlib
from pathlib import Path
from types import CodeType

import pytest

from backtest_batch.report.html import templates

PAGE = "equity.html.j2"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("BACKTEST_BATCH_CACHE", str(tmp_path))
    return tmp_path


def packed() -> str:
    """Pack the plotting library as a new process would."""
    templates._packed.cache_clear()
    text = templates.packed_plotly()
    assert text is not None
    return text


def unpacked(text: str) -> bytes:
    return gzip.decompress(base64.b64decode(text))


def test_a_packed_library_is_read_from_the_cache_and_packed_again_where_it_is_damaged(
    cache: Path,
) -> None:
    pytest.importorskip("plotly")
    text = packed()
    (kept,) = (cache / "plotly").iterdir()
    # The same content in other bytes: only somebody who reads the file can return them.
    other = gzip.compress(unpacked(text), compresslevel=1, mtime=0)
    encoded = base64.b64encode(other).decode("ascii")
    kept.write_text(f"{hashlib.sha256(other).hexdigest()}\n{encoded}", encoding="ascii")
    assert packed() == encoded
    for damaged in ("", "not base64!", kept.read_text("ascii")[:-8]):
        kept.write_text(damaged, encoding="ascii")
        assert packed() == text


def test_compiled_templates_are_read_from_the_cache_and_a_damaged_one_is_compiled_again(
    cache: Path,
) -> None:
    def compiled_page() -> CodeType:
        templates.environment.cache_clear()
        return templates.environment().get_template(PAGE).root_render_func.__code__

    first = compiled_page()
    kept = sorted((cache / "templates").iterdir())
    assert kept
    assert compiled_page() == first
    for file in kept:
        file.write_bytes(file.read_bytes()[:80])
    assert compiled_page() == first
    assert all(file.stat().st_size > 80 for file in kept)


def test_a_page_is_made_where_the_cache_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cache"
    file.write_text("a file where the folder should be", encoding="utf-8")
    monkeypatch.setenv("BACKTEST_BATCH_CACHE", str(file))
    monkeypatch.setenv("TMPDIR", str(file))
    templates.environment.cache_clear()
    assert templates.environment().get_template(PAGE)
