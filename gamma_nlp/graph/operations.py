"""What PyTorch's operations do to the signal, by their names.

Names are those of the dispatcher without namespace, overload and trailing underscore: ``add``
stands for ``aten::add.Tensor`` and ``aten::add_.Tensor`` alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Move or cast values; with one activation and no parameter they need no node.
MOVES = _names("""
    view _unsafe_view reshape _reshape_alias expand permute transpose t unsqueeze squeeze slice
    select split split_with_sizes chunk unbind narrow clone contiguous _to_copy to detach alias
    lift lift_fresh as_strided repeat flatten dropout native_dropout view_as_real view_as_complex
    _conj unfold roll flip constant_pad_nd real imag movedim
""")

# Leave every value where it is.
CASTS = _names("""
    clone contiguous _to_copy detach alias lift lift_fresh to dropout native_dropout
""")

# Contract their operands with each other.
CONTRACTIONS = _names("""
    mm addmm bmm baddbmm addbmm mv addmv addr dot vdot inner linear matmul einsum tensordot
    convolution _convolution convolution_overrideable mkldnn_convolution cudnn_convolution conv_tbc
    conv_depthwise3d _slow_conv2d_forward _conv_depthwise2d _trilinear bilinear _grouped_mm
    _scaled_mm _int_mm _weight_int8pack_mm _weight_int4pack_mm _weight_int4pack_mm_for_cpu
    _sparse_addmm mkldnn_rnn_layer lstm gru rnn_tanh rnn_relu
""")
# Contract the signal with two matrices, whose biases come next and the states last.
RECURRENT = _names("mkldnn_rnn_layer")
BIAS_FIRST = _names("addmm baddbmm addbmm addmv addr _sparse_addmm")

# Parts of the names of kernels that compute a whole attention from query, key and value.
ATTENTION_WORDS = ("scaled_dot_product", "flash_attention", "flash_attn", "flex_attention")


def is_attention(name: str) -> bool:
    """Return whether a kernel of this name computes a whole attention."""
    return any(word in name for word in ATTENTION_WORDS)


# Linear in the signal.
LINEAR = MOVES | _names("""
    add sub rsub mul div neg sum mean cumsum cat stack index gather index_select embedding
    masked_fill where index_put scatter masked_scatter copy slice_scatter select_scatter
    avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool2d _adaptive_avg_pool2d
    _adaptive_avg_pool3d upsample_nearest1d upsample_nearest2d upsample_bilinear2d tril triu
    repeat_interleave _fft_r2c _fft_c2c _fft_c2r diff reflection_pad1d addcmul
""")

# Add one operand to another, to all of it or to what an index chooses.
SUMS = _names("""
    add sub rsub index_add scatter_add index_put_add scatter_reduce_add index_reduce_add
""")


def precise(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return the name of an operation with what an argument makes of it.

    ``index_put`` replaces or adds; ``scatter_reduce`` adds, averages or takes the largest.
    """
    if name in ("index_put", "_index_put_impl"):
        return "index_put_add" if (*args[3:4], kwargs.get("accumulate", False))[0] else "index_put"
    if name in ("scatter", "scatter_reduce", "index_reduce"):
        how = (*args[4:5], kwargs.get("reduce"))[0]
        return f"{name.removesuffix('_reduce')}_reduce_add" if how in _ADDS else name
    return name


_ADDS = ("sum", "add", "mean")

# Bounded, pointwise, odd: between a learned factor before and a learned factor after them they
# stand for a norm (DyT, Derf).
SQUASHES = _names("tanh erf atan asinh hardtanh clamp")

# Put other values in some places of the signal.
FILLS = _names("""
    where masked_scatter index_put scatter copy index_copy slice_scatter select_scatter
""")

PRODUCTS = _names("mul div")

# Leave a value made of parameters alone their own, up to factors, masks and rounding: whatever else
# there is bends it.
UNBENT = LINEAR | _names("""
    round floor ceil trunc sign sgn clamp clamp_min clamp_max amax amin var std complex where
    fake_quantize_per_tensor_affine fake_quantize_per_channel_affine _fake_quantize_learnable
    upsample_bicubic2d upsample_linear1d upsample_trilinear3d _upsample_bilinear2d_aa
    _upsample_bicubic2d_aa dequantize bitwise_and bitwise_or bitwise_right_shift
    bitwise_left_shift lerp block_diag diag_embed diagonal
    index_fill masked_select
""")

LOOKUPS = _names("embedding embedding_bag _embedding_bag _embedding_bag_forward_only")
INDEXING = _names("index index_select gather take_along_dim")

# Read their first operand at positions that the second holds.
SAMPLERS = _names("grid_sampler grid_sampler_2d grid_sampler_3d cudnn_grid_sampler roi_align")

# A norm written out divides a signal by a root of a reduction of that signal:
#
#     x ──┬────────────────────────────────────────────▶ x * r
#         └─▶ pow ───────▶ mean ───────▶ + eps ──▶ rsqrt ──┘ r
#             POINTWISE    REDUCTIONS    STATISTIC, with one of the ROOTS
#
# From the divisor back to the reduction there are only STATISTIC operations, from the reduction
# back to the signal only POINTWISE ones. A causal norm sums what came before: TOTALS.
REDUCTIONS = _names("mean sum var std var_mean std_mean linalg_vector_norm norm")
TOTALS = REDUCTIONS | {"cumsum"}
ROOTS = _names("rsqrt sqrt pow std std_mean linalg_vector_norm norm")
STATISTIC = _names("rsqrt sqrt pow reciprocal add sub mul div clamp clamp_min maximum abs")
POINTWISE = _names("pow mul sub add abs square div real imag neg")

# Fused norms, by a part of their names. A parameter that is the input of one of NORMALISE_TOKENS is
# used as tokens (weight standardisation normalises a matrix too, with other operations).
NORM_KINDS = {
    "batch": "batch_norm",
    "group": "group_norm",
    "rms": "rms_norm",
    "layer": "layer_norm",
}
NO_NORM = _names("linalg_vector_norm norm renorm")
NORMALISE_TOKENS = _names("native_layer_norm _fused_rms_norm")


def is_norm(name: str) -> bool:
    """Return whether an operation of this name normalises its first operand."""
    return "norm" in name and name not in NO_NORM and "weight_norm" not in name


# Take the shape of their operand and none of its values.
CONSTANTS = _names("""
    zeros_like ones_like full_like rand_like randn_like randint_like new_zeros new_ones new_full
""")
# Allocate memory without a value.
FRESH = _names("empty empty_like empty_strided new_empty new_empty_strided")
