"""Cases of products, convolutions, pools, normalizations and attention."""

from __future__ import annotations

import numpy as np

from .case import OpCase, case, f, t, w


def linear() -> list[OpCase]:
    conv = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1)}
    up = conv | {"output_padding": (0, 0)}
    return [
        case("linear", f(4, 5), w(3, 5), w(3)),
        case("linear", f(2, 7, 5, declared=("b", "s", 5)), w(3, 5), name="no-bias"),
        case("linear", f(5), w(3, 5), w(3), name="vector"),
        case("linear", f(0, 5), w(3, 5), w(3), name="empty"),
        case("matmul", f(2, 3, 4), f(2, 4, 5)),
        case("matmul", f(2, 1, 3, 4), f(6, 4, 5), name="broadcast"),
        case("conv", f(2, 3, 7, 6), w(4, 3, 3, 2), w(4), **conv),
        case(
            "conv",
            f(2, 4, 9, 9),
            w(6, 2, 3, 3),
            w(6),
            **conv | {"strides": (2, 1), "pads": (1, 2, 1, 2), "groups": 2},
            name="groups",
        ),
        case(
            "conv",
            f(2, 4, 9, 9),
            w(4, 1, 3, 3),
            None,
            **conv | {"strides": (2, 2), "pads": (0, 0, 1, 1), "groups": 4},
            name="depthwise-asymmetric",
        ),
        case(
            "conv",
            f(1, 2, 11, 9),
            w(3, 2, 3, 3),
            w(3),
            **conv | {"dilations": (2, 3), "pads": (2, 3, 2, 3)},
            name="dilated",
        ),
        case("conv", f(2, 4, 5, 5), w(8, 1, 3, 3), w(8), **conv | {"groups": 4}, name="depth-multiplier"),
        case("conv", f(2, 3, 9), w(4, 3, 3), w(4), strides=(2,), pads=(1, 0), dilations=(1,), name="1d"),
        case(
            "conv",
            f(1, 2, 4, 5, 4),
            w(3, 2, 2, 2, 2),
            w(3),
            strides=(1, 2, 1),
            pads=(1,) * 6,
            dilations=(1,) * 3,
            name="3d",
        ),
        case("conv", f(2, 3, 6, 6, declared=("b", 3, 6, 6)), w(4, 3, 1, 1), w(4), **conv, name="pointwise"),
        case("conv_transpose", f(2, 4, 5, 4), w(4, 3, 3, 3), w(3), **up),
        case(
            "conv_transpose",
            f(2, 4, 5, 4),
            w(4, 3, 3, 3),
            w(6),
            **up | {"strides": (2, 2), "pads": (1, 1, 1, 1), "output_padding": (1, 0), "groups": 2},
            name="groups",
        ),
        case(
            "conv_transpose",
            f(1, 2, 4, 4),
            w(2, 3, 3, 3),
            w(3),
            **up | {"strides": (2, 2), "pads": (0, 1, 1, 0), "dilations": (2, 1), "output_padding": (1, 1)},
            name="asymmetric",
        ),
        case(
            "conv_transpose",
            f(1, 2, 4),
            w(2, 3, 3),
            None,
            strides=(3,),
            pads=(0, 0),
            dilations=(1,),
            output_padding=(0,),
            name="1d",
        ),
    ]


