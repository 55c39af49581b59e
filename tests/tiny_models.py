"""Real models of a few thousand weights, made here: a Llama with a byte-level tokenizer, a LLaVA and an Idefics3 that
see, and a cross-encoder."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|end|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_SPECIAL = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
IMAGE_TOKEN = "<|image|>"


def save_byte_tokenizer(folder: Path, chat_template: str | None = CHAT_TEMPLATE) -> None:
    """A tokenizer whose tokens are the 256 bytes and five special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(_SPECIAL + alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(_SPECIAL)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>", additional_special_tokens=_SPECIAL[2:]
    )
    fast.chat_template = chat_template
    fast.save_pretrained(folder)


def make_llama(folder: Path, *, seed: int = 0, hidden_size: int = 32, layers: int = 2, tied: bool = False) -> Path:
    """A random Llama of some ten thousand weights, saved as a Hugging Face folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=256 + len(_SPECIAL),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    save_byte_tokenizer(folder)
    return folder


_SEEING_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' }}"
    "{% for part in message['content'] %}"
    "{{ '<|image|>' if part['type'] == 'image' else part['text'] }}"
    "{% endfor %}"
    "{{ '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def _save_seeing_tokenizer(folder: Path, *more: str) -> Any:
    """The byte tokenizer with a token for images, and perhaps more."""
    from transformers import AutoTokenizer

    save_byte_tokenizer(folder, None)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([IMAGE_TOKEN, *more], special_tokens=True)
    return tokenizer


def _text_config(num_tokens: int) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "vocab_size": num_tokens,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 1,
        # Of the usual size, random weights would see little in an image, and say the same of all.
        "initializer_range": 0.3,
    }


_VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
}


def make_llava(folder: Path, *, seed: int = 0) -> Path:
    """A random LLaVA of some ten thousand weights: images of 16 × 16 pixels, each of them four tokens."""
    import torch
    from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    torch.manual_seed(seed)
    tokenizer = _save_seeing_tokenizer(folder)
    config = LlavaConfig(
        vision_config=_VISION | {"model_type": "clip_vision_model", "patch_size": 8, "initializer_factor": 20.0},
        text_config=_text_config(len(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE_TOKEN),
        vision_feature_layer=-1,
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token=IMAGE_TOKEN,
        chat_template=_SEEING_TEMPLATE,
    ).save_pretrained(folder)
    return folder


def make_idefics3(folder: Path, *, seed: int = 0) -> Path:
    """A random Idefics3 of some ten thousand weights: images in tiles of 16 × 16 pixels, each of them four tokens."""
    import torch
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    torch.manual_seed(seed)
    tokens = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    tokenizer = _save_seeing_tokenizer(folder, *tokens)
    config = Idefics3Config(
        vision_config=_VISION | {"patch_size": 4, "initializer_range": 1.0},
        text_config=_text_config(len(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=0,
    )
    Idefics3ForConditionalGeneration(config).save_pretrained(folder)
    Idefics3Processor(
        image_processor=Idefics3ImageProcessorPil(size={"longest_edge": 32}, max_image_size={"longest_edge": 16}),
        tokenizer=tokenizer,
        image_seq_len=4,
        chat_template=_SEEING_TEMPLATE.replace(IMAGE_TOKEN, "<image>"),
    ).save_pretrained(folder)
    return folder


def png_url(pattern: str, *, width: int = 16, height: int = 16) -> str:
    """A `data:` URL of a picture: `pattern` names its colour, or `stripes`."""
    from PIL import Image

    image = Image.new("RGB", (width, height), "white" if pattern == "stripes" else pattern)
    if pattern == "stripes":
        for x in range(0, width, 4):
            image.paste("black", (x, 0, min(x + 2, width), height))
    file = io.BytesIO()
    image.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def make_adapter(base: Path, folder: Path, *, seed: int = 0) -> Path:
    """A LoRA adapter over a model of `make_llama`, with random weights large enough to change what it says."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter)
    model.save_pretrained(folder)
    return folder


def make_cross_encoder(folder: Path, *, seed: int = 0, num_labels: int = 1) -> Path:
    """A random BERT of some ten thousand weights that gives a pair of texts a score, with a tokenizer of bytes."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    torch.manual_seed(seed)
    special = ["[PAD]", "[CLS]", "[SEP]"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(special + alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", model_max_length=128
    ).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(special) + 256,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        num_labels=num_labels,
        # Random weights of the usual size would score everything alike.
        initializer_range=1.0,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def make_yes_no_reranker(folder: Path, base: Path) -> Path:
    """A model of `make_llama` as sentence-transformers files it for reranking: the score is the log-odds of a token that
    says yes to one that says no."""
    from sentence_transformers import CrossEncoder
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.cross_encoder.modules import LogitScore

    generator = Transformer(str(base), transformer_task="text-generation")
    yes, no = (generator.tokenizer.convert_tokens_to_ids(letter) for letter in "yn")
    CrossEncoder(modules=[generator, LogitScore(yes, no)], device="cpu").save(str(folder), create_model_card=False)
    return folder
