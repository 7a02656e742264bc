"""batch_config.yaml: how a batch was requested, and by whom.

It comes from a folder or from the store, where others may have written it. Only what is checked
here is used, and only the user's own commands run without confirmation.
"""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from backtest_batch.config.arguments import (
    argument_key,
    argument_text,
    argument_value,
    configuration_sources,
)
from backtest_batch.errors import ConfigurationError
from backtest_batch.masking import masked, masked_values
from backtest_batch.ownership import Origin, is_own_file, origin, sign
from backtest_batch.store.address import is_sqlite
from backtest_batch.store.artifacts import local_folder
from backtest_batch.store.folders import BATCH_CONFIG, default_output_dir, is_batch_id
from backtest_batch.store.search import BatchHandle, read_artifact
from backtest_batch.store.store import Store

KEY = "trust"


def require_trust(
    named: str, arguments: Sequence[str], targets: Iterable[str], given: Sequence[str]
) -> None:
    """Refuse to run a recorded command that is not the user's own, unless it is trusted.

    Parameters
    ----------
    named
        The key that names it, such as ``resume=latest``.
    arguments
        The recorded arguments that would be used.
    targets
        Classes and functions that it names besides those of the arguments.
    given
        The arguments of this command; ``trust=true`` among them trusts the recorded ones.

    Raises
    ------
    ConfigurationError
        When it is not trusted; the message has the code and the command.
    """
    if (argument_value(given, KEY) or "").lower() == "true":
        return
    code = dict.fromkeys([*targets, *argument_targets(arguments)])
    raise ConfigurationError(
        f"{named}: this was not recorded by you on this machine, and it would run code with your "
        "rights. Nothing was run. It names\n"
        f"  code     {masked(', '.join(code)) or 'that of the shipped configuration'}\n"
        f"  command  {shlex.join(masked_values(list(arguments)))}\n"
        "If you know where it comes from, add trust=true. Its tracking.uri, output_dir and hydra.* "
        "are left out in any case; give your own where they are needed."
    )


def argument_targets(arguments: Iterable[str]) -> list[str]:
    """Return the classes and functions that arguments name."""
    return [
        argument_text(item)
        for item in arguments
        if argument_key(item).rpartition(".")[2] == "_target_" or "_target_" in argument_text(item)
    ]


def is_in_own_mlruns(path: Path) -> bool:
    """Return whether a file lies in ``mlruns`` of the working directory and is the user's own.

    Python imports from the working directory anyway: whoever may write there need not forge a file.
    """
    here = Path("mlruns").absolute()
    below = here in path.absolute().parents and here.resolve() in path.resolve().parents
    return below and is_own_file(path)


def names_destination(item: str) -> bool:
    """Return whether an argument says where something is written or sent, or how Hydra works.

    Such arguments are used only if the user wrote them: no token goes to an address, and no file
    into a folder, that somebody else recorded.
    """
    key = argument_key(item)
    return key in ("tracking.uri", "tracking", "output_dir") or (
        key.partition("/")[0].partition(".")[0] == "hydra" and key != "hydra.searchpath"
    )


_KIND = "batch_config.yaml"
_SIGNED = "\nsignature: "


