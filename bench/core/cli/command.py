"""The only module that imports Hydra: compose a configuration, run a command on it.

Every command is ``main(config: dict) -> int``. Besides its keys the configuration has ``sweep_id``,
the keys that were ``given``, and the times at which the process (``began_s``) and its composition
(``composes_s``) began.
Exit codes: 0 done, 1 a verdict, 2 bad input, 3 our own bug (with its traceback), 130 Ctrl-C.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from bench.core.cli import multirun
from bench.core.cli.choices import (
    check_own_entries,
    groups,
    no_override,
    options,
    own_folders,
    refuse_added,
    refuse_unread,
    rows_without_yaml,
    settable,
    why_no_choice,
    yamls,
)
from bench.core.cli.errors import ConfigError, did_you_mean, print_error
from bench.core.cli.files import check_writable
from bench.core.cli.foreign import ctrl_c_by_any_signal
from bench.core.cli.streams import exit_code, make_streams_unbreakable
from bench.core.cli.texts import LIMITS, visible
from bench.core.cli.usage import Root, parts_of, usage
from bench.core.clock import now_s, process_age_s, utc_stamp
from bench.core.places import CONF

SWEEP_ID = "ATTNBENCH_SWEEP"
"""Shared by the jobs of one multirun: names its folder, groups its W&B runs."""

NESTED = "The configuration refers to itself, or is nested too deeply to be read."

Command = Callable[[dict[str, Any]], int]
AfterJobs = Callable[[list[dict[str, Any]]], None]


def run_app(
    config_name: str,
    main: Command,
    argv: list[str] | None = None,
    *,
    root: Root | None = None,
    out_is_file: bool = False,
    after_jobs: AfterJobs | None = None,
) -> int:
    """Compose a command's configuration with the overrides of `argv` and run `main` on it.

    Under ``--multirun`` every job is run, and the worst exit code is returned. `root` is composed
    for a command without ``conf/<config_name>.yaml``; with `out_is_file`, ``out`` names a file and
    not a folder. `after_jobs` is called once with the configurations of a multirun's jobs that
    ended with 0 or 1.
    """
    make_streams_unbreakable()
    composes_s = now_s()
    began_s = composes_s - (process_age_s() if argv is None else 0.0)
    words = sys.argv[1:] if argv is None else argv
    if root is not None:
        from hydra.core.config_store import ConfigStore

        ConfigStore.instance().store(name=config_name, node=dict(root.content))
    root = root or _root_of_file(config_name)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints and exits with 1 by itself
    os.environ.setdefault(SWEEP_ID, f"{utc_stamp()}-{uuid.uuid4().hex[:6]}")
    try:
        if not os.environ[SWEEP_ID].isprintable():
            raise ConfigError(
                f"The environment variable {SWEEP_ID} is {os.environ[SWEEP_ID]!r}. It names files "
                "and records, so it must be printable. Unset it, or set it to a plain word."
            )
        chosen = groups(root)
        if "attention" in chosen:
            _give_rows_to_hydra(words)
        if {"-h", "--help"} & set(words):
            choices = {group: list(options(group, words)) for group in chosen}
            print(usage(config_name, root, CONF, choices, chosen))
            return exit_code(0)
        _check_out(words, out_is_file)
        words = _into_empty(settable(words, [CONF, *own_folders(words)]), root)
        codes = _run_hydra(config_name, root, main, words, after_jobs, (began_s, composes_s))
    except ConfigError as error:
        return print_error(error)
    except SystemExit as stop:  # Hydra's own help, and argparse's errors
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Uncomposed as refusal:
        return print_error(ConfigError(_explain(refusal.error, config_name, root, words)))
    except Exception:
        traceback.print_exc()
        return 3
    return exit_code(max(codes, default=0))


class Uncomposed(Exception):
    """An error raised by Hydra before a command: the arguments or the YAMLs are at fault."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def _run_hydra(
    config_name: str,
    root: Root,
    main: Command,
    words: list[str],
    after_jobs: AfterJobs | None,
    starts_s: tuple[float, float],
) -> list[int]:
    import hydra
    from omegaconf import DictConfig

    codes: list[int] = []

    def job(cfg: DictConfig) -> None:
        # A job that raised would end a multirun, and with it the jobs that had not run yet.
        config: dict[str, Any] = {}
        try:
            refuse_added(config_name, _own_keys(root), _given_words(), sys.argv)
            given = tuple(word.lstrip("+~").partition("=")[0] for word in _given_words())
            config = _resolved(cfg)
            refuse_unread(config_name, config, _own_keys(root), sys.argv)
            check_own_entries(config, sys.argv)
            _refuse_idle_launcher()
            began_s, composes_s = (now_s(), now_s()) if _job_folder() else starts_s
            times = {"began_s": began_s, "composes_s": composes_s}
            codes.append(main(config | times | {"sweep_id": _sweep_id(), "given": given}))
        except ConfigError as error:
            codes.append(print_error(error))
        except KeyboardInterrupt:
            codes.append(130)
            raise
        except Exception as error:
            if _is_hydras(error):
                codes.append(print_error(ConfigError(str(error))))
            else:
                traceback.print_exc()
                codes.append(3)
        if folder := _job_folder():
            multirun.tell_ending(folder, codes[-1], config)

    run = hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(job)
    before, sys.argv = sys.argv, [f"attnbench {config_name}", *words]
    multirun.SweepFolder.last = None
    try:
        with ctrl_c_by_any_signal():
            try:
                run()  # a job catches what it raises itself
            except Exception as error:
                raise Uncomposed(error) from error
        ended = list(multirun.endings(multirun.SweepFolder.last))
        codes += [code for code, _ in ended]
        if ended and all(config.get("dry_run") for _, config in ended):
            multirun.leave_no_folder()
        done = [config for code, config in ended if code in (0, 1)]
        if after_jobs and len(done) > 1:
            after_jobs(done)
    except KeyboardInterrupt:
        codes.append(130)
    finally:
        sys.argv = before
    return codes


