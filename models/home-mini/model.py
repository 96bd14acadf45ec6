"""Training's forward pass: that of transformers' Gemma 4, arranged for two slow cores.

The parameters are those of `Gemma4ForCausalLM`; only the order of the work differs. Losses are wanted at the tokens
that the model writes, one in four or five. So the layers that own K and V run for all tokens up to the last K and V, and
everything above them (two layers and a half, and the head) for the wanted tokens only: exact, and half of the work.
A sequence may be a tree: a stem, the home and its tools, and branches, talks that each follow on the stem as if
the others were not there, so that the stem, which is long, is computed once for many of them.
Sliding layers look at blocks of a window's length. Under autocast matrix products are of bfloat16. `selftest` compares with transformers' own forward pass.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Gemma4ForCausalLM

import shape
from shape import FULL, SLIDING

EPS = 1e-6
# Queries that attend at a time, where all tokens do.
PIECE = 384


class _RmsNorm(torch.autograd.Function):
    """x / rms(x) * weight in few passes over memory; weight None is 1."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor | None) -> Tensor:  # type: ignore[override]
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        r = torch.rsqrt(norm.square_().div_(x.shape[-1]).add_(EPS))
        ctx.save_for_backward(x, r, weight)
        y = x * r
        return y.mul_(weight) if weight is not None else y

    @staticmethod
    def backward(ctx, grad: Tensor):  # type: ignore[override]
        x, r, weight = ctx.saved_tensors
        d_weight = None
        if weight is not None:
            d_weight = (grad * x).mul_(r).flatten(0, -2).sum(0)
            grad = grad * weight
        s = (grad * x).sum(-1, keepdim=True).mul_(r * r * r).div_(x.shape[-1])
        return torch.addcmul(grad * r, x, s, value=-1), d_weight


def rms_norm(x: Tensor, weight: Tensor | None) -> Tensor:
    return _RmsNorm.apply(x, weight)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions; x [..., d], the tables broadcast to it."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


def _hidden(seen: Tensor) -> Tensor:
    """What is added to scores: nothing where a key is seen, else minus infinity."""
    return torch.zeros(seen.shape, dtype=torch.bfloat16).masked_fill_(~seen, float("-inf"))


def _attended(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor) -> Tensor:
    """Attention of several heads to one of K and V: q [batch, n, heads, d], k, v [batch, length, d], hidden [batch, n, length].

    The heads share a matrix product, which is why this is faster here than PyTorch's own."""
    batch, n, heads, d = q.shape
    scores = (q.reshape(batch, n * heads, d) @ k.mT).view(batch, n, heads, -1)
    scores += hidden[:, :, None]
    return (F.softmax(scores, -1).view(batch, n * heads, -1) @ v).view(batch, n, heads * d)