@dataclass(frozen=True, kw_only=True)
class BatchDocument:
    """A batch_config.yaml that was read and checked.

    Attributes
    ----------
    values
        Its content.
    origin
        Who wrote it, by its signature.
    in_own_folder
        Whether it lies in ``mlruns`` of the working directory, and is the user's own file.
    """

    values: Mapping[str, Any]
    origin: Origin
    in_own_folder: bool = False

    @property
    def is_own(self) -> bool:
        """Whether this user requested the batch."""
        if self.origin is Origin.UNKNOWN:  # an older version, or a new home folder
            return self.in_own_folder
        return self.origin is Origin.OWN

    @property
    def batch_id(self) -> str:
        """The batch."""
        return str(self.values["batch_id"])

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments of its command that may be used again.

        Destinations, and settings of Hydra other than composing, are used only if the user wrote
        them, so that no token goes to an address that somebody else recorded.
        """
        return self._usable("arguments")

    @property
    def overrides(self) -> tuple[str, ...]:
        """What all its runs share: where to look for configuration, and keys."""
        return (*configuration_sources(self.arguments), *self._usable("overrides"))

    @property
    def as_begun(self) -> dict[str, Any]:
        """The part that a resumed batch keeps."""
        values = {key: value for key, value in self.values.items() if key != "output_dir"}
        return values | {name: list(self._usable(name)) for name in ("arguments", "overrides")}

    @property
    def config(self) -> Mapping[str, Any]:
        """Its configuration; empty if it was not recorded."""
        config: Mapping[str, Any] = self.values.get("config") or {}
        return config

    @property
    def process(self) -> Mapping[str, str]:
        """The process that computed it last."""
        return {str(key): str(value) for key, value in (self.values.get("process") or {}).items()}

    @property
    def output_dir(self) -> Path:
        """Its folder, if that is the user's and holds this batch; else the default.

        A folder below the working directory is looked for below the present one first: in a copy of
        a project the recorded path leads to the original.
        """
        default = default_output_dir(self.batch_id)
        recorded = self.values.get("output_dir")
        if not recorded or not self.is_own:
            return default
        folders = [Path(recorded)]
        below = Path(str(self.config.get("output_dir") or default.relative_to(Path.cwd())))
        if not below.is_absolute() and folders[0].parts[-len(below.parts) :] == below.parts:
            folders.insert(0, below.absolute())
        return next((folder for folder in folders if self._is_folder(folder)), default)

    def _is_folder(self, folder: Path) -> bool:
        """Return whether a folder holds this batch, and is the user's."""
        file = folder / BATCH_CONFIG
        found = read_document_file(file)
        return (
            found is not None
            and found.batch_id == self.batch_id
            and (found.origin is Origin.OWN or is_own_file(file))
        )

    def _usable(self, name: str) -> tuple[str, ...]:
        return tuple(item for item in self.values.get(name, []) if self._may_stand(item))

    def _may_stand(self, item: str) -> bool:
        if self.origin is Origin.OWN or not names_destination(item):
            return True
        # If the origin is not certain, a token must not leave the machine.
        to_server = argument_key(item) == "tracking.uri" and not is_sqlite(
            argument_value([item], "tracking.uri") or ""
        )
        return self.is_own and not to_server


def signed_document(values: Mapping[str, Any]) -> str:
    """Return a batch_config.yaml with the user's signature, if the user has a key."""
    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
    signature = sign(_KIND, text)
    return text.removesuffix("\n") + _SIGNED + signature + "\n" if signature else text


def read_document_file(path: Path) -> BatchDocument | None:
    """Return the batch_config.yaml at ``path``; None if there is no usable one."""
    try:
        content = path.read_bytes()
    except (OSError, ValueError):  # not a valid file name
        return None
    return read_document(content, in_own_folder=is_in_own_mlruns(path))


def read_document(content: bytes, *, in_own_folder: bool = False) -> BatchDocument | None:
    """Return the content of a batch_config.yaml; None if it cannot be used.

    Parameters
    ----------
    content
        The bytes of the file.
    in_own_folder
        See :class:`BatchDocument`.
    """
    try:
        text = content.decode()
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or not _is_sound(values):
        return None
    signed, _, signature = text.rpartition(_SIGNED)
    values.pop("signature", None)
    return BatchDocument(
        values=values,
        origin=origin(_KIND, f"{signed}\n", signature.strip()),
        in_own_folder=in_own_folder,
    )


def targets(document: BatchDocument) -> list[str]:
    """Return the classes and functions that the configuration of a batch names, without repeats."""
    return list(dict.fromkeys(_targets(document.config, set())))


def stored_document(store: Store, handle: BatchHandle) -> BatchDocument | None:
    """Return how a recorded batch was requested; None if that cannot be used.

    Raises
    ------
    StoreError
        When it was not recorded, or the store fails.
    """
    folder = local_folder(handle.artifact_uri)
    found = None if folder is None else read_document_file(folder / BATCH_CONFIG)
    if found is None:
        found = read_document(read_artifact(store, handle.mlflow_run_id, BATCH_CONFIG))
    return found if found is not None and found.batch_id == handle.batch_id else None


def _targets(value: Any, seen: set[int]) -> Iterator[str]:
    # Aliases of YAML can name one node a billion times.
    if not isinstance(value, dict | list) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, dict) and "_target_" in value:
        yield str(value["_target_"])
    for item in value.values() if isinstance(value, dict) else value:
        yield from _targets(item, seen)


def _is_sound(values: Mapping[str, Any]) -> bool:
    """Return whether a document has the required parts, each of the right type."""
    config = values.get("config", {})
    return (
        is_batch_id(values.get("batch_id"))
        and _are_texts(values.get("arguments"))
        and _are_texts(values.get("overrides", []))
        and isinstance(config, dict)
        and isinstance(config.get("tracking", {}), dict)
        and isinstance(values.get("process", {}), dict)
        and isinstance(values.get("output_dir", ""), str | None)
    )


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
