"""Training's forward pass: that of transformers' Gemma 4, arranged for two slow cores.

The parameters are those of `Gemma4ForCausalLM`; only the order of the work differs. Losses are wanted at the tokens
that the model writes, one in six. So the layers that own K and V run for all tokens up to the last K and V, and
everything above them (two layers and a half, and the head) for the wanted tokens only: exact, and half of the work.
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


def _attended(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
    """Attention of several heads to one of K and V: q [batch, n, heads, d], k, v [batch, length, d], seen [batch or 1, n, length].

    The heads share a matrix product, which is why this is faster here than PyTorch's own."""
    batch, n, heads, d = q.shape
    scores = (q.reshape(batch, n * heads, d) @ k.mT).view(batch, n, heads, -1)
    scores = scores + torch.zeros(seen.shape, dtype=scores.dtype).masked_fill_(~seen, float("-inf"))[:, :, None]
    return (F.softmax(scores, -1).view(batch, n * heads, -1) @ v).view(batch, n, heads * d)


class Trained:
    """Forward pass over a model's parameters. Sequences are padded to a multiple of the window."""

    def __init__(self, model: Gemma4ForCausalLM, longest: int):
        self.model = model.model
        positions = torch.arange(longest)[None]
        dummy = torch.zeros(1)
        self.tables = {t: tuple(c[0] for c in self.model.rotary_emb(dummy, positions, t)) for t in (SLIDING, FULL)}
        # In a block of queries and the two blocks of keys before its end: who sees whom.
        w = shape.WINDOW
        q, k = torch.arange(w)[:, None] + w, torch.arange(2 * w)[None]
        inside = (k <= q) & (k > q - w)
        self.block_mask = torch.zeros(w, 2 * w).masked_fill_(~inside, float("-inf"))

    def logits(self, ids: Tensor, wanted: Tensor) -> Tensor:
        """Logits [n, vocab] at the wanted tokens.

        ids: [batch, length], padded with 0 at the end; wanted: [batch, most], positions, padded with -1.
        The rows of the result are those of the wanted positions that are no padding, in order."""
        m, (batch, length) = self.model, ids.shape
        x = m.embed_tokens(ids)
        per_layer = self._per_layer(ids, x)
        kv: dict[int, tuple[Tensor, Tensor]] = {}
        n_own = len(shape.LAYERS) - shape.N_SHARED
        for i in range(n_own - 1):
            x, kv[i] = self._whole_layer(i, x, per_layer[i])
        last = n_own - 1
        h = rms_norm(x, m.layers[last].input_layernorm.weight)
        kv[last] = self._keys_values(last, h)
        # From here on the wanted tokens only.
        rows = torch.arange(batch)[:, None].expand_as(wanted)
        at = wanted.clamp(min=0)
        x = x[rows, at]
        for i in range(last, len(shape.LAYERS)):
            kind = shape.LAYERS[i]
            source = i if i == last else n_own - 1 - (kind != shape.LAYERS[n_own - 1])
            x = self._wanted_layer(i, x, per_layer[i][rows, at], at, kv[source])
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

    def _keys_values(self, i: int, h: Tensor) -> tuple[Tensor, Tensor]:
        """K and V [batch, length, head_dim] of a layer that owns them."""
        a = self.model.layers[i].self_attn
        cos, sin = (t[: h.shape[1]] for t in self.tables[shape.LAYERS[i]])
        return rotate(rms_norm(a.k_proj(h), a.k_norm.weight), cos, sin), rms_norm(a.v_proj(h), None)

    def _whole_layer(self, i: int, x: Tensor, per_layer: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        layer, kind = self.model.layers[i], shape.LAYERS[i]
        length = x.shape[1]
        h = rms_norm(x, layer.input_layernorm.weight)
        k, v = self._keys_values(i, h)
        cos, sin = (t[:length, None] for t in self.tables[kind])
        q = layer.self_attn.q_proj(h).unflatten(-1, (shape.N_HEADS, -1))
        q = rotate(rms_norm(q, layer.self_attn.q_norm.weight), cos, sin).transpose(1, 2)
        out = self._causal(q.transpose(1, 2), k, v) if kind == FULL else self._blocks(q, k, v)
        return self._rest(layer, x, out, per_layer), (k, v)

    def _causal(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention to all that came before, for q [batch, length, heads, d], a piece of the queries at a time."""
        length, out = q.shape[1], []
        for start in range(0, length, PIECE):
            end = min(start + PIECE, length)
            seen = torch.arange(end) <= torch.arange(start, end)[:, None]
            out.append(_attended(q[:, start:end], k[:, :end], v[:, :end], seen[None]))
        return torch.cat(out, 1)

    def _blocks(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention within the window, block by block: a block of queries sees its own block of keys and the one before."""
        batch, n_heads, length, d = q.shape
        w = shape.WINDOW
        n = length // w
        two = lambda t: torch.cat((F.pad(t, (0, 0, w, 0))[:, :length].unflatten(1, (n, w)), t.unflatten(1, (n, w))), 2).flatten(0, 1)
        k, v = two(k), two(v)
        q = q.unflatten(2, (n, w)).permute(0, 2, 1, 3, 4).reshape(batch * n, n_heads * w, d)
        scores = (q @ k.transpose(1, 2)).view(batch, n, n_heads, w, 2 * w) + self.block_mask
        # The block before the first is padding.
        first = scores[:, 0].clone()
        first[..., :w] = float("-inf")
        scores = torch.cat((first[:, None], scores[:, 1:]), 1)
        out = F.softmax(scores, -1).view(batch * n, n_heads * w, 2 * w) @ v
        return out.view(batch, n, n_heads, w, d).permute(0, 1, 3, 2, 4).reshape(batch, length, n_heads * d)

    def _wanted_layer(self, i: int, x: Tensor, per_layer: Tensor, at: Tensor, kv: tuple[Tensor, Tensor]) -> Tensor:
        """A layer at the wanted tokens [batch, most], whose positions are `at`."""
        layer, kind = self.model.layers[i], shape.LAYERS[i]
        cos, sin = (t[at][:, :, None] for t in self.tables[kind])
        q = layer.self_attn.q_proj(rms_norm(x, layer.input_layernorm.weight)).unflatten(-1, (shape.N_HEADS, -1))
        q = rotate(rms_norm(q, layer.self_attn.q_norm.weight), cos, sin)
        k, v = kv
        if kind == FULL:
            out = _attended(q, k, v, torch.arange(k.shape[1]) <= at[..., None])
        else:
            # Each wanted token is a batch of its own, over the keys of its window.
            window = at[..., None] + torch.arange(1 - shape.WINDOW, 1)
            rows = torch.arange(len(at))[:, None, None]
            k, v = (t[rows, window.clamp(min=0)].flatten(0, 1) for t in kv)
            out = _attended(q.flatten(0, 1)[:, None], k, v, (window >= 0).flatten(0, 1)[:, None]).view(*at.shape, -1)
        return self._rest(layer, x, out, per_layer)

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
    lengths = [200, 37, 129, 256]
    ids = torch.zeros(4, 256, dtype=torch.long)
    wanted = torch.full((4, 50), -1)
    expected = []
    for b, n in enumerate(lengths):
        ids[b, :n] = torch.randint(3, shape.VOCAB, (n,))
        some = torch.randperm(n)[: 20 + 7 * b].sort().values
        wanted[b, : len(some)] = some
        expected.append(model(input_ids=ids[b : b + 1, :n].clone(), use_cache=False).logits[0, some])
    theirs = torch.cat(expected)
    ours = Trained(model, 512).logits(ids, wanted)
    print("largest difference of logits", (ours - theirs).abs().max().item(), "among values up to", theirs.abs().max().item())
    assert (ours - theirs).abs().max() < 1e-3
    weights = torch.randn_like(theirs)
    parameters = [p for p in model.parameters()]
    for a, b in zip(*(torch.autograd.grad((y * weights).sum(), parameters, retain_graph=True) for y in (theirs, ours))):
        assert (a - b).abs().max() <= 1e-3 * a.abs().max() + 1e-4, (a - b).abs().max()
    print("gradients agree")


if __name__ == "__main__":
    selftest()
