"""Language models of stacked recurrent layers, unrolled over time."""

from random import Random

from graphs.families.layers import add_up, embedding, token_loss, unstack
from graphs.families.recurrent import LSTM_INFERENCE_OPS, LSTM_OPS, unroll
from graphs.families.tape import Tape
from graphs.families.values import TapeValue
from graphs.kinds import DType


def rnnlm(tape: Tape, rng: Random) -> TapeValue:
    """1-8 layers of 256-2048 units over 4-96 steps, with residuals in some."""
    hidden = rng.choice((256, 512, 768, 1024, 1536, 2048))
    batch = rng.choice((16, 32, 64, 128))
    vocabulary = rng.choice((5_000, 10_000, 20_000, 32_000))
    residual = rng.random() < 0.3
    per_cell = LSTM_OPS if tape.training else LSTM_INFERENCE_OPS
    per_step = 26 if tape.training else 4
    cells = max(tape.target_ops // per_cell, 4)
    layers = max(1, min(rng.randint(1, 8), cells // 4))
    steps = max(3, round(tape.target_ops / (layers * per_cell + per_step)))
    if steps > 96:  # long sequences of few layers would be all there is in large graphs
        layers = min(16, -(-layers * steps // 96))
        steps = max(3, round(tape.target_ops / (layers * per_cell + per_step)))
    tokens = tape.placeholder((batch, steps), DType.INT32)
    labels = tape.placeholder((batch, steps), DType.INT32)
    outputs = list(unstack(tape, embedding(tape, "embedding", tokens, vocabulary, hidden)))
    for layer in range(layers):
        below = outputs
        outputs = unroll(tape, f"layer_{layer}", below, hidden)
        if residual and layer:
            outputs = [tape.op("AddV2", pair) for pair in zip(outputs, below, strict=True)]
    with tape.scope("softmax"):
        kernel = tape.weight("kernel", (hidden, vocabulary))
        bias = tape.weight("bias", (vocabulary,))
        targets = unstack(tape, labels)
        losses = []
        for output, target in zip(outputs, targets, strict=True):
            logits = tape.op("MatMul", (output, kernel), (batch, vocabulary))
            logits = tape.op("BiasAdd", (logits, bias), logits.shape)
            losses.append(token_loss(tape, logits, target))
        return add_up(tape, losses)
