"""A tiny untrained policy with the project's own tokenizer, and small files that several tests share."""

import pytest
import torch

from uma_lib.engines.policy import Policy
from uma_lib.nano.base import BaseConfig, make_model, make_tokenizer

# models this small run faster on one thread, most of all beside other processes
torch.set_num_threads(1)

TINY = BaseConfig(
    vocabulary=400,
    width=32,
    layers=2,
    heads=2,
    key_value_heads=1,
    feed_forward=64,
    batch_tokens=2048,
    tokens=8192,
)


@pytest.fixture(scope="session")
def tiny_tokenizer():
    return make_tokenizer(TINY, examples=100)


@pytest.fixture()
def tiny_policy(tiny_tokenizer):
    torch.manual_seed(0)
    return Policy(make_model(TINY, len(tiny_tokenizer)).eval(), tiny_tokenizer)
