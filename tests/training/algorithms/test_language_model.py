"""The tokenizer of a base model that was never made for chats."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from training.algorithms.generation import encode_pair
from training.algorithms.language_model import load_tokenizer

PROMPT = [{"role": "user", "content": "Is it so?"}]


def save_plain(folder: Path, **marks: str) -> Path:
    """A byte-level tokenizer with merges, as GPT-2's, that joins a space to the word after it; no chat template."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(initial_alphabet=alphabet, special_tokens=["<end>"], show_progress=False)
    tokenizer.train_from_iterator(["user: Yes\nassistant: Yes\nYes No no\n"] * 9, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("answer", ["Yes", " Yes", "\nYes", "no"])
def test_an_answer_follows_the_very_tokens_that_a_sample_follows(tmp_path: Path, answer: str) -> None:
    tokenizer = load_tokenizer(save_plain(tmp_path, eos_token="<end>"))
    asked = tokenizer.apply_chat_template(PROMPT, add_generation_prompt=True, return_dict=False)
    prompt, response = encode_pair(tokenizer, PROMPT, answer, max_length=128)
    assert prompt == asked
    assert tokenizer.decode(prompt) == "user:\nIs it so?<end>\nassistant:\n"
    assert tokenizer.decode(response) == f"{answer}<end>\n"


def test_a_tokenizer_without_an_end_mark_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no end mark \(eos_token\)"):
        load_tokenizer(save_plain(tmp_path, pad_token="<end>"))
