"""A classifier of texts with more masks or fewer."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn
from torch.nn.functional import pad

from kexue.masking.inputs import as_int64, check_boolean
from kexue.masking.masks import masked_max, masked_mean, masked_softmax, sequence_mask
from kexue.masking.recurrent import BiRNN
from kexue.nn import checks

Pooling = Literal["mean", "max", "attention"]
Masks = Literal["none", "pooling", "everywhere"]


class TextClassifier(nn.Module):
    """Embedding, GRU in both directions, pooling, linear layer: masks where `masks` says (masking.claim2).

    Without its mask, an operation takes the padding for text, as if all positions were real.

    Args:
        vocab_size: V; id 0 is padding, and has an embedding like any other.
        num_classes: C.
        embedding_size: D.
        hidden_size: units of each direction, H.
        pooling: over the positions: mean, maximum, or Σ αₜhₜ with α = softmax(wᵀtanh(Uhₜ)).
        masks: for nothing, for the pooling, or for the recurrent network as well.
        dropout: on embeddings and on what was pooled, in training.

    Raises TypeError for a size that is no int, and ValueError for one below 1, an unknown pooling or masks,
    or a dropout outside [0, 1).
    """

    def __init__(
        self,
        vocab_size: int,
        num_classes: int = 2,
        embedding_size: int = 64,
        hidden_size: int = 64,
        pooling: Pooling = "attention",
        masks: Masks = "everywhere",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        checks.count("vocab_size", vocab_size, 1)
        checks.count("num_classes", num_classes, 1)
        checks.count("embedding_size", embedding_size, 1)
        checks.count("hidden_size", hidden_size, 1)
        checks.choice("pooling", pooling, get_args(Pooling))
        checks.choice("masks", masks, get_args(Masks))
        checks.rate("dropout", dropout)
        self.pooling, self.masks = pooling, masks
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        self.rnn = BiRNN(nn.GRU(embedding_size, hidden_size, batch_first=True))
        self.score = nn.Sequential(
            nn.Linear(2 * hidden_size, hidden_size), nn.Tanh(), nn.Linear(hidden_size, 1)
        )
        self.out = nn.Linear(2 * hidden_size, num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, ids: Integer[Tensor, "batch time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch classes"]:
        """Logits of the classes, (B, C), from ids (B, T) and their mask (B, T).

        Raises:
            TypeError: ids are not integers, or mask is not boolean.
            ValueError: ids are not (B, T) or not in 0 … V − 1; mask not (B, T), on their device, or with
                real positions that are not the first of their row.
        """
        table = as_int64("ids", ids)
        if table.ndim != 2:
            raise ValueError(f"ids must have shape (B, T), got {tuple(table.shape)}")
        vocab_size = self.embedding.num_embeddings
        bad = (table < 0) | (table >= vocab_size)
        if bad.any():
            raise ValueError(f"ids must be between 0 and {vocab_size - 1}, got {int(table[bad][0])}")
        check_boolean(mask, table)
        all_real = torch.ones_like(mask)
        x = self.dropout(self.embedding(table))
        h = self.rnn(x, mask if self.masks == "everywhere" else all_real)
        pooled = self._pool(h, all_real if self.masks == "none" else mask)
        return self.out(self.dropout(pooled))

    def _pool(self, h: Tensor, mask: Tensor) -> Tensor:
        if self.pooling == "mean":
            return masked_mean(h, mask, 1)
        if self.pooling == "max":
            return masked_max(h, mask, 1)
        weight = masked_softmax(self.score(h).squeeze(-1), mask)
        return (weight.unsqueeze(-1) * h).sum(1)


@torch.no_grad()
def predict(
    model: TextClassifier, ids: Sequence[Integer[Tensor, " _"]], added: int = 0, batch_size: int = 256
) -> Float[Tensor, "n classes"]:
    """Logits of texts, each followed by exactly `added` positions of padding.

    Texts of the same length go through the model together, so that there is no other padding.

    Args:
        model: in the mode for evaluation, if dropout is not wanted.
        ids: of each text, on the model's device.
        added: positions of padding.
        batch_size: at most so many texts at a time.

    Raises TypeError for a model that is no module, or texts that are no integers, and ValueError for no
    texts, an empty text, one that is no vector, a negative `added` or a batch size below 1.
    """
    checks.instance("model", model, nn.Module, "an nn.Module")
    checks.instance("ids", ids, Sequence, "a sequence of tensors")
    for text in ids:
        checks.integers("ids", text)
        if text.ndim != 1:
            raise ValueError(f"ids must be vectors, got shape {tuple(text.shape)}")
    checks.count("added", added, 0)
    checks.count("batch_size", batch_size, 1)
    if not ids or not all(map(len, ids)):
        raise ValueError(f"ids must be texts of at least one symbol, got lengths {[len(t) for t in ids]}")
    places: dict[int, list[int]] = {}
    for i, text in enumerate(ids):
        places.setdefault(len(text), []).append(i)
    order, found = [], []
    for length, places_of_length in places.items():
        for start in range(0, len(places_of_length), batch_size):
            group = places_of_length[start : start + batch_size]
            table = pad(torch.stack([ids[i] for i in group]), (0, added))
            mask = sequence_mask(torch.tensor(length, device=table.device), length + added)
            found.append(model(table, mask.expand_as(table)))
            order += group
    logits = torch.cat(found)
    return torch.empty_like(logits).index_copy_(0, torch.tensor(order, device=logits.device), logits)