def pool() -> list[OpCase]:
    two = {"kernel": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}
    cases = [
        case("max_pool", f(2, 3, 8, 7), **two),
        case("max_pool", f(2, 3, 8, 7), **two | {"ceil_mode": True, "pads": (0, 0, 0, 0)}, name="ceil"),
        case("max_pool", f(1, 2, 9, 9), **two | {"dilations": (2, 2)}, name="dilated"),
        case("max_pool", f(1, 2, 8, 8), **two | {"pads": (0, 0, 1, 1)}, name="asymmetric"),
        case(
            "max_pool",
            f(1, 2, 8, 8),
            **two | {"pads": (0, 0, 1, 1), "ceil_mode": True},
            name="asymmetric-ceil",
        ),
        case("max_pool", f(1, 2, 9), kernel=(2,), strides=(2,), pads=(0, 0), name="1d"),
        case("max_pool", f(1, 2, 4, 4, 4), kernel=(2,) * 3, strides=(2,) * 3, pads=(0,) * 6, name="3d"),
        case(
            "max_pool",
            f(1, 1, 5, 5),
            kernel=(2, 2),
            strides=(2, 2),
            pads=(1, 1, 1, 1),
            ceil_mode=True,
            name="ceil-pad",
        ),
    ]
    for include in (True, False):
        tag = "include" if include else "exclude"
        extra = {"count_include_pad": include}
        cases += [
            case("avg_pool", f(2, 3, 8, 7), **two, **extra, name=tag),
            case("avg_pool", f(2, 3, 8, 7), **two, **extra, ceil_mode=True, name=f"{tag}-ceil"),
            case(
                "avg_pool", f(2, 3, 8, 8), **two | {"pads": (0, 0, 1, 1)}, **extra, name=f"{tag}-asymmetric"
            ),
            case(
                "avg_pool",
                f(2, 3, 8, 8),
                **two | {"pads": (0, 1, 1, 1)},
                **extra,
                ceil_mode=True,
                name=f"{tag}-asymmetric-ceil",
            ),
        ]
    cases += [
        case("avg_pool", f(1, 2, 9), kernel=(2,), strides=(2,), pads=(0, 0), name="1d"),
        case("resize", f(1, 2, 3, 4), size=(6, 10)),
        case("resize", f(1, 2, 7, 5), size=(3, 2), name="nearest-down"),
        case("resize", f(1, 2, 7), size=(5,), name="nearest-1d"),
    ]
    for align in (False, True):
        tag = "-aligned" if align else ""
        cases += [
            case(
                "resize", f(1, 2, 5, 4), size=(9, 3), mode="linear", align_corners=align, name=f"linear{tag}"
            ),
            case("resize", f(1, 2, 5, 6), size=(9, 4), mode="cubic", align_corners=align, name=f"cubic{tag}"),
            case("resize", f(1, 2, 5), size=(8,), mode="linear", align_corners=align, name=f"linear-1d{tag}"),
            case(
                "resize",
                f(1, 1, 3, 4, 5),
                size=(5, 3, 5),
                mode="linear",
                align_corners=align,
                name=f"linear-3d{tag}",
            ),
            case("resize", f(1, 2, 5), size=(1,), mode="cubic", align_corners=align, name=f"cubic-1d{tag}"),
        ]
    return cases


def norm() -> list[OpCase]:
    stats = (w(3), w(3, low=0.5, high=2.0))
    qkv = (f(2, 4, 5, 6), f(2, 4, 7, 6), f(2, 4, 7, 3))
    tokens = tuple(f(2, 4, 3, 6, declared=("b", 4, "s", 6)) for _ in range(3))
    blind = np.ones((5, 7), bool)
    blind[2] = False
    return [
        case("layer_norm", f(2, 3, 8), w(8), w(8), eps=1e-5),
        case(
            "layer_norm", f(2, 3, 4, declared=("b", 3, 4)), w(3, 4), None, eps=1e-6, axes=2, name="two-axes"
        ),
        case("layer_norm", f(3, 4), None, None, eps=1e-5, name="plain"),
        case("rms_norm", f(2, 3, 8), w(8), eps=1e-6),
        case("rms_norm", f(2, 3, 8), None, eps=1e-5, axes=2, name="plain"),
        case("batch_norm", f(2, 3, 4, 5), *stats, w(3), w(3), eps=1e-5),
        case("batch_norm", f(4, 3), *stats, None, None, eps=1e-3, name="plain"),
        case("group_norm", f(2, 6, 4, 4), w(6), w(6), groups=3, eps=1e-5),
        case("group_norm", f(2, 4, 5), None, None, groups=1, eps=1e-5, name="plain"),
        case("softmax", f(2, 3, 4)),
        case("softmax", f(2, 3, 4, low=-80, high=80), axis=1, name="axis"),
        case("log_softmax", f(2, 3, 4), axis=-2),
        case("attention", *qkv),
        case("attention", *qkv, f(2, 1, 5, 7), scale=0.3, name="mask"),
        case("attention", *qkv, t(1, 1, 5, 7, values=blind), name="bool-mask"),
        case("attention", *tokens, causal=True, name="causal"),
        case("attention", f(2, 4, 5, 6), f(2, 2, 5, 6), f(2, 2, 5, 6), causal=True, name="grouped"),
        case(
            "attention", f(2, 4, 5, 6), f(2, 4, 5, 6), f(2, 4, 5, 6), f(5, 5), causal=True, name="causal-mask"
        ),
        case("attention", f(4, 5, 6), f(4, 5, 6), f(4, 5, 6), name="unbatched"),
        case("rotary", f(2, 3, 5, 8), f(5, 8), f(5, 8)),
        case("rotary", f(2, 3, 5, 8), f(2, 1, 5, 4), f(2, 1, 5, 4), name="partial"),
        case("rotary", f(2, 3, 5, 8), f(5, 6), f(5, 6), interleaved=True, name="interleaved"),
    ]
