"""A stand-in for a hub, on loopback: it takes repositories and commits as huggingface_hub sends them, and keeps files."""

from __future__ import annotations

import base64
import json
from typing import Any

from aiohttp import web

from app_thread import serving


class HubServer:
    """`with HubServer(token) as hub:`; `repositories` says which were made, and whether they are private; `files` holds
    the content of each path of the last commit."""

    def __init__(self, token: str) -> None:
        self._token = token
        self.repositories: dict[str, bool] = {}
        self.files: dict[str, bytes] = {}
        self.url = ""
        self._uploads: dict[str, bytes] = {}
        app = web.Application(client_max_size=64 * 1024 * 1024, middlewares=[self._check_token])
        app.router.add_post("/api/repos/create", self._create)
        app.router.add_post("/api/validate-yaml", self._validate)
        app.router.add_post("/api/models/{repo:.+}/preupload/{revision}", self._preupload)
        app.router.add_post("/api/models/{repo:.+}/commit/{revision}", self._commit)
        app.router.add_post("/{repo:.+}.git/info/lfs/objects/batch", self._batch)
        app.router.add_put("/upload/{oid}", self._upload)
        app.router.add_get("/api/models/{repo:.+}/tree/{revision}", self._tree)
        app.router.add_get("/api/models/{repo:.+}", self._info)
        self._serving = serving(app)

    def __enter__(self) -> HubServer:
        self.url = self._serving.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._serving.__exit__(*error)

    @web.middleware
    async def _check_token(self, request: web.Request, handler: Any) -> web.StreamResponse:
        is_upload = request.path.startswith("/upload/")  # whose address is the permission
        if not is_upload and request.headers.get("Authorization") != f"Bearer {self._token}":
            return web.json_response({"error": "Invalid username or password."}, status=401)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = f"{body.get('organization') or 'me'}/{body['name']}"
        is_private = body.get("private", body.get("visibility") == "private")
        self.repositories[name] = bool(is_private)
        return web.json_response({"url": f"{self.url}/{name}", "id": "1", "name": name})

    async def _validate(self, _request: web.Request) -> web.Response:
        return web.json_response({"errors": [], "warnings": []})

    async def _preupload(self, request: web.Request) -> web.Response:
        files = (await request.json())["files"]
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for file in files
        ]
        return web.json_response({"files": modes})

    async def _batch(self, request: web.Request) -> web.Response:
        objects = [
            {
                "oid": wanted["oid"],
                "size": wanted["size"],
                "actions": {"upload": {"href": f"{self.url}/upload/{wanted['oid']}", "header": {}}},
            }
            for wanted in (await request.json())["objects"]
        ]
        return web.json_response({"transfer": "basic", "objects": objects})

    async def _upload(self, request: web.Request) -> web.Response:
        self._uploads[request.match_info["oid"]] = await request.read()
        return web.Response()

    async def _commit(self, request: web.Request) -> web.Response:
        for line in (await request.text()).splitlines():
            part = json.loads(line)
            value = part["value"]
            if part["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            elif part["key"] == "lfsFile":
                self.files[value["path"]] = self._uploads[value["oid"]]
        commit = {
            "commitUrl": f"{self.url}/{request.match_info['repo']}/commit/{'1' * 40}",
            "commitOid": "1" * 40,
            "success": True,
        }
        return web.json_response(commit)

    async def _info(self, request: web.Request) -> web.Response:
        name = request.match_info["repo"].removesuffix("/revision/main")
        return web.json_response({"id": name, "sha": "0" * 40, "siblings": [], "private": True})

    async def _tree(self, _request: web.Request) -> web.Response:
        return web.json_response([])
