"""A causal language model as requests see it: text in, and images where it sees, text out, through its tokenizer and
chat template.

Weights are read as safetensors only and no code from a model's folder runs. Several adapters share one copy of their
base. The decoding loop is `generate`'s; which models are in memory is `loading`'s business.
"""

from __future__ import annotations

import contextlib
import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from paddock.errors import InvalidRequestError
from paddock.inference.engine import Likelihoods, Sampling
from paddock.inference.engine_messages import ChatRequest, CompletionRequest, LikelihoodRequest
from paddock.inference.local_models import generate, images, likelihood, model_files
from paddock.inference.local_models.adapters import Adapters
from paddock.inference.local_models.constraint import Constraint, Constraints
from paddock.inference.local_models.draft import Calling, Draft
from paddock.inference.local_models.forward import has_cache
from paddock.inference.local_models.generate import Choice, Sequence
from paddock.inference.local_models.queue import Work
from paddock.inference.local_models.sampling import Knobs
from paddock.inference.local_models.tool_calls import form_of, turns_for_template

DEFAULT_MAX_TOKENS = 256
"""The length of an answer, where neither the request nor the model's `generation_config` says it."""

_GREEDY_BELOW = 1e-5
"""Temperatures under it are greedy: to divide by them could overflow, and would mean the same."""

_MAX_VARIANTS = 16
"""Adapters kept over one base; the least recently used goes first."""

_NO_LIMIT = 10**9
"""Contexts at and above it are a tokenizer's way to say that it knows none."""


@dataclass
class Variant:
    """What makes a model of a base: the adapter over it, or none, and the tokenizer."""

    adapter_name: str | None
    tokenizer: Any
    constraints: Constraints | None = None
    """What limits answers to formats, once one is asked for."""


class Weights:
    """One base in memory, and the adapters over it."""

    def __init__(self, folder: Path, device: str, dtype: torch.dtype | str, *, sees: bool = False) -> None:
        """`sees` tells an architecture that takes images. Raises `ValueError` for one that cannot be run, and if weights
        are missing: the library would go on with random numbers in their place."""
        self.model, report = (AutoModelForImageTextToText if sees else AutoModelForCausalLM).from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
        if report["missing_keys"]:
            raise ValueError(f"its files lack the weights {', '.join(sorted(report['missing_keys'])[:5])}")
        if not has_cache(self.model):
            raise ValueError(f"the architecture {type(self.model).__name__} is not supported")
        self.model.to(device).eval()
        self.processor = (
            AutoProcessor.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
            if sees and model_files.reads_images(folder)
            else None
        )
        """What makes numbers of images; None for a model that does not take any."""
        self._folder = folder
        self.adapters = Adapters(self.model)
        self._variants: OrderedDict[tuple[Path | None, int], Variant] = OrderedDict()

    def variant(self, adapter: Path | None) -> Variant:
        """The base itself, or with the adapter in a folder, which is loaded unless it is there."""
        key = (adapter, 0 if adapter is None else model_files.stamp(adapter))
        if key not in self._variants:
            has_tokenizer = adapter is not None and (adapter / "tokenizer_config.json").exists()
            tokenizer = AutoTokenizer.from_pretrained(
                adapter if has_tokenizer else self._folder, trust_remote_code=False, local_files_only=True
            )
            name = None if adapter is None else self.adapters.load(adapter)
            self._variants[key] = Variant(name, tokenizer)
            if len(self._variants) > _MAX_VARIANTS:
                _, oldest = self._variants.popitem(last=False)
                if oldest.adapter_name is not None:
                    self.adapters.remove(oldest.adapter_name)
        self._variants.move_to_end(key)
        return self._variants[key]


