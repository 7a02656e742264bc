"""What a command says of choices that Hydra does not find."""

from hydra.errors import MissingConfigException

from backtest_batch.compose.messages import choice_fault


def test_a_launcher_that_is_not_installed_is_named_with_its_package() -> None:
    error = MissingConfigException(
        "In 'config': Could not find 'hydra/launcher/joblib'\n\n"
        "Available options in 'hydra/launcher':\n\tbasic\n\tbatch\n"
    )
    assert str(choice_fault(error)) == (
        "hydra/launcher=joblib: is not installed: pip install 'backtest-batch[joblib]'"
    )
    misspelt = MissingConfigException(str(error).replace("joblib", "jobli"))
    assert str(choice_fault(misspelt)) == (
        "hydra/launcher=jobli: there is no such choice; choose one of: basic, batch"
    )
