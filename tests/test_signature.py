import pytest

from backtest_batch.ownership import Origin, origin, sign


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_a_signature_fits_its_text_and_its_kind_only(home):
    signature = sign("command", "strategy.fast=5")

    assert origin("command", "strategy.fast=5", signature) is Origin.OWN
    assert origin("command", "strategy.fast=6", signature) is Origin.CHANGED
    assert origin("link", "strategy.fast=5", signature) is Origin.CHANGED
    for other in (None, "", "x", "0123456789ab:00", 5):
        assert origin("command", "strategy.fast=5", other) is Origin.UNKNOWN


def test_another_user_has_another_key(home, tmp_path, monkeypatch):
    signature = sign("command", "x")
    monkeypatch.setenv("HOME", str(tmp_path / "other"))
    (tmp_path / "other").mkdir()

    assert origin("command", "x", signature) is Origin.UNKNOWN
    assert sign("command", "x") != signature


def test_the_key_is_the_users_alone(home):
    assert sign("command", "x")
    key = home / ".local" / "state" / "backtest_batch" / "signing_key"

    assert key.stat().st_mode & 0o777 == 0o600
    assert key.parent.stat().st_mode & 0o777 == 0o700


def test_without_a_home_nothing_is_signed(home, monkeypatch):
    monkeypatch.setenv("HOME", str(home / "missing"))

    assert sign("command", "x") == ""
    assert not (home / "missing").exists()


def test_a_key_that_others_can_read_signs_nothing(home):
    folder = home / ".local" / "state" / "backtest_batch"
    folder.mkdir(parents=True)
    (folder / "signing_key").write_text("00" * 32)
    (folder / "signing_key").chmod(0o644)

    assert sign("command", "x") == ""
