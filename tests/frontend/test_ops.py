"""Converters one by one: tiny modules, numerically equal to torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from .compare import check


class Fn(torch.nn.Module):
    """A function as a module."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, *args: torch.Tensor) -> Any:
        return self.fn(*args)


def x(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def ints(*shape: int, low: int = 0, high: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed))


def assign(t: torch.Tensor, place: Any, value: Any) -> torch.Tensor:
    t = t.clone()
    t[place] = value
    return t


A, B, C4 = x(2, 3, 4), x(2, 3, 4, seed=1), x(2, 4, 6, 5)
POSITIVE = A.abs() + 0.5
UNARY = (
    "exp log1p expm1 sqrt rsqrt reciprocal sin cos tan atan tanh erf sigmoid neg abs sign relu floor ceil round log"
    " log2 log10 exp2 square trunc frac isnan isinf isfinite logical_not erfc sinh cosh asin acos asinh atanh acosh"
).split()
ACTIVATIONS: list[Callable[[torch.Tensor], torch.Tensor]] = [
    F.gelu,
    lambda t: F.gelu(t, approximate="tanh"),
    F.silu,
    F.mish,
    F.hardswish,
    F.hardsigmoid,
    F.relu6,
    F.hardtanh,
    F.leaky_relu,
    F.elu,
    F.selu,
    F.celu,
    lambda t: F.celu(t, 0.7),
    lambda t: F.softplus(t, 2.0, 1.0),
    F.logsigmoid,
    F.softsign,
    F.tanhshrink,
    F.hardshrink,
    F.softshrink,
    lambda t: F.threshold(t, 0.1, -2.0),
    lambda t: F.glu(t, -1),
    lambda t: F.softmax(t, 1),
    lambda t: F.log_softmax(t, -1),
    lambda t: F.softmin(t, -1),
    lambda t: F.softmax(t, -1, dtype=torch.float64),
    lambda t: F.normalize(t, dim=-1),
    lambda t: F.normalize(t, p=1.0, dim=0),
]
ARITHMETIC: list[Callable[[torch.Tensor, torch.Tensor], Any]] = [
    lambda a, b: a + b,
    lambda a, b: torch.add(a, b, alpha=2),
    lambda a, b: torch.sub(a, b, alpha=0.5),
    lambda a, b: 3 - a * 2 + b / 4 - 1,
    lambda a, b: a * (b > 0),
    lambda a, b: a.double() + b,
    lambda a, b: a + b.to(torch.int64),
    lambda a, b: a.to(torch.int32) // 2,
    lambda a, b: a.to(torch.int64) / 3,
    lambda a, b: torch.div(a, b, rounding_mode="floor"),
    lambda a, b: torch.div(a, b, rounding_mode="trunc"),
    lambda a, b: torch.remainder(a, 0.7),
    lambda a, b: torch.fmod(a, 0.7),
    lambda a, b: (a.abs() + 0.1) ** b,
    lambda a, b: (a**2, a**3, a.abs() ** 0.5, 2**a, (a.abs() + 0.1) ** -0.5, (a + 5) ** -1),
    lambda a, b: (torch.maximum(a, b), torch.minimum(a, b), torch.max(a, b)),
    lambda a, b: (a > b, a >= 0.1, a < b, a <= 0, a == b, a != 0),
    lambda a, b: (a > 0) & (b > 0) | ~(a < b) ^ (b < 1),
    lambda a, b: torch.logical_and(a, b > 0),
    lambda a, b: torch.where(a > b, a, b),
    lambda a, b: torch.where(a > 0, a, 0.0),
    lambda a, b: torch.where(a > 0, 1, 2),
    lambda a, b: a.masked_fill(b > 0, float("-inf")).softmax(-1).nan_to_num(),
    lambda a, b: (a.clamp(-0.5, 0.5), a.clamp(min=0), torch.clamp(a, max=b), a.clamp_min(0.1)),
    lambda a, b: torch.addcmul(a, b, b, value=0.5),
    lambda a, b: torch.addcdiv(a, b, b.abs() + 1, value=2),
    lambda a, b: torch.lerp(a, b, 0.3),
    lambda a, b: a.half().float() + b.to(torch.bfloat16).float(),
    lambda a, b: torch.atan2(a, b),
    lambda a, b: torch.hypot(a, b),
    lambda a, b: a.to(torch.int8) + 1,
    lambda a, b: (a > 0) + 1,
    lambda a, b: (a > 0).sum() * b,
    lambda a, b: torch.nan_to_num(a / 0.0),
    lambda a, b: F.mse_loss(a, b),
    lambda a, b: F.cosine_similarity(a, b, dim=-1),
    lambda a, b: torch.cdist(a, b),
]
REDUCTIONS: list[Callable[[torch.Tensor], Any]] = [
    lambda t: t.sum(),
    lambda t: (t.sum(-1), t.sum((0, 2), keepdim=True), t.sum(1, dtype=torch.float64)),
    lambda t: (t.mean(), t.mean((1, 2)), t.mean(-1, True)),
    lambda t: (t.amax(1), t.amin((0, 1), True), t.max(), t.min()),
    lambda t: t.max(1),
    lambda t: t.min(-1, keepdim=True),
    lambda t: (t.argmax(-1), t.argmin(0, True), t.argmax()),
    lambda t: (t.prod(1), t.prod()),
    lambda t: ((t > 0).any(1), (t > -9).all(), (t > 0).any(), (t > 0).all(-1, keepdim=True)),
    lambda t: (t.var(-1), t.var((0, 1), unbiased=False), t.std(1, correction=0), t.std(), t.var(correction=2)),
    lambda t: torch.var_mean(t, -1, keepdim=True),
    lambda t: torch.std_mean(t, (0, 2)),
    lambda t: (t.norm(), t.norm(dim=-1), t.norm(1, dim=1), t.norm(float("inf"), -1), t.norm(3, dim=1, keepdim=True)),
    lambda t: (torch.linalg.vector_norm(t), torch.linalg.norm(t, dim=1)),
    lambda t: (torch.logsumexp(t, -1), torch.logsumexp(t, (0, 1), True)),
    lambda t: (t.cumsum(1), (t > 0).cumsum(-1), t.abs().cumsum(0)),
    lambda t: torch.count_nonzero(t > 0, dim=1),
    lambda t: torch.topk(t, 2),
    lambda t: torch.topk(t, 2, dim=1, largest=False),
    lambda t: torch.sort(t, dim=1, descending=True),
    lambda t: t.argsort(-1),
    lambda t: (t > 0).float().mean(),
    lambda t: (t.diff(), t.diff(n=2, dim=1), t.diff(prepend=t[..., :1]), (t > 0).diff()),
]
SHAPES: list[Callable[[torch.Tensor], Any]] = [
    lambda t: (t.view(6, 4), t.reshape(-1), t.flatten(1), t.unflatten(2, (2, 2)), t.unsqueeze(1).squeeze(1)),
    lambda t: (t.permute(2, 0, 1), t.transpose(0, -1), t.mT, t[0].t(), t.movedim(0, 2), t.swapaxes(1, 2)),
    lambda t: (t[0], t[:, 1:], t[..., ::2], t[:, -1], t[:, :-1, None], t[1, :, 1:3]),
    lambda t: t.split(1, dim=1),
    lambda t: t.split([1, 3], dim=-1),
    lambda t: t.chunk(3, -1),
    lambda t: t.tensor_split(3, -1),
    lambda t: t.unbind(1),
    lambda t: (torch.cat([t, t * 2], 1), torch.stack([t, t], -1), torch.cat([t, (t > 0)], 0), torch.hstack([t, t])),
    lambda t: (t.roll(1, 1), t.roll((1, -1), (0, 2)), t.roll(5), t.flip(0, -1)),
    lambda t: (t.repeat(1, 2, 1), t.repeat(2, 1, 1, 3), t.tile(2), t.repeat_interleave(2, 1), t.expand(5, 2, 3, 4)),
    lambda t: (F.pad(t, (1, 2)), F.pad(t, (0, 0, 1, 0), value=2.0), F.pad(t, (-1, 1))),
    lambda t: (F.pad(t, (1, 1), mode="reflect"), F.pad(t, (2, 1), mode="replicate"), F.pad(t, (1, 2), mode="circular")),
    lambda t: (t.tril(), t.triu(1)),
    lambda t: (t.unfold(2, 2, 1), t.unfold(-1, 3, 1)),
    lambda t: (t.narrow(2, 1, 2), t.select(1, 2), t.diagonal(dim1=1, dim2=2), t.new_zeros(2, 3), t.new_ones(2)),
    lambda t: (torch.zeros_like(t), torch.ones_like(t) * t, torch.full_like(t, 2.5), torch.full((2, 2), 7)),
    lambda t: (torch.arange(5) + t[0, 0, 0], torch.arange(2, 9, 3), torch.arange(0, 1, 0.25), torch.linspace(0, 1, 5)),
    lambda t: (torch.eye(3), torch.tril_indices(3, 3), torch.ones(2, 2).triu(), torch.zeros(1) + t),
    lambda t: torch.meshgrid(torch.arange(3), torch.arange(2), indexing="ij"),
    lambda t: torch.meshgrid(torch.arange(3), torch.arange(2), indexing="xy"),
    lambda t: torch.broadcast_tensors(t, t[:1]),
    lambda t: (t.contiguous().clone().detach(), t.float(), t.type(torch.float32), t.to("cpu")),
    lambda t: (torch.cartesian_prod(torch.arange(2), torch.arange(3)), torch.block_diag(t[0], t[1])),
    lambda t: (torch.outer(t[0, 0], t[1, 0]), torch.kron(t[0], t[1]), torch.diag_embed(t), torch.rot90(t, 1, (1, 2))),
]
IMAGES: list[Callable[[torch.Tensor], Any]] = [
    lambda t: F.max_pool2d(t, 2),
    lambda t: F.max_pool2d(t, 3, 2, 1, ceil_mode=True),
    lambda t: F.max_pool2d(t, 3, 1, 2 // 2, dilation=1),
    lambda t: F.avg_pool2d(t, 2),
    lambda t: F.avg_pool2d(t, 3, 2, 1, ceil_mode=True, count_include_pad=False),
    lambda t: F.adaptive_avg_pool2d(t, 1),
    lambda t: F.adaptive_avg_pool2d(t, (3, 5)),
    lambda t: F.adaptive_avg_pool2d(t, (4, 3)),
    lambda t: F.adaptive_avg_pool2d(t, (None, 1)),
    lambda t: F.adaptive_max_pool2d(t, (2, 2)),
    lambda t: F.interpolate(t, scale_factor=2),
    lambda t: F.interpolate(t, (9, 7), mode="nearest"),
    lambda t: F.interpolate(t, (9, 7), mode="nearest-exact"),
    lambda t: F.interpolate(t, (9, 7), mode="bilinear"),
    lambda t: F.interpolate(t, (3, 2), mode="bilinear", align_corners=True),
    lambda t: F.interpolate(t, scale_factor=1.3, mode="bilinear"),
    lambda t: F.interpolate(t, scale_factor=1.3, mode="nearest"),
    lambda t: F.interpolate(t, (9, 4), mode="bicubic"),
    lambda t: F.interpolate(t, (4, 3), mode="bilinear", antialias=True),
    lambda t: F.interpolate(t, (4, 3), mode="area"),
    lambda t: F.pixel_shuffle(t, 2),
    lambda t: F.pixel_unshuffle(t[..., :4], 2),
    lambda t: F.channel_shuffle(t, 2),
    lambda t: F.unfold(t, (2, 3), dilation=2, padding=1, stride=(1, 2)),
    lambda t: F.fold(F.unfold(t, 2, stride=2), (6, 4), 2, stride=2),
    lambda t: F.local_response_norm(t, 3),
    lambda t: F.lp_pool2d(t, 2, 2),
    lambda t: F.group_norm(t, 2),
    lambda t: F.instance_norm(t),
    lambda t: F.layer_norm(t, (6, 5)),
    lambda t: F.rms_norm(t, (5,)),
    lambda t: F.grid_sample(t, torch.tanh(t[:, :2].permute(0, 2, 3, 1)), align_corners=False),
    lambda t: F.affine_grid(torch.eye(2, 3).expand(2, 2, 3), [2, 1, 3, 4], align_corners=False),
]
INDEXED: list[Callable[[torch.Tensor, torch.Tensor], Any]] = [
    lambda t, i: (F.embedding(i % 3, t[0]), t.index_select(1, i[0] % 3), t[:, i[0] % 3], t[i % 2]),
    lambda t, i: t.gather(1, i[:, :, None].expand(-1, -1, 4) % 3),
    lambda t, i: (t[i % 2, i % 3], t[:, i % 3, i], t[i % 2, :, i], t[i % 2, i % 3, i]),
    lambda t, i: torch.take_along_dim(t, t.argsort(1), 1),
    lambda t, i: F.one_hot(i, 4),
    lambda t, i: t.index_fill(1, i[0] % 3, 9.0),
    lambda t, i: t.scatter(1, i[:, :, None] % 3, 5.0),
    lambda t, i: t.scatter_add(2, i[:, :3, None] % 3, t),
    lambda t, i: torch.zeros(4, 4).index_put((i[0], i[0]), torch.tensor(1.0)),
    lambda t, i: t.masked_scatter(t > 0, t * 2 + 1),
    lambda t, i: torch.where(t > 0, t, t[:, i[0, :1] % 3]),
    lambda t, i: torch.bucketize(t, torch.tensor([-1.0, 0.0, 1.0])),
    lambda t, i: (t.index_put((i[0] % 2, i[0] % 3), t[0, 0]), t.index_copy(1, i[0, :1] % 3, t[:, :1])),
    lambda t, i: assign(t, (slice(None), i[0] % 3), 4.0),
    lambda t, i: assign(t, (i[0] % 2, slice(None), i[1]), t[0].mT[:3]),
    lambda t, i: assign(t, (slice(0, 1), slice(1, None)), t[1:, 1:] * 2),
    lambda t, i: assign(t, (1, ..., -1), 7.0),
    lambda t, i: assign(t, (slice(None), slice(1, None, 2), slice(0, 3)), t[:, :1, :3] * 2),
    lambda t, i: assign(t, (..., slice(1, 4, 2)), 5.0),
    lambda t, i: assign(t, t > 0, 7.0),
    lambda t, i: (torch.index_select(t, -1, i[1]), t.index_add(1, i[0] % 3, t)),
]
MATRICES: list[Callable[[torch.Tensor, torch.Tensor], Any]] = [
    lambda a, b: (a @ b.mT, a[0] @ b[0].T, a @ b[0, 0], a[0, 0] @ b[1, 0], torch.matmul(a[0, 0], b.mT)),
    lambda a, b: (torch.bmm(a, b.mT), torch.mm(a[0], b[0].T), torch.mv(a[0], b[0, 0]), torch.dot(a[0, 0], b[0, 0])),
    lambda a, b: torch.baddbmm(torch.ones(3), a, b.mT, beta=0.5, alpha=2),
    lambda a, b: (torch.addmm(torch.ones(3), a[0], b[0].T), torch.addmm(torch.ones(3, 3), a[0], b[0].T, beta=2)),
    lambda a, b: (F.linear(a, b[0]), F.linear(a, b[0], b[0, :, 0]), F.linear(a[0, 0], b[0])),
    lambda a, b: torch.einsum("bij,bkj->bik", a, b),
    lambda a, b: torch.einsum("bij,bkj->bk", a, b),
    lambda a, b: torch.einsum("bij,kj->ikb", a, b[0]),
    lambda a, b: torch.einsum("...ij,...kj->...ik", a, b),
    lambda a, b: torch.einsum("bij,bij->bij", a, b),
    lambda a, b: torch.einsum("bij,bij->", a, b),
    lambda a, b: (torch.einsum("bij->jb", a), torch.einsum("ii->i", a[0, :3, :3]), torch.einsum("i,j", a[0, 0], b[0, 0])),
    lambda a, b: torch.einsum("bij,bkj,bkl->bil", a, b, b),
    lambda a, b: F.bilinear(a, b, torch.ones(5, 4, 4) * 0.3, torch.ones(5)),
    lambda a, b: torch.tensordot(a, b, dims=([2, 0], [2, 0])),
    lambda a, b: a.to(torch.int64) @ b.to(torch.int64).mT,
]
LAYERS: list[tuple[torch.nn.Module, tuple[int, ...]]] = [
    (torch.nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (2, 4, 9)),
    (torch.nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)), (2, 4, 9, 8)),
    (torch.nn.Conv2d(4, 4, 4, padding="same", groups=4, bias=False), (2, 4, 9, 8)),
    (torch.nn.Conv2d(4, 4, 3, padding="valid"), (4, 9, 8)),
    (torch.nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), (2, 4, 9, 8)),
    (torch.nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), (2, 4, 9, 8)),
    (torch.nn.Conv3d(2, 3, 2, padding=1), (2, 2, 4, 5, 3)),
    (torch.nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1), (2, 4, 5)),
    (torch.nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2, dilation=2), (2, 4, 5, 6)),
    (torch.nn.ConvTranspose3d(2, 3, 2, stride=2, bias=False), (1, 2, 3, 3, 2)),
    (torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4), torch.nn.PReLU(4)), (2, 3, 4, 4)),
    (torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5), torch.nn.PReLU(), torch.nn.Dropout(0.5)), (2, 4)),
    (torch.nn.Sequential(torch.nn.MaxPool1d(2), torch.nn.AvgPool1d(2), torch.nn.AdaptiveAvgPool1d(2)), (2, 3, 16)),
    (torch.nn.Sequential(torch.nn.MaxPool3d(2), torch.nn.AvgPool3d(2, ceil_mode=True)), (1, 2, 6, 6, 5)),
    (torch.nn.BatchNorm2d(4, track_running_stats=False), (2, 4, 5, 3)),
    (torch.nn.Upsample(scale_factor=2, mode="linear"), (2, 3, 5)),
    (torch.nn.Upsample(scale_factor=2, mode="trilinear", align_corners=True), (1, 2, 3, 3, 2)),
    (torch.nn.RMSNorm(5, eps=1e-6), (2, 5)),
    (torch.nn.InstanceNorm2d(3, affine=True, track_running_stats=True), (2, 3, 4, 4)),
]


