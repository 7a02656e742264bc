import pytest

from backtest_batch.compose.arguments import expand_arguments, read_arguments, read_batch_file
from backtest_batch.errors import ConfigurationError


@pytest.fixture
def written(tmp_path):
    def write(text, name="batch.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def values(path):
    return {item.key: item.value for item in read_batch_file(path)}


def test_yaml_holds_what_the_command_line_would(written):
    path = written(
        "a: no\nb: on\nc: 12:30\nd: 0700\ne: 2005-01-31\nf: 1_000\ng: 1e-7\nh: true\ni: ~\n"
        "j: [NO, ON, y, 08]\nk: 0x1F\nl: -.5\nm: .inf\nn: +1\n"
    )
    assert values(path) == {
        "a": "no",
        "b": "on",
        "c": "12:30",
        "d": "0700",
        "e": "2005-01-31",
        "f": 1000,
        "g": 1e-7,
        "h": True,
        "i": None,
        "j": ["NO", "ON", "y", "08"],
        "k": "0x1F",
        "l": -0.5,
        "m": float("inf"),
        "n": 1,
    }


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.yaml", "seed: 1\nseed: 2\n", "found duplicate key seed .line 1"),
        ("a.yaml", "data: csv\ndata: {path: x}\n", "found duplicate key data"),
        ("a.yaml", "param_grid:\n  seed: [1]\n  seed: [2]\n", "found duplicate key seed .line 2"),
        ("a.json", '{"runs": [{"seed": 1, "seed": 2}]}', "found duplicate key seed"),
        ("a.yaml", "strategy.fast: 1\nstrategy: {fast: 2}\n", "as 1 and as 2"),
        ("a.yaml", "seed: 1\nparam_grid: {seed: [2, 3]}\n", "seed is given twice, as 1 and in pa"),
        ("a.yaml", "", "must hold a mapping"),
        ("a.yaml", "- seed\n", "must hold a mapping"),
        ("a.json", "[1]", "must hold a mapping"),
        ("a.yaml", "1: 2\n", "1 is not a known key"),
        ("a.yaml", "my key: 2\n", "'my key' is not a known key"),
        ("a.yaml", "a: [\n", "is not valid YAML: .* .line 2"),
        ("a.yaml", "a: \x07\n", "special characters are not allowed"),
        ("a.yaml", "a: !!python/object:os.system {}\n", "could not determine a constructor"),
        ("a.yaml", "a: &a [*a]\n", "nested too deeply, or contains itself"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.yaml", "a: " + "[" * 5_000, "nested too deeply"),
        ("a.json", '{"a": 1' + "0" * 5_000 + "}", "is not valid JSON"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(written, name, text, said):
    with pytest.raises(ConfigurationError, match=said) as error:
        read_batch_file(written(text, name))
    assert str(error.value).startswith("batch_file=")
    assert "\n" not in str(error.value)


def test_aliases_cannot_fill_the_memory(written):
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(ConfigurationError, match="holds more than 10,000,000 values"):
        read_batch_file(written("\n".join(lines)))


def test_a_value_on_the_command_line_leaves_the_choice_of_the_file(written):
    path = written("strategy: custom\nstrategy.window: 5\ntags: {a: 1}\n")
    given = read_arguments([f"batch_file={path}", "strategy={window: 10}", "tags={b: 2}"])
    assert expand_arguments(given).texts == (
        "strategy=custom",
        f"batch_file={path}",
        "strategy.window=10",
        "tags={b: 2}",
    )