class _Layout:
    """Who sees whom in a batch of trees, which all layers share.

    branches [batch, length]: 0 in the stem, which stands first, then the number of a token's branch."""

    def __init__(self, branches: Tensor):
        batch, length = branches.shape
        w, at = shape.WINDOW, torch.arange(length)
        self.stem = (branches == 0).sum(1)
        begins = torch.ones_like(branches, dtype=torch.bool)
        begins[:, 1:] = branches[:, 1:] != branches[:, :-1]
        start = torch.where(begins, at, 0).cummax(1).values
        self.positions = torch.where(branches == 0, at, at - start + self.stem[:, None])
        self.branches = branches

        # Full attention, a piece of the queries at a time: the keys of the stems, and those from the first branch on that one of the queries is in.
        self.pieces = []
        for first in range(0, length, PIECE):
            end = min(first + PIECE, length)
            stem = min(int(self.stem.max()), end)
            keys = torch.cat((at[:stem], at[max(stem, int(start[:, first].min())) : end]))
            here, there = branches[:, first:end, None], branches[:, None, keys]
            self.pieces.append((first, end, stem, len(keys), _hidden((keys <= at[first:end, None]) & ((there == 0) | (there == here)))))

        # Sliding attention, block by block: the end of the stem, which is next to each branch's beginning, the block before, and the block.
        n = length // w
        tail = self.stem[:, None] + torch.arange(-w, 0)
        near = at.view(n, 1, w) + torch.tensor([-w, 0])[:, None]
        keys = torch.cat((tail[:, None].expand(-1, n, -1), near.view(1, n, 2 * w).expand(batch, -1, -1)), 2)
        self.keys = keys.clamp(min=0)
        rows = torch.arange(batch)[:, None, None]
        position, branch = self.positions.view(batch, n, w, 1), branches.view(batch, n, w, 1)
        key_position, key_branch = (t[rows, self.keys][:, :, None] for t in (self.positions, branches))
        from_tail = torch.arange(3 * w) < w
        seen = torch.where(from_tail, branch > 0, key_branch == branch)
        seen = seen & (keys >= 0)[:, :, None] & (key_position <= position) & (key_position > position - w)
        self.block_hidden = _hidden(seen)

    def window(self, at: Tensor) -> tuple[Tensor, Tensor]:
        """For tokens [batch, n] the keys of their windows [batch, n, window], and what is added to scores."""
        rows = torch.arange(len(at))[:, None]
        position = self.positions[rows, at][..., None] + torch.arange(1 - shape.WINDOW, 1)
        keys = torch.where(position < self.stem[:, None, None], position, at[..., None] + torch.arange(1 - shape.WINDOW, 1))
        return keys.clamp(min=0), _hidden(position >= 0)

    def before(self, at: Tensor) -> Tensor:
        """For tokens [batch, n] what is added to the scores of all keys."""
        rows = torch.arange(len(at))[:, None]
        there = self.branches[:, None]
        return _hidden((torch.arange(there.shape[-1]) <= at[..., None]) & ((there == 0) | (there == self.branches[rows, at][..., None])))


