"""Which models there are: listed, described, registered and forgotten, in the words of Llama Stack's clients and
OpenAI's."""

from __future__ import annotations

from typing import Annotated

from fastapi import Request

from paddock import hub, routing
from paddock.inference import model_profile, registration
from paddock.inference.engine import Model
from paddock.inference.inference import LOCAL, Inference
from paddock.inference.schemas import ListModelsResponse, ModelProfile, ModelRecord, RegisterModelRequest
from paddock.routing import PathId

router = routing.router("Models")


Models = Annotated[Inference, routing.held("inference")]


@router.get("/v1/models", openapi_extra=routing.EXTENSION)
def list_models(request: Request, inference: Models) -> ListModelsResponse:
    """List the registered models, the checkpoints of training jobs, and the hub ids that the settings name."""
    models = inference.models.list()
    known = {model.model_id for model in models}
    models += [Model(name, LOCAL, name) for name in hub.named(request.app.state.settings) if name not in known]
    return ListModelsResponse(data=[_record(model) for model in models])


@router.get("/v1/models/{model_id:path}", openapi_extra=routing.EXTENSION)
def get_model(inference: Models, model_id: PathId) -> ModelRecord:
    """Get a model: a registered one, a checkpoint, or one that the settings allow without registration."""
    return _record(inference.find(model_id))


@router.get("/v1/model-profiles/{model_id:path}", openapi_extra=routing.EXTENSION)
def get_model_profile(request: Request, inference: Models, model_id: PathId) -> ModelProfile:
    """What a model is, as its files say: architecture, parameters, type, memory, licence."""
    return model_profile.profile(inference.find(model_id), request.app.state.data_dir.checkpoints)


@router.post("/v1/models", openapi_extra=routing.EXTENSION)
def register_model(request: Request, inference: Models, body: RegisterModelRequest) -> ModelRecord:
    """Give a model an id. The same again is fine; another model under the same id is a conflict."""
    return _record(registration.register(inference, request.app.state.settings, body))


@router.delete("/v1/models/{model_id:path}", openapi_extra=routing.EXTENSION)
def unregister_model(inference: Models, model_id: PathId) -> None:
    """Forget a registered model; its files stay. A checkpoint belongs to its training job and is not forgotten here."""
    inference.models.remove(model_id)


def _record(model: Model) -> ModelRecord:
    metadata = dict(model.metadata)
    if model.job_id is not None:
        metadata["job_id"] = model.job_id
    return ModelRecord.model_validate(
        {
            "identifier": model.model_id,
            "provider_id": model.provider_id,
            "provider_resource_id": model.provider_model_id,
            "model_type": model.model_type,
            "metadata": metadata,
            "id": model.model_id,
            "created": int(model.created_at),
            "owned_by": model.provider_id,
            "custom_metadata": metadata
            | {
                "model_type": model.model_type,
                "provider_id": model.provider_id,
                "provider_resource_id": model.provider_model_id,
            },
        }
    )
