"""The files of published tokenizers: CLIP's real vocabulary, which ships inside open_clip, and small ones of other kinds."""

import json
from pathlib import Path

from open_clip.tokenizer import bytes_to_unicode
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import Qwen2TokenizerFast

from ovseg.pocket.tokenizer import clip_merges

SENTENCES = (
    "a photo of a cat and a dog on green grass under a blue sky", "a man riding a wave on top of a surfboard",
    "a picture of two people sitting at a wooden table with plates of food", "a brown dog lying on a white kitchen floor",
    "a red bus driving down a city street next to tall buildings", "an old t-shirt and a teddy bear's hat, an hour ago",
)  # fmt: skip


def write_clip_vocabulary(folder: Path, pad: str = "<|endoftext|>") -> None:
    """The tokenizer files of Stable Diffusion's repositories: vocab.json, merges.txt and the two old configurations.

    Args:
        pad: what empty places are filled with; "!" in Stable Diffusion 2.
    """
    folder.mkdir(parents=True, exist_ok=True)
    merges, letters = clip_merges(), list(bytes_to_unicode().values())
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(merge.split()) for merge in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    special = {"bos_token": _old_token("<|startoftext|>"), "eos_token": _old_token("<|endoftext|>")}
    special |= {"unk_token": _old_token("<|endoftext|>"), "pad_token": pad}
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2), encoding="utf-8")
    config = {
        **{name: {"__type": "AddedToken", **_old_token(special[name]["content"])} for name in ("bos_token", "eos_token")},
        "unk_token": {"__type": "AddedToken", **_old_token("<|endoftext|>")}, "pad_token": pad, "add_prefix_space": False,
        "do_lower_case": True, "errors": "replace", "model_max_length": 77, "tokenizer_class": "CLIPTokenizer",
        "name_or_path": "openai/clip-vit-large-patch14", "special_tokens_map_file": "./special_tokens_map.json",
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")


CHAT = (  # what Qwen3's own template makes of one question when it shall answer without thinking aloud
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"
)


def write_qwen_vocabulary(folder: Path) -> None:
    """Qwen3's kind of tokenizer over a few words: pieces of bytes, its marks of a chat, and its template."""
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer, tokenizer.decoder = normalizers.NFC(), decoders.ByteLevel()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet))
    tokenizer.add_special_tokens(marks)
    fast = Qwen2TokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token=None, chat_template=CHAT
    )
    fast.save_pretrained(folder)


def _old_token(content: str) -> dict[str, object]:
    return {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
