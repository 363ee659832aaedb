"""`tiny`: a small Llama-shaped model with a byte-level tokenizer, made on the spot, so that any machine runs the code.

It has learned nothing and will say nothing: it is for trying the loop, for tests and for the CPU benchmark.
"""

import os
import shutil
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

NAME = "tiny"
SPECIAL = ("<|pad|>", "<|start|>", "<|end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|start|>' + message['role'] + '\\n' + message['content'] + '<|end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant\\n' }}{% endif %}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """256 bytes and three marks, no merges: any text comes back as it went in."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL[0],
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def build_model(*, width: int = 128, layers: int = 4, heads: int = 4, seed: int = 0) -> LlamaForCausalLM:
    """A Llama of about 0.9 million weights in float32, drawn from `seed` without touching the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(SPECIAL) + 256,
            hidden_size=width,
            intermediate_size=width * 8 // 3 // 8 * 8,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=4096,
            tie_word_embeddings=True,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
        return LlamaForCausalLM(config)


def save_tiny(folder: Path, *, seed: int = 0) -> Path:
    """Write model and tokenizer (TRL wants a model that lies at a path); an existing complete copy is kept."""
    if not folder.exists():
        partial = folder.with_name(f"{folder.name}.{os.getpid()}")
        build_model(seed=seed).save_pretrained(partial)
        build_tokenizer().save_pretrained(partial)
        try:
            partial.rename(folder)
        except OSError:  # another process of the run was first; its copy is the same
            shutil.rmtree(partial)
    return folder
