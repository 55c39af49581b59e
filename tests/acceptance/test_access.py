"""Keys, limits and what can be seen, on a real `paddock serve` and with the clients that people have."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from pathlib import Path

import httpx
import jwt
import openai
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from llama_stack_client import AuthenticationError, LlamaStackClient, PermissionDeniedError
from llama_stack_client import RateLimitError as LlamaStackRateLimitError

from bodies import candidate, register_sums
from live_server import LiveServer
from model_server import ModelServer
from paddock.settings import sha256_of_key

WRITE, READ = "pdk_write_0123456789abcdef", "pdk_read_0123456789abcdef"
KEYS = [WRITE, {"key_sha256": sha256_of_key(READ), "name": "looker", "role": "read"}]


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`paddock WORDS…` as a person types it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PADDOCK_")}
    return subprocess.run(
        [sys.executable, "-P", "-m", "paddock", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=clean | environment,
    )


def test_official_clients_and_our_own_commands_send_their_key(tmp_path: Path, model_server: ModelServer) -> None:
    provider = {"provider_id": "lab", "provider_type": "remote::openai", "config": {"base_url": model_server.base_url}}
    model = {"model_id": "far", "provider_id": "lab", "provider_model_id": "m", "model_type": "llm"}
    with LiveServer(
        tmp_path, api_keys=KEYS, providers=[provider], registered_resources={"models": [model]}, log_format="json"
    ) as server:
        with LlamaStackClient(base_url=server.url, api_key=WRITE) as writer:
            writer.beta.datasets.register(
                dataset_id="sums",
                purpose="eval/question-answer",
                source={"type": "rows", "rows": [{"question": "1+1", "answer": "2"}]},
            )
        with LlamaStackClient(base_url=server.url, api_key=READ) as reader:
            assert [dataset.identifier for dataset in reader.beta.datasets.list()] == ["sums"]
            with pytest.raises(PermissionDeniedError, match="key:looker"):
                reader.beta.datasets.appendrows("sums", rows=[])
        with LlamaStackClient(base_url=server.url, api_key="pdk_of_another_server") as stranger:
            with pytest.raises(AuthenticationError):
                stranger.beta.datasets.list()
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key=WRITE) as chat:
            said = chat.chat.completions.create(model="far", messages=[{"role": "user", "content": "1+1"}])
            assert said.choices[0].message.content == "2"

        listed = run("datasets", "list", "--json", PADDOCK_URL=server.url, PADDOCK_API_KEY=READ)
        assert [d["identifier"] for d in json.loads(listed.stdout)["data"]] == ["sums"]
        refused = run("datasets", "list", PADDOCK_URL=server.url)
        assert refused.returncode == 1
        assert "PADDOCK_API_KEY" in refused.stderr
        option = run("datasets", "show", "sums", "--url", server.url, "--api-key", WRITE)
        assert option.returncode == 0, option.stderr

        # Every line of the log is JSON; a request's has its caller and its id, none has a key.
        lines = [json.loads(line) for line in server.log.splitlines()]
        callers = {line["caller"] for line in lines if line["logger"] == "paddock.requests"}
        assert callers == {"", f"key:key-{sha256_of_key(WRITE)[:8]}", "key:looker"}
        for secret in (WRITE, READ, "pdk_of_another_server"):
            assert secret not in server.log
            for file in server.data_dir.rglob("*"):
                assert not file.is_file() or secret.encode() not in file.read_bytes(), file


def test_a_job_of_a_server_with_keys_runs_without_them(tmp_path: Path, model_server: ModelServer) -> None:
    provider = {"provider_id": "lab", "provider_type": "remote::openai", "config": {"base_url": model_server.base_url}}
    model = {"model_id": "far", "provider_id": "lab", "provider_model_id": "m", "model_type": "llm"}
    with LiveServer(tmp_path, api_keys=KEYS, providers=[provider], registered_resources={"models": [model]}) as server:
        server.http.headers["Authorization"] = f"Bearer {WRITE}"
        register_sums(server, 3)
        job_id = server.call("POST", "/v1alpha/eval/benchmarks/sums-eq/jobs", candidate("far"))["job_id"]
        assert server.wait_for_job(job_id)["status"] == "completed"


def test_tokens_of_a_provider_stand_beside_keys(tmp_path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    jwks = tmp_path / "jwks.json"
    jwks.write_text(json.dumps({"keys": [{**json.loads(RSAAlgorithm.to_jwk(key.public_key())), "kid": "k"}]}))

    def token(scope: str, seconds: float = 60) -> dict[str, str]:
        claims = {"iss": "https://login.example.org/", "aud": "paddock", "sub": "alice", "scope": scope}
        claims |= {"exp": int(time.time() + seconds)}  # type: ignore[dict-item]
        return {"Authorization": f"Bearer {jwt.encode(claims, key, 'RS256', headers={'kid': 'k'})}"}

    provider = {"issuer": "https://login.example.org/", "audience": "paddock", "jwks_file": str(jwks)}
    with LiveServer(tmp_path, api_keys=KEYS, jwt=provider) as server:
        dataset = {"dataset_id": "d", "purpose": "eval/question-answer", "source": {"type": "rows", "rows": []}}
        for headers, looks, writes in (
            (token("paddock:read"), 200, 403),
            (token("openid paddock:write"), 200, 200),
            (token("openid"), 403, 403),
            (token("paddock:write", seconds=-60), 401, 401),
            ({"Authorization": f"Bearer {WRITE}"}, 200, 200),
            ({}, 401, 401),
        ):
            assert server.http.get("/v1beta/datasets", headers=headers).status_code == looks
            assert server.http.post("/v1beta/datasets", json=dataset, headers=headers).status_code == writes
        assert "'jwt:alice'" in server.log
        assert "eyJ" not in server.log  # how every token begins


def test_beyond_loopback_a_server_wants_keys_or_to_be_told(tmp_path: Path) -> None:
    def serve(*flags: str, **environment: str) -> subprocess.Popen[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PADDOCK_")}
        return subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "paddock", "serve", "--data-dir", str(tmp_path / "data")),
                *("--port", "0", "--host", "0.0.0.0", *flags),
            ],
            stderr=subprocess.PIPE,
            text=True,
            env=clean | environment,
        )

    refused = serve()
    assert refused.stderr is not None
    assert "paddock keys new" in refused.stderr.read()
    assert refused.wait(30) == 1
    for flags, environment in (
        (["--allow-anyone"], {}),
        ([], {"PADDOCK_ALLOW_ANYONE": "true"}),
        ([], {"PADDOCK_API_KEYS": f"[{WRITE}]"}),
    ):
        process = serve(*flags, **environment)
        assert process.stderr is not None
        try:
            lines = []
            for line in process.stderr:
                lines.append(line)
                if "Paddock serves" in line:
                    break
            else:
                pytest.fail("".join(lines))
            assert any("Whoever reaches" in line for line in lines) == (not environment.get("PADDOCK_API_KEYS"))
            port = lines[-1].split(" from ")[0].rpartition(":")[2]
            url = f"http://127.0.0.1:{port}"
            assert httpx.get(f"{url}/v1/health").json() == {"status": "OK"}
            answer = httpx.get(f"{url}/v1beta/datasets")
            assert answer.status_code == (401 if "PADDOCK_API_KEYS" in environment else 200)
            # Keys or not: a name that was pointed here is no name of this server.
            assert httpx.get(f"{url}/v1/health", headers={"host": "evil.example"}).status_code == 403
        finally:
            process.terminate()
            process.stderr.read()
            assert process.wait(30) == 0
            process.stderr.close()


def test_too_many_waiting_jobs_are_refused_and_repeats_are_not(tmp_path: Path, model_server: ModelServer) -> None:
    provider = {
        "provider_id": "lab",
        "provider_type": "remote::openai",
        "config": {"base_url": "http://127.0.0.1:9/v1"},
    }
    model = {"model_id": "far", "provider_id": "lab", "provider_model_id": "m", "model_type": "llm"}
    with LiveServer(
        tmp_path,
        max_scheduled_jobs=2,
        max_running_jobs=1,
        providers=[provider],
        registered_resources={"models": [model]},
    ) as server:
        register_sums(server, 3)
        path, body = "/v1alpha/eval/benchmarks/sums-eq/jobs", candidate("far")
        answers: list[tuple[str, httpx.Response]] = []
        for number in range(8):
            key = f"key-{number}"
            answers.append((key, server.http.post(path, json=body, headers={"idempotency-key": key})))
        refused = [answer for _, answer in answers if answer.status_code == 429]
        assert len(refused) >= 3
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert "max_scheduled_jobs" in refused[0].json()["detail"]
        key, taken = next((key, answer) for key, answer in answers if answer.status_code == 200)
        again = server.http.post(path, json=body, headers={"idempotency-key": key})
        assert again.json()["job_id"] == taken.json()["job_id"]
        with LlamaStackClient(base_url=server.url, max_retries=0) as client:
            with pytest.raises(LlamaStackRateLimitError, match="max_scheduled_jobs"):
                for _ in range(8):
                    client.alpha.eval.run_eval("sums-eq", benchmark_config=body)
        assert 'paddock_requests_refused_total{limit="max_scheduled_jobs"}' in server.http.get("/metrics").text


def test_metrics_of_a_live_server(tmp_path: Path) -> None:
    with LiveServer(tmp_path, api_keys=KEYS) as server:
        assert server.http.get("/metrics").status_code == 401
        text = server.http.get("/metrics", headers={"Authorization": f"Bearer {READ}"}).text
        assert 'paddock_requests_total{method="GET",route="/v1/health",status="2xx"}' in text
        assert "process_resident_memory_bytes" in text
        assert "paddock_engine_up 0.0" in text


def test_a_burst_is_told_to_come_again_and_looking_goes_on(tmp_path: Path) -> None:
    """The database is held up for a while: what was taken on waits for it, the rest is refused, nothing is lost."""
    with LiveServer(tmp_path, max_requests_in_flight=4) as server:
        body = {"dataset_id": "d", "purpose": "eval/question-answer", "source": {"type": "rows", "rows": []}}
        server.call("POST", "/v1beta/datasets", body)
        append = {"rows": [{"question": "q", "answer": "a"}]}
        (file,) = server.data_dir.glob("*.db")
        with ThreadPoolExecutor(12) as clients, closing(sqlite3.connect(file, isolation_level=None)) as other:

            def ask(_: int) -> int:
                return httpx.post(f"{server.url}/v1beta/datasetio/append-rows/d", json=append, timeout=60).status_code

            other.execute("BEGIN IMMEDIATE")
            answers = [clients.submit(ask, number) for number in range(12)]
            refused = next(answer for answer in as_completed(answers) if answer.result() == 429)
            assert refused.done()
            for path in ("/v1beta/datasets/d", "/v1alpha/jobs", "/metrics", "/v1/health"):
                assert server.http.get(path).status_code == 200
            other.execute("ROLLBACK")
            statuses = [answer.result() for answer in answers]
        assert set(statuses) == {200, 429}
        assert statuses.count(200) >= 4
        assert server.call("GET", "/v1beta/datasets/d")["metadata"]["num_rows"] == statuses.count(200)


def test_forwarded_addresses_are_not_believed(tmp_path: Path) -> None:
    with LiveServer(tmp_path, rate_limit={"requests_per_minute": 5}, log_format="json") as server:
        port = httpx.URL(server.url).port
        answers = b""
        for number in range(8):
            with socket.create_connection(("127.0.0.1", port), 10) as connection:
                forwarded = (
                    f"X-Forwarded-For: 10.0.0.{number}\r\nForwarded: for=10.0.0.{number}\r\nX-Real-Ip: 10.0.0.{number}"
                )
                connection.sendall(
                    f"GET /v1/version HTTP/1.1\r\nHost: localhost\r\n{forwarded}\r\nConnection: close\r\n\r\n".encode()
                )
                answers += connection.recv(65536)
        assert answers.count(b"HTTP/1.1 200 ") == 5
        assert answers.count(b"HTTP/1.1 429 ") == 3
        assert "10.0.0." not in server.log
