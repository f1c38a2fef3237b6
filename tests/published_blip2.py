"""BLIP-2 in the format of its repository with random weights: `doctor` itself takes the smaller BLIP."""

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import Blip2Config, Blip2ForConditionalGeneration

from ovseg.doctor.published import Scale, blip_pictures, write_json
from ovseg.doctor.vocabularies import SENTENCES


def write_blip2(folder: Path, scale: Scale) -> None:
    """Salesforce/blip2-opt-2.7b: its three networks in shards of safetensors, with GPT-2's kind of tokenizer."""
    words = _write_gpt_words(folder)
    vision, qformer, text = scale.width(1408), scale.width(768), scale.width(2560)
    config = Blip2Config(
        vision_config={"hidden_size": vision, "intermediate_size": scale.width(6144), "num_hidden_layers": scale.depth(39),
                       "num_attention_heads": scale.width(16), "image_size": 224, "patch_size": 14},
        qformer_config={"hidden_size": qformer, "intermediate_size": 4 * qformer, "encoder_hidden_size": vision,
                        "num_hidden_layers": scale.depth(12), "num_attention_heads": scale.width(12)},
        text_config={"model_type": "opt", "vocab_size": 50304 if scale.narrower == 1 else words, "hidden_size": text,
                     "ffn_dim": 4 * text, "num_hidden_layers": scale.depth(32), "num_attention_heads": scale.width(32),
                     "word_embed_proj_dim": text, "do_layer_norm_before": True, "pad_token_id": 1, "bos_token_id": 2,
                     "eos_token_id": 50118 if scale.narrower == 1 else 2},
        num_query_tokens=32, image_token_index=words - 1,
    )  # fmt: skip
    Blip2ForConditionalGeneration(config).save_pretrained(folder, max_shard_size="300KB" if scale.narrower > 1 else "5GB")
    write_json(folder / "preprocessor_config.json", {**blip_pictures(224), "processor_class": "Blip2Processor"})
    write_json(folder / "processor_config.json", {"num_query_tokens": 32, "processor_class": "Blip2Processor"})


def _write_gpt_words(folder: Path) -> int:
    """GPT-2's kind of tokenizer files over a few words, as OPT has them; how many tokens there are, "<image>" the last."""
    folder.mkdir(parents=True, exist_ok=True)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<image>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 2)])
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.model.save(str(folder))  # vocab.json and merges.txt
    write_json(folder / "added_tokens.json", {"<image>": tokenizer.token_to_id("<image>")})
    names = {"bos_token": "</s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "</s>"}
    write_json(folder / "special_tokens_map.json", {**names, "additional_special_tokens": ["<image>"]})
    write_json(folder / "tokenizer_config.json", {
        **names, "add_bos_token": True, "add_prefix_space": False, "clean_up_tokenization_spaces": True, "errors": "replace",
        "model_max_length": 1_000_000, "processor_class": "Blip2Processor", "tokenizer_class": "GPT2Tokenizer",
    })  # fmt: skip
    return tokenizer.get_vocab_size()