@pytest.mark.parametrize("name", UNARY)
def test_unary(name: str) -> None:
    inputs = A
    if name in ("asin", "acos", "atanh"):
        inputs = A.clamp(-0.9, 0.9)
    elif "log" in name or name in ("sqrt", "rsqrt", "acosh"):
        inputs = POSITIVE + (1 if name == "acosh" else 0)
    check(Fn(getattr(torch, name)), (inputs,))


@pytest.mark.parametrize("index", range(len(ACTIVATIONS)))
def test_activation(index: int) -> None:
    check(Fn(ACTIVATIONS[index]), (A * 2,))


@pytest.mark.parametrize("index", range(len(ARITHMETIC)))
def test_arithmetic(index: int) -> None:
    check(Fn(ARITHMETIC[index]), (A, B))


@pytest.mark.parametrize("index", range(len(REDUCTIONS)))
def test_reduction(index: int) -> None:
    check(Fn(REDUCTIONS[index]), (A,))


@pytest.mark.parametrize("index", range(len(SHAPES)))
def test_shape(index: int) -> None:
    check(Fn(SHAPES[index]), (A,))


@pytest.mark.parametrize("index", range(len(IMAGES)))
def test_image(index: int) -> None:
    check(Fn(IMAGES[index]), (C4,))