def _resolved(cfg: Any) -> dict[str, Any]:
    from omegaconf import OmegaConf

    try:
        config: Any = OmegaConf.to_container(cfg, resolve=True)
    except RecursionError as error:
        raise ConfigError(NESTED) from error
    return dict(config)


def read_yaml(file: Path) -> dict[str, Any]:
    """A YAML file as Hydra would read it: ``1e-6`` is a number to it, and a word to plain YAML.

    Raises:
        ConfigError: it cannot be read.
    """
    from omegaconf import OmegaConf

    try:
        text = StringIO(file.read_text("utf-8"))
        content: Any = OmegaConf.to_container(OmegaConf.load(text), resolve=False)
    except Exception as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    return content if isinstance(content, dict) else {}


def _job_folder() -> str | None:
    """Folder of a job of a multirun; None for a single run."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    return str(hydra.runtime.output_dir) if hydra.mode is RunMode.MULTIRUN else None


def _refuse_idle_launcher() -> None:
    """Refuse a launcher that would launch nothing."""
    from hydra.core.hydra_config import HydraConfig

    name = HydraConfig.get().runtime.choices.get("launcher")
    if name is not None and _job_folder() is None:
        raise ConfigError(
            f"launcher={name} sends out the jobs of a multirun, and this is one job. Add -m, and "
            "put commas between the values that make jobs, e.g. -m attention=softmax,nala."
        )


def _sweep_id() -> str:
    """The sweep's id; with the job's number behind a slash in a multirun."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    shared = os.environ[SWEEP_ID]
    return f"{shared}/{hydra.job.num}" if hydra.mode is RunMode.MULTIRUN else shared


def _given_words() -> list[str]:
    from hydra.core.hydra_config import HydraConfig

    return list(HydraConfig.get().overrides.task)


def _into_empty(words: Sequence[str], root: Root) -> list[str]:
    """The words, with ``++`` before what fills a mapping that is empty by default.

    Without ``++``, Hydra refuses a key that the mapping lacks.
    """
    empty = [re.escape(key) for key, value in root.content.items() if value == {}]
    fills = re.compile(rf"({'|'.join(empty)})(\.[^=]+=|=\{{)") if empty else None
    return [f"++{word}" if fills and fills.match(word) else word for word in words]


def _root_of_file(config_name: str) -> Root:
    file = CONF / f"{config_name}.yaml"
    purpose, keys = parts_of(file)
    return Root(content=read_yaml(file), purpose=purpose, keys=keys)


def _own_keys(root: Root) -> list[str]:
    """Top-level keys that a command's root sets, and the groups that it composes."""
    keys = [*groups(root), *root.content]
    if "publish" in keys:
        keys += read_yaml(CONF / "publish" / "default.yaml")
    return [key for key in dict.fromkeys(keys) if key != "defaults"]


def _is_hydras(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] in {"hydra", "omegaconf", "antlr4", "yaml"}