class Trained:
    """Forward pass over a model's parameters. Sequences are padded to a multiple of the window."""

    def __init__(self, model: Gemma4ForCausalLM, longest: int):
        self.model = model.model
        positions = torch.arange(longest)[None]
        dummy = torch.zeros(1)
        self.tables = {t: tuple(c[0] for c in self.model.rotary_emb(dummy, positions, t)) for t in (SLIDING, FULL)}

    def logits(self, ids: Tensor, wanted: Tensor, branches: Tensor | None = None) -> Tensor:
        """Logits [n, vocab] at the wanted tokens.

        ids: [batch, length], padded with 0 at the end; wanted: [batch, most], where they stand in it, padded with -1;
        branches: [batch, length], 0 for the stem, then each token's branch; without it all is stem.
        The rows of the result are those of the wanted tokens that are no padding, in order."""
        m, batch = self.model, len(ids)
        layout = _Layout(branches if branches is not None else torch.zeros_like(ids))
        rotary = {kind: tuple(t[layout.positions] for t in tables) for kind, tables in self.tables.items()}
        x = m.embed_tokens(ids)
        per_layer = self._per_layer(ids, x)
        kv: dict[int, tuple[Tensor, Tensor]] = {}
        n_own = len(shape.LAYERS) - shape.N_SHARED
        for i in range(n_own - 1):
            x, kv[i] = self._whole_layer(i, x, per_layer[i], rotary[shape.LAYERS[i]], layout)
        last = n_own - 1
        h = rms_norm(x, m.layers[last].input_layernorm.weight)
        kv[last] = self._keys_values(last, h, rotary[shape.LAYERS[last]])
        # From here on the wanted tokens only.
        rows = torch.arange(batch)[:, None].expand_as(wanted)
        at = wanted.clamp(min=0)
        x = x[rows, at]
        rotary = {kind: tuple(t[rows, at] for t in tables) for kind, tables in rotary.items()}
        window, window_hidden = layout.window(at)
        hidden = layout.before(at)
        for i in range(last, len(shape.LAYERS)):
            kind = shape.LAYERS[i]
            source = i if i == last else n_own - 1 - (kind != shape.LAYERS[n_own - 1])
            k, v = kv[source]
            if kind == SLIDING:
                # Each wanted token is a batch of its own, over the keys of its window.
                k, v = (t[rows[..., None], window].flatten(0, 1) for t in (k, v))
            x = self._wanted_layer(i, x, per_layer[i][rows, at], rotary[kind], k, v, window_hidden if kind == SLIDING else hidden)
        x = rms_norm(x[wanted >= 0], m.norm.weight)
        with torch.autocast("cpu", enabled=False):
            logits = F.linear(x.to(m.embed_tokens.weight.dtype), m.embed_tokens.weight)
        return torch.tanh(logits / shape.SOFT_CAP) * shape.SOFT_CAP

    def _per_layer(self, ids: Tensor, x: Tensor) -> list[Tensor]:
        m, n = self.model, len(shape.LAYERS)
        rows = m.embed_tokens_per_layer(ids).unflatten(-1, (n, shape.PER_LAYER))
        projected = m.per_layer_model_projection(x) * m.per_layer_model_projection_scale
        projected = rms_norm(projected.unflatten(-1, (n, shape.PER_LAYER)), m.per_layer_projection_norm.weight)
        return list(((rows + projected) * m.per_layer_input_scale).unbind(-2))

    def _keys_values(self, i: int, h: Tensor, rotary: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """K and V [batch, length, head_dim] of a layer that owns them; rotary: cosines and sines, as large."""
        a = self.model.layers[i].self_attn
        return rotate(rms_norm(a.k_proj(h), a.k_norm.weight), *rotary), rms_norm(a.v_proj(h), None)

    def _queries(self, i: int, h: Tensor, rotary: tuple[Tensor, ...]) -> Tensor:
        """Q [batch, length, heads, head_dim]."""
        a = self.model.layers[i].self_attn
        q = a.q_proj(h).unflatten(-1, (shape.N_HEADS, -1))
        return rotate(rms_norm(q, a.q_norm.weight), *(t[:, :, None] for t in rotary))

    def _whole_layer(self, i: int, x: Tensor, per_layer: Tensor, rotary: tuple[Tensor, ...], layout: _Layout) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        layer = self.model.layers[i]
        h = rms_norm(x, layer.input_layernorm.weight)
        k, v = self._keys_values(i, h, rotary)
        q = self._queries(i, h, rotary)
        out = (self._causal if shape.LAYERS[i] == FULL else self._blocks)(q, k, v, layout)
        return self._rest(layer, x, out, per_layer), (k, v)

    def _causal(self, q: Tensor, k: Tensor, v: Tensor, layout: _Layout) -> Tensor:
        """Attention to all that came before, for q [batch, length, heads, d]."""
        out = []
        for first, end, stem, n_keys, hidden in layout.pieces:
            there = end - (n_keys - stem)
            keys, values = (torch.cat((t[:, :stem], t[:, there:end]), 1) if there > stem else t[:, :end] for t in (k, v))
            out.append(_attended(q[:, first:end], keys, values, hidden))
        return torch.cat(out, 1)

    def _blocks(self, q: Tensor, k: Tensor, v: Tensor, layout: _Layout) -> Tensor:
        """Attention within the window."""
        batch, length, n_heads, d = q.shape
        rows = torch.arange(batch)[:, None, None]
        k, v = (t[rows, layout.keys].flatten(0, 1) for t in (k, v))
        return _attended(q.view(-1, shape.WINDOW, n_heads, d), k, v, layout.block_hidden.flatten(0, 1)).view(batch, length, n_heads * d)

    def _wanted_layer(self, i: int, x: Tensor, per_layer: Tensor, rotary: tuple[Tensor, ...], k: Tensor, v: Tensor, hidden: Tensor) -> Tensor:
        """A layer at the wanted tokens [batch, most]: full with the keys of all, sliding with those of each one's window."""
        layer = self.model.layers[i]
        q = self._queries(i, rms_norm(x, layer.input_layernorm.weight), rotary)
        if shape.LAYERS[i] == SLIDING:
            q, hidden = q.flatten(0, 1)[:, None], hidden.flatten(0, 1)[:, None]
        return self._rest(layer, x, _attended(q, k, v, hidden).view(*x.shape[:2], -1), per_layer)

    def _rest(self, layer, x: Tensor, attended: Tensor, per_layer: Tensor) -> Tensor:
        """What follows attention in every layer."""
        x = x + rms_norm(layer.self_attn.o_proj(attended), layer.post_attention_layernorm.weight)
        h = rms_norm(x, layer.pre_feedforward_layernorm.weight)
        h = F.gelu(layer.mlp.gate_proj(h), approximate="tanh") * layer.mlp.up_proj(h)
        x = x + rms_norm(layer.mlp.down_proj(h), layer.post_feedforward_layernorm.weight)
        h = F.gelu(layer.per_layer_input_gate(x), approximate="tanh") * per_layer
        x = x + rms_norm(layer.per_layer_projection(h), layer.post_per_layer_input_norm.weight)
        return x * layer.layer_scalar


def selftest() -> None:
    """Logits and gradients of this pass against transformers' for random ids of several lengths."""
    torch.manual_seed(0)
    model = Gemma4ForCausalLM(shape.config())
    with torch.no_grad():
        for name, p in model.named_parameters():
            # Sublayers that speak softly: in eight loud ones rounding alone would move gradients.
            p.normal_(0.3 if "post_" in name else 1.0 if "norm" in name else 0.0, 0.1 if "norm" in name else p.shape[-1] ** -0.5)
        for layer in model.model.layers:
            layer.layer_scalar.fill_(0.9)
    # Each sequence's stem and branches: none, short and long ones, a stem shorter than the window.
    trees = [[200], [37, 20, 1, 90], [129, 70, 200, 3, 40], [1, 30], [640, 5, 64, 63]]
    length = 832
    ids = torch.zeros(len(trees), length, dtype=torch.long)
    branches = torch.full((len(trees), length), 99)
    wanted = torch.full((len(trees), 50), -1)
    expected = []
    for b, (stem, *tree) in enumerate(trees):
        n = stem + sum(tree)
        ids[b, :n] = torch.randint(3, shape.VOCAB, (n,))
        branches[b, :n] = torch.repeat_interleave(torch.arange(1 + len(tree)), torch.tensor([stem, *tree]))
        some = torch.randperm(n)[: 18 + 7 * b].sort().values
        wanted[b, : len(some)] = some
        logits = torch.zeros(n, shape.VOCAB)
        for branch in range(1 + len(tree)):
            path = ((branches[b, :n] == 0) | (branches[b, :n] == branch)).nonzero().flatten()
            logits = logits.index_copy(0, path, model(input_ids=ids[b : b + 1, path], use_cache=False).logits[0])
        expected.append(logits[some])
    theirs = torch.cat(expected)
    ours = Trained(model, 1024).logits(ids, wanted, branches)
    print("largest difference of logits", (ours - theirs).abs().max().item(), "among values up to", theirs.abs().max().item())
    assert (ours - theirs).abs().max() < 1e-3
    weights = torch.randn_like(theirs)
    parameters = [p for p in model.parameters()]
    for a, b in zip(*(torch.autograd.grad((y * weights).sum(), parameters, retain_graph=True) for y in (theirs, ours))):
        assert (a - b).abs().max() <= 1e-3 * a.abs().max() + 1e-4, (a - b).abs().max()
    print("gradients agree")


if __name__ == "__main__":
    selftest()
