"""`paddock models export` and `push`: a checkpoint for elsewhere, from a server's data directory on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from paddock import settings as settings_module
from paddock.cli.options import told_in_words
from paddock.errors import InvalidRequestError, NotFoundError
from paddock.storage.data_dir import DataDir

if TYPE_CHECKING:
    from paddock.inference.engine_messages import LocalModel

_GGUF = "gguf"

_config_option = click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), help="The YAML file that the server uses."
)
_data_dir_option = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="The server's data directory (default ~/.paddock)."
)
_format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["adapter", "merged", _GGUF]),
    help="The adapter alone, or whole weights with it folded in (default: what the checkpoint is).",
)


@click.command()
@click.argument("model_id")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@_format_option
@_config_option
@_data_dir_option
def export(model_id: str, folder: Path, form: str | None, config: Path | None, data_dir: Path | None) -> None:
    """Write a checkpoint's files into FOLDER, with what vLLM and Ollama need to serve it (SERVING.md, Modelfile).

    \b
    Examples:
      paddock models export my-first:epoch-1 /models/mine
      paddock models export my-first:epoch-1 /models/mine --format merged"""
    with told_in_words():
        write = _exporter(model_id, form, config, data_dir)
        written, _ = write(folder.expanduser().absolute())
    click.echo(f"{model_id} is in {folder}, as {written}. How to serve it stands in {folder / 'SERVING.md'}.")


@click.command()
@click.argument("model_id")
@click.argument("repository")
@_format_option
@click.option("--private/--public", "is_private", default=True, show_default=True)
@click.option("--endpoint", help="A hub other than the one that HF_ENDPOINT names, else https://huggingface.co.")
@_config_option
@_data_dir_option
def push(
    model_id: str,
    repository: str,
    form: str | None,
    is_private: bool,
    endpoint: str | None,
    config: Path | None,
    data_dir: Path | None,
) -> None:
    """Upload a checkpoint's files to REPOSITORY (organisation/name) of a hub, which is made unless it is there. The key is
    that of `hf auth login`, or HF_TOKEN.

    Example: paddock models push my-first:epoch-1 me/my-first --format merged"""
    with told_in_words(), tempfile.TemporaryDirectory(prefix="paddock-push-") as temporary:
        write = _exporter(model_id, form, config, data_dir)
        folder = Path(temporary) / "files"
        written, base = write(folder)
        if base is not None and Path(base).is_absolute():
            raise InvalidRequestError(
                f"The adapter {model_id} needs a base that is a folder of this machine, where nobody else finds it: push "
                "`--format merged`."
            )
        url = _upload(folder, repository, f"{model_id} by Paddock", endpoint, is_private=is_private)
    click.echo(f"{model_id} is at {url}, as {written}.")


def _upload(folder: Path, repository: str, message: str, endpoint: str | None, *, is_private: bool) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    api = HfApi(endpoint=endpoint)
    try:
        url = api.create_repo(repository, private=is_private, exist_ok=True)
        api.upload_folder(repo_id=url.repo_id, folder_path=folder, commit_message=message)
    except HFValidationError as error:
        raise click.ClickException(f"{repository} is no name of a repository: {error}") from None
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        raise click.ClickException(f"The hub did not take it: {str(error).strip().partition(chr(10))[0]}") from None
    return str(url)


def _exporter(
    model_id: str, form: str | None, config: Path | None, data_dir: Path | None
) -> Callable[[Path], tuple[str, str | None]]:
    """What writes the checkpoint's files into a folder. What can be refused without reading weights is refused here."""
    if form == _GGUF:
        raise InvalidRequestError(
            "GGUF is not written here: its converter is a script of llama.cpp and no library. Export `--format merged`, "
            "then run llama.cpp's `convert_hf_to_gguf.py` on the folder."
        )
    model = _find(model_id, config, data_dir)

    def write(folder: Path) -> tuple[str, str | None]:
        try:
            from paddock.inference.local_models.export import export as export_model
        except ImportError:
            raise click.ClickException("Exporting needs `paddock[models]` and torch.") from None
        return export_model(model, folder, form)

    return write


def _find(model_id: str, config: Path | None, data_dir: Path | None) -> LocalModel:
    """Where the model's files lie, by the database of a server, which may run meanwhile."""
    from paddock.inference.engine_messages import LocalModel
    from paddock.inference.inference import LOCAL
    from paddock.inference.store import ModelStore
    from paddock.storage.database import Database

    settings = settings_module.load(config, data_dir=data_dir)
    folder = DataDir(settings.data_dir, settings.checkpoint_root)
    if settings.database_url == "sqlite" and not folder.database_file.exists():
        raise InvalidRequestError(f"There is no server's database in {folder.root}: --data-dir names its folder.")
    database = Database(settings.database_url, sqlite_file=folder.database_file)
    try:
        database.check_revision()
        model = ModelStore(database).find(model_id)
    finally:
        database.close()
    if model is None:
        raise NotFoundError(f"There is no model {model_id}; `paddock models list` shows those that there are.")
    if model.provider_id != LOCAL:
        raise InvalidRequestError(f"The weights of {model_id} are elsewhere, with the provider {model.provider_id}.")
    return LocalModel.of(model, folder.checkpoints)
