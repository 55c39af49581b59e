from __future__ import annotations

from pathlib import Path

import pytest

from paddock import settings
from paddock.errors import InvalidRequestError


def test_file_then_environment_then_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "paddock.yaml"
    config.write_text("port: 1\nnum_threads: 2\nmax_running_jobs: 3\n")
    monkeypatch.setenv("PADDOCK_NUM_THREADS", "4")
    monkeypatch.setenv("PADDOCK_MAX_RUNNING_JOBS", "5")
    loaded = settings.load(config, max_running_jobs=6, port=None)
    assert (loaded.port, loaded.num_threads, loaded.max_running_jobs) == (1, 4, 6)


def test_lists_come_from_the_environment_as_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PADDOCK_DATASET_ROOTS", "[/data, /more]")
    assert settings.load().dataset_roots == (Path("/data"), Path("/more"))


def test_variables_that_nothing_reads_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "paddock.yaml"
    config.write_text('api_keys: ["${env.PADDOCK_ADMIN_KEY}", "${env.PADDOCK_OTHER_KEY:=none}"]\n')
    before = settings.unread_variables(config)
    for name in ("PORT", "ADMIN_KEY", "OTHER_KEY", "URL", "API_KEY", "TEST_POSTGRES_URL", "MAX_RUNING_JOBS", "COLOUR"):
        monkeypatch.setenv(f"PADDOCK_{name}", "1")
    assert [name for name in settings.unread_variables(config) if name not in before] == [
        "PADDOCK_COLOUR",
        "PADDOCK_MAX_RUNING_JOBS (is PADDOCK_MAX_RUNNING_JOBS meant?)",
    ]
    assert {"PADDOCK_ADMIN_KEY", "PADDOCK_OTHER_KEY"} < {name.split()[0] for name in settings.unread_variables(None)}


def test_secrets_are_taken_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "paddock.yaml"
    config.write_text(
        "providers:\n- provider_id: lab\n  provider_type: remote::openai\n"
        '  config: {base_url: "http://127.0.0.1:1/v1", api_key: "${env.LAB_KEY}", max_concurrency: "${env.LAB_MAX:=7}"}\n'
    )
    monkeypatch.setenv("LAB_KEY", "secret")
    provider = settings.load(config).providers[0]
    assert (provider.config.api_key, provider.config.max_concurrency) == ("secret", 7)
    monkeypatch.delenv("LAB_KEY")
    with pytest.raises(InvalidRequestError, match="LAB_KEY"):
        settings.load(config)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("prot: 1\n", "prot"),
        ("port: 99999\n", "port"),
        ("providers: [{provider_id: a}]\n", "providers.0.provider_type"),
        ("- 1\n", "mapping"),
        ("a: [\n", "cannot be read"),
        ("database_url: mysql://x\n", "database_url"),
    ],
)
def test_what_cannot_be_right_is_named(tmp_path: Path, text: str, named: str) -> None:
    config = tmp_path / "paddock.yaml"
    config.write_text(text)
    with pytest.raises(InvalidRequestError, match=named):
        settings.load(config)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match=r"nowhere\.yaml"):
        settings.load(tmp_path / "nowhere.yaml")


def test_every_setting_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "settings.md").read_text()
    missing = [name for name in settings.Settings.model_fields if f"`{name}`" not in text]
    assert not missing