def _check_out(words: list[str], out_is_file: bool) -> None:
    """Refuse an `out` that cannot be written, before Hydra makes a folder in it."""
    given = [word.partition("=")[2] for word in words if word.startswith("out=")]
    if given and not given[-1].startswith("["):
        path = Path(given[-1].strip("'\""))
        check_writable(path.parent if out_is_file else path)
        if out_is_file and os.path.isdir(path):
            raise ConfigError(
                f"out={path} is a folder. Name a file, as out={path / 'found.jsonl'}."
            )


def _explain(error: Exception, config_name: str, root: Root, words: list[str]) -> str:
    """Say in a line or two what was refused, what is allowed, and the nearest names."""
    if isinstance(error, RecursionError):
        return NESTED
    if missing := getattr(error, "missing_cfg_file", None):
        group, _, name = missing.rpartition("/")
        if group == "hydra/launcher" and name in multirun.EXTRAS:
            return (
                f"This launcher is not installed: pip install 'attnbench[{multirun.EXTRAS[name]}]'"
            )
        known = {*options(group, words), *(getattr(error, "options", None) or ())}
        near = did_you_mean(name, known)
        plugin = ", or a mechanism of a module in plugins" if group == "attention" else ""
        own = f"One of your own is a YAML in {group}/ of a folder that --config-dir names{plugin}."
        return f"{group}={name}: there is no such {group}. {near} {own}"
    if choice := why_no_choice(words):
        return choice
    # A group of other commands is another error of Hydra's, with advice that leads astray.
    others = (word.partition("=")[0] for word in words if re.match(r"\w+=", word))
    other = next((o for o in others if (CONF / o).is_dir() and o not in groups(root)), None)
    if name := getattr(error.__cause__ or error, "full_key", other if _is_hydras(error) else None):
        near = _nearest(name, _keys(config_name, root, words))
        return f"{name} is not a key of {config_name}. {near}"
    said = visible(str(error).strip(), LIMITS["reason"])
    nameless = next((word for word in words if word.startswith("=")), None)
    if unread := getattr(error, "override", nameless):
        return no_override(unread)
    if _is_hydras(error):
        return said
    found = _explain_file(words) or _explain_folder(error, words)
    return found or f"{type(error).__name__}: {said}"


def _nearest(name: str, keys: Sequence[str]) -> str:
    """Keys of the section that a name is in, the nearest first; of the whole command if of none."""
    section = name
    while section := section.rpartition(".")[0]:
        inner = [key.removeprefix(f"{section}.") for key in keys if key.startswith(f"{section}.")]
        if inner:
            own = [key for key in inner if "." not in key]
            return did_you_mean(name.removeprefix(f"{section}."), own, section=f"{section}.")
    return did_you_mean(name, keys, listed={key.partition(".")[0] for key in keys})


def _explain_folder(error: Exception, words: list[str]) -> str | None:
    """Say which of Hydra's folders cannot be made, if that is the error."""
    folders = [word for word in words if word.startswith(("hydra.run.dir=", "hydra.sweep.dir="))]
    if not isinstance(error, OSError) or not (named := folders[-1:] or [error.filename])[0]:
        return None
    return f"{named[0]} cannot be made: {error.strerror}. Name a folder that can be written."


def _explain_file(words: list[str]) -> str | None:
    """Say which of the user's own YAMLs cannot be read, if one cannot."""
    for root in own_folders(words):
        for file in sorted(root.glob("*/*.yaml")):
            try:
                read_yaml(file)
            except ConfigError as error:
                return str(error)
    return None


def _give_rows_to_hydra(words: list[str]) -> None:
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    store.repo.pop("attention", None)  # of an earlier call, which may have named other plugins
    for name, row in rows_without_yaml(words, yamls("attention", words)).items():
        store.store(group="attention", name=name, node={name: row})


def _keys(config_name: str, root: Root, words: list[str]) -> list[str]:
    """Every key that could have been overridden beside the choices that were made."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    choices = [w for w in words if re.match(r"(attention|task|experiment)=", w) and "=," not in w]
    for overrides in (choices, []):
        try:
            with initialize_config_dir(str(CONF), version_base="1.3"):
                config = compose(config_name, overrides=overrides)
            return [*dict.fromkeys([*groups(root), *_flatten(config, "")])]
        except Exception as error:  # the choices may be what is wrong
            if not _is_hydras(error):
                raise
    return []


def _flatten(config: Any, prefix: str) -> Iterator[str]:
    for key, value in config.items_ex(resolve=False):
        yield f"{prefix}{key}"
        if hasattr(value, "items_ex"):
            yield from _flatten(value, f"{prefix}{key}.")
