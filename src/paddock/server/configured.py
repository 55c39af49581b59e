"""`registered_resources`: what the configuration says exists is registered at every start, before anything is served.

An entry is a registration request; the same thing again is fine. One that differs from what is there stops the start and
says which, unless it is to replace that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from paddock.datasets import registration as datasets
from paddock.datasets.sources import Access
from paddock.errors import InvalidRequestError, PaddockError
from paddock.evaluation import registration as evaluation
from paddock.inference import registration as inference
from paddock.wiring import Resources

Register = Callable[[Mapping[str, Any]], object]


def register(resources: Resources, *, replace: bool) -> None:
    """Register every entry. Raises `InvalidRequestError` naming the first that cannot be."""
    configured = resources.settings.registered_resources
    access = Access.of(resources.settings)

    def model(entry: Mapping[str, Any]) -> object:
        return inference.register_entry(resources.inference, entry, replace=replace)

    def dataset(entry: Mapping[str, Any]) -> object:
        return datasets.register_entry(resources.datasets, access, entry, replace=replace)

    def scoring_function(entry: Mapping[str, Any]) -> object:
        return evaluation.register_scoring_function_entry(
            resources.evaluation, resources.inference, entry, replace=replace
        )

    def benchmark(entry: Mapping[str, Any]) -> object:
        return evaluation.register_benchmark_entry(resources.evaluation, resources.datasets, entry, replace=replace)

    _register_all("models", configured.models, model)
    _register_all("datasets", configured.datasets, dataset)
    _register_all("scoring_functions", configured.scoring_functions, scoring_function)
    _register_all("benchmarks", configured.benchmarks, benchmark)


def _register_all(kind: str, entries: tuple[dict[str, Any], ...], register_one: Register) -> None:
    for index, entry in enumerate(entries):
        try:
            register_one(entry)
        except PaddockError as error:
            raise InvalidRequestError(
                f"registered_resources.{kind}[{index}]: {error.detail} (`paddock serve --replace` lets the configuration "
                "stand over what is registered.)"
                if error.status == 409
                else f"registered_resources.{kind}[{index}]: {error.detail}"
            ) from error