@pytest.mark.parametrize("index", range(len(INDEXED)))
def test_indexed(index: int) -> None:
    check(Fn(INDEXED[index]), (A, ints(2, 3)))


@pytest.mark.parametrize("index", range(len(MATRICES)))
def test_matrix(index: int) -> None:
    check(Fn(MATRICES[index]), (A, B))


@pytest.mark.parametrize("index", range(len(LAYERS)))
def test_layer(index: int) -> None:
    module, shape = LAYERS[index]
    check(module, (x(*shape),))


@pytest.mark.parametrize(
    "layer",
    [
        torch.nn.LSTM(4, 5, num_layers=2, bidirectional=True, batch_first=True),
        torch.nn.GRU(4, 5, num_layers=2, bias=False),
        torch.nn.RNN(4, 5, bidirectional=True),
        torch.nn.RNN(4, 5, nonlinearity="relu", batch_first=True),
        torch.nn.LSTM(4, 7, proj_size=5, batch_first=True, bidirectional=True),
        torch.nn.LSTM(4, 7, num_layers=3, proj_size=5, bias=False),
    ],
    ids=repr,
)
def test_recurrent(layer: torch.nn.Module) -> None:
    check(layer, (A,))
    state = x(4 if layer.bidirectional and layer.num_layers == 2 else layer.num_layers * (1 + layer.bidirectional), A.shape[0 if layer.batch_first else 1], 5)
    cell = x(*state.shape[:2], layer.hidden_size, seed=1)
    check(layer, (A, (state, cell) if isinstance(layer, torch.nn.LSTM) else state))


