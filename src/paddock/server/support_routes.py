"""Routes about the server itself: health, version, routes, providers. Extensions that official clients call."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from paddock import __version__, routing
from paddock.errors import NotFoundError
from paddock.inference.inference import LOCAL
from paddock.server.metrics import Metrics
from paddock.settings import Settings

router = routing.router("Inspect")


@router.get("/v1/health", openapi_extra=routing.EXTENSION)
@router.get("/v1alpha/admin/health", openapi_extra=routing.EXTENSION, include_in_schema=False)
async def health() -> dict[str, str]:
    """Whether the server answers."""
    return {"status": "OK"}


@router.get("/metrics", openapi_extra=routing.EXTENSION, response_class=PlainTextResponse)
def metrics(request: Request) -> Response:
    """Requests, rows, jobs and their queue, for Prometheus."""
    counters: Metrics = request.app.state.metrics
    return Response(counters.text(), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/version", openapi_extra=routing.EXTENSION)
@router.get("/v1alpha/admin/version", openapi_extra=routing.EXTENSION, include_in_schema=False)
async def version() -> dict[str, str]:
    """The version of this server."""
    return {"version": __version__}


@router.get("/v1/inspect/routes", openapi_extra=routing.EXTENSION)
@router.get("/v1alpha/admin/inspect/routes", openapi_extra=routing.EXTENSION, include_in_schema=False)
async def list_routes(request: Request) -> dict[str, Any]:
    """Every route of this server."""
    document = request.app.openapi()
    data = [
        {"route": path, "method": method.upper(), "provider_types": []}
        for path, operations in document["paths"].items()
        for method in operations
    ]
    return {"data": data}


@router.get("/v1/providers", openapi_extra=routing.EXTENSION)
@router.get("/v1alpha/admin/providers", openapi_extra=routing.EXTENSION, include_in_schema=False)
async def list_providers(request: Request) -> dict[str, Any]:
    """Where models come from. Keys and addresses are not shown."""
    return {"data": _providers(request)}


@router.get("/v1/providers/{provider_id}", openapi_extra=routing.EXTENSION)
@router.get("/v1alpha/admin/providers/{provider_id}", openapi_extra=routing.EXTENSION, include_in_schema=False)
async def inspect_provider(request: Request, provider_id: str) -> dict[str, Any]:
    """One source of models."""
    for provider in _providers(request):
        if provider["provider_id"] == provider_id:
            return provider
    raise NotFoundError(f"There is no provider {provider_id}.")


def _providers(request: Request) -> list[dict[str, Any]]:
    settings: Settings = request.app.state.settings
    local = {"api": "inference", "provider_id": LOCAL, "provider_type": "inline::transformers", "config": {}}
    remote = [
        {
            "api": "inference",
            "provider_id": provider.provider_id,
            "provider_type": provider.provider_type,
            "config": {
                "max_concurrency": provider.config.max_concurrency,
                "timeout_seconds": provider.config.timeout_seconds,
            },
        }
        for provider in settings.providers
    ]
    return [{**provider, "health": {}} for provider in [local, *remote]]