class LanguageModel:
    """A base, or an adapter over one, under the name that messages call it by."""

    def __init__(self, model_id: str, weights: Weights, variant: Variant) -> None:
        self.model_id = model_id
        self.tokenizer = variant.tokenizer
        self._weights = weights
        self._variant = variant
        config = weights.model.config.get_text_config()
        self._defaults = weights.model.generation_config
        ends = (self._defaults.eos_token_id, config.eos_token_id, self.tokenizer.eos_token_id)
        self._end_ids = frozenset[int]().union(*map(_ids, ends))
        limit = getattr(config, "max_position_embeddings", None) or self.tokenizer.model_max_length
        self.context = limit if limit < _NO_LIMIT else None
        """How many tokens prompt and answer may have together; None if the model does not say."""

    def active(self) -> contextlib.AbstractContextManager[Any]:
        """The module that computes, with this model's adapter switched on."""
        return self._weights.adapters.using(self._variant.adapter_name)

    def generate(self, works: list[Work], more: Callable[[int], list[Work]], *, max_rows: int) -> None:
        """Answer chats and completions, and those that `more(limit)` gives meanwhile."""
        with self.active() as model:
            generate.generate(
                model,
                self._sequences(model, works),
                lambda limit: self._sequences(model, more(limit)),
                max_rows=max_rows,
            )

    def tell_likelihoods(self, works: list[Work]) -> None:
        """Answer requests for likelihoods. Each is computed by itself, so that what it comes to depends on nothing else."""
        with self.active() as model:
            for work in works:
                if work.is_abandoned:
                    continue
                try:
                    work.finish(self._likelihoods(model, work))
                except InvalidRequestError as error:
                    work.fail(error)

    def _likelihoods(self, model: Any, work: Work) -> Likelihoods:
        """Which tokens are a continuation's is told as lm-evaluation-harness does it (`TemplateLM._encode_pair`)."""
        request = work.request
        assert isinstance(request, LikelihoodRequest)
        context = request.context.rstrip()
        num_context = len(self.tokenizer(context)["input_ids"])
        pairs, is_truncated = [], False
        for index, continuation in enumerate(request.continuations):
            ids: list[int] = self.tokenizer(request.context + continuation)["input_ids"]
            prefix_ids, continuation_ids = ids[:num_context], ids[num_context:]
            if not continuation_ids:
                raise InvalidRequestError(f"Continuation {index} adds no token to the text before it.")
            if not prefix_ids:
                prefix_ids = [self._first_id()]
            # The last token is never read, only expected.
            room = None if self.context is None else self.context - len(continuation_ids) + 1
            if room is not None and room < 1:
                raise InvalidRequestError(
                    f"Continuation {index} has {len(continuation_ids)} tokens, and the context of {self.model_id} holds "
                    f"{self.context}."
                )
            is_truncated = is_truncated or (room is not None and len(prefix_ids) > room)
            pairs.append((prefix_ids if room is None else prefix_ids[-room:], continuation_ids))
        found = likelihood.log_likelihoods(model, pairs)
        return Likelihoods(found, [len(continuation_ids) for _, continuation_ids in pairs], is_truncated)

    def _first_id(self) -> int:
        """What stands before a text that nothing stands before."""
        ends = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id)
        known = next((token_id for token_id in ends if token_id is not None), None)
        if known is None:
            raise InvalidRequestError(f"The context is empty, and {self.model_id} has no token for a text's beginning.")
        return int(known)

    def _sequences(self, model: Any, works: list[Work]) -> list[Sequence]:
        sequences = []
        for work in works:
            try:
                sequence = self._sequence(model, work)
            except InvalidRequestError as error:
                work.fail(error)
                continue
            if sequence is not None:
                sequences.append(sequence)
        return sequences

    def _sequence(self, model: Any, work: Work) -> Sequence | None:
        """None for what is answered by now: an echo, and nothing behind it."""
        request = work.request
        assert isinstance(request, ChatRequest | CompletionRequest)
        sampling = request.sampling
        inputs: dict[str, torch.Tensor] = {}
        calling = None
        if isinstance(request, ChatRequest):
            calling = self._calling(request)
            prompt_ids, inputs = self._encode_chat(request, calling)
        else:
            prompt_ids = self._encode_text(request.prompt)
        # A stop sequence that is one special token never shows in the text: it ends the answer like the model's own.
        special_ids = self.tokenizer.get_added_vocab()
        end_ids = self._end_ids | {special_ids[text] for text in sampling.stop if text in special_ids}
        max_new_tokens = self._max_new_tokens(len(prompt_ids), sampling.max_tokens)
        of_prompt: list[Choice] = []
        if isinstance(request, CompletionRequest) and request.echo and sampling.num_likely is not None:
            of_prompt = likelihood.of_prompt(model, prompt_ids, sampling.num_likely)
        draft = Draft(work, self.tokenizer, prompt_ids, end_ids, calling, of_prompt)
        if max_new_tokens == 0:
            draft.finish([], [], "length")
            return None
        sequence = Sequence(
            prompt_ids=prompt_ids,
            max_new_tokens=max_new_tokens,
            knobs=self._knobs(sampling),
            end_ids=end_ids,
            is_stopped=draft.is_stopped,
            is_abandoned=work.answer.done,  # cancelled, or failed by its constraint
            finish=lambda ids, reason: draft.finish(ids, sequence.choices, reason, sequence.num_prefilled_tokens),
            images=inputs,
            extend=lambda ids: draft.extend(ids, sequence.choices),
            constraint=self._constraint(work, request, calling),
            num_likely=sampling.num_likely,
        )
        return sequence

    def _calling(self, request: ChatRequest) -> Calling | None:
        """How the answer may call tools; None if there are none. Raises `InvalidRequestError` if this model cannot."""
        uses = next((i for i, m in enumerate(request.messages) if m["role"] == "tool" or m.get("tool_calls")), None)
        if request.tools is None and uses is None:
            return None
        template = "" if self.tokenizer.chat_template is None else self.tokenizer.get_chat_template(None, [{}])
        form = form_of(template)
        if form is None:
            raise InvalidRequestError(
                f"The chat template of {self.model_id} takes no tools, or in a form that is not read here: those of Hermes "
                "and Qwen, Llama 3 and Mistral are.",
                pointer="/tools" if request.tools is not None else f"/messages/{uses}",
            )
        if request.tools is None:
            return None
        if request.sampling.response_format is not None:
            raise InvalidRequestError(
                "A local model's answer either may call tools or is held to a `response_format`.",
                pointer="/response_format",
            )
        return Calling(form, form.opening if request.tools.required and not form.is_whole_answer else "")

    def _constraint(
        self, work: Work, request: ChatRequest | CompletionRequest, calling: Calling | None
    ) -> Constraint | None:
        """What the answer is held to, if to anything: the call that it must be, or the format asked for."""
        if calling is not None:
            assert isinstance(request, ChatRequest)
            assert request.tools is not None
            if not request.tools.required:
                return None
            return self._constraints().json(calling.form.schema(request.tools), "/tools", work.fail)
        response_format = request.sampling.response_format
        if response_format is None:
            return None
        if response_format["type"] == "json_object":
            return self._constraints().json({"type": "object"}, "/response_format", work.fail)
        schema = response_format["json_schema"].get("schema") or {"type": "object"}
        return self._constraints().json(schema, "/response_format/json_schema/schema", work.fail)

    def _constraints(self) -> Constraints:
        if self._variant.constraints is None:
            self._variant.constraints = Constraints(self.tokenizer, self._end_ids)
        return self._variant.constraints

    def _encode_chat(self, request: ChatRequest, calling: Calling | None) -> tuple[list[int], dict[str, torch.Tensor]]:
        """The prompt's tokens, and what the processor makes of its images. Raises `InvalidRequestError`."""
        messages = turns_for_template(request.messages)
        tools = None if request.tools is None else list(request.tools.functions)
        opened = "" if calling is None else calling.opened
        processor = self._weights.processor
        if processor is None:
            if not all(isinstance(message["content"], str | None) for message in messages):
                raise InvalidRequestError(f"The model {self.model_id} reads text only, and there is an image.")
            return self._encode_text(self._render(messages, None, tools) + opened, add_special_tokens=False), {}
        turns, pictures = images.take_out(messages)
        text = self._render(turns, processor.chat_template, tools) + opened
        if not pictures:
            return self._encode_text(text, add_special_tokens=False), {}
        model = self._weights.model
        try:
            inputs = processor(images=pictures, text=text, add_special_tokens=False, return_tensors="pt")
            inputs = inputs.to(model.device, model.dtype)  # the type is for what is no integer
        except Exception as error:  # each processor raises what it likes about sizes and numbers of images
            reason = str(error).partition("\n")[0]
            raise InvalidRequestError(f"The model {self.model_id} does not take these images: {reason}") from error
        prompt_ids: list[int] = inputs.pop("input_ids")[0].tolist()
        inputs.pop("attention_mask")  # a row alone has no padding
        return prompt_ids, dict(inputs)

    def _render(self, turns: list[dict[str, Any]], template: str | None, tools: list[dict[str, Any]] | None) -> str:
        """The conversation as one text, by a template or, if it is None, the tokenizer's own."""
        if template is None and self.tokenizer.chat_template is None:
            raise InvalidRequestError(
                f"The model {self.model_id} has no chat template, so it cannot take a conversation. "
                "Ask for a completion of a text instead."
            )
        try:
            text: str = self.tokenizer.apply_chat_template(
                turns, tools=tools, chat_template=template, add_generation_prompt=True, tokenize=False
            )
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise InvalidRequestError(
                f"The chat template of {self.model_id} does not take these messages: {error}"
            ) from None
        return text

    def _encode_text(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"]
        if not ids:
            raise InvalidRequestError("The prompt is empty: there is nothing to continue.")
        return ids

    def _max_new_tokens(self, num_prompt_tokens: int, asked: int | None) -> int:
        wanted: int = (self._defaults.max_new_tokens or DEFAULT_MAX_TOKENS) if asked is None else asked
        if self.context is None:
            return wanted
        if num_prompt_tokens + min(wanted, 1) > self.context:
            raise InvalidRequestError(
                f"The prompt has {num_prompt_tokens} tokens, and the context of {self.model_id} holds {self.context} "
                "for prompt and answer together."
            )
        room: int = self.context - num_prompt_tokens
        return min(wanted, room)

    def _knobs(self, sampling: Sampling) -> Knobs:
        top_p = sampling.top_p if sampling.top_p is not None else self._defaults.top_p
        top_k = sampling.top_k if sampling.top_k is not None else self._defaults.top_k
        return Knobs(
            temperature=sampling.temperature if sampling.temperature >= _GREEDY_BELOW else 0.0,
            top_k=top_k or 0,
            top_p=1.0 if top_p is None else top_p,
            repetition_penalty=sampling.repetition_penalty,
            random=random.Random(sampling.seed),  # noqa: S311
        )


def _ids(value: int | list[int] | None) -> set[int]:
    if value is None:
        return set()
    return {value} if isinstance(value, int) else set(value)