def test_weight_norm() -> None:
    check(torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv1d(3, 4, 3), dim=2), (x(2, 3, 8),))
    check(torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(4, 4)), (A,))


def attention(**options: Any) -> Fn:
    return Fn(lambda q, k, v, *m: F.scaled_dot_product_attention(q, k, v, *m, **options))


def test_attention() -> None:
    q, k, v = (x(2, 4, 5, 8, seed=s) for s in range(3))
    mask = x(2, 1, 5, 5)
    few = (k[:, :2], v[:, :2])
    check(attention(), (q, k, v))
    check(attention(is_causal=True), (q, k, v))
    check(attention(scale=0.3), (q, k, v, mask))
    check(attention(), (q, k, v, mask > -0.5))
    check(attention(enable_gqa=True, is_causal=True), (q, *few))
    check(attention(), (q[0], k[0], v[0]))
    check(attention(), (q[0, 0], k[0, 0], v[0, 0]))
    check(attention(), (q, k[:, :, :3], v[:, :, :3, :6]))


def test_a_query_without_keys_gives_zeros() -> None:
    q, k, v = (x(1, 1, 4, 8, seed=s) for s in range(3))
    mask = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    mask[..., 0, :] = False
    check(attention(), (q, k, v, mask))


def test_multi_head_attention() -> None:
    class SelfAttention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, t: torch.Tensor, mask: torch.Tensor) -> Any:
            return self.layer(t, t, t, key_padding_mask=mask, need_weights=True)

    mask = torch.zeros(2, 5, dtype=torch.bool)
    mask[0, 3:] = True
    check(SelfAttention(), (x(2, 5, 8), mask))
