"""What a worker says about itself before it gets work."""

import socket

from backtest_batch.batch.fingerprint import package_fingerprint
from backtest_batch.errors import ConfigurationError


def probe() -> tuple[str, str]:
    """Return the name of this machine and the fingerprint of its package, on the worker."""
    return socket.gethostname(), package_fingerprint()


def check_probe(answer: object, address: str) -> None:
    """Look at what a worker said, or at why it said nothing.

    Raises
    ------
    ConfigurationError
        When it has no package, or another version.
    """
    if isinstance(answer, BaseException):
        raise ConfigurationError(
            f"hydra.launcher.address={address}: a worker cannot import this package "
            f"({type(answer).__name__}: {answer}); install backtest-batch there, in the version "
            "that is installed here"
        )
    assert isinstance(answer, tuple)
    host, fingerprint = answer
    if fingerprint != package_fingerprint():
        raise ConfigurationError(
            f"hydra.launcher.address={address}: the worker on {host} has another version of "
            "backtest-batch; install the one that is installed here"
        )
