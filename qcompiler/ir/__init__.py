"""The graph of qcompiler: small and typed.

Grammar (every name is a class here; `*` repeats, `?` is optional):

    Graph       = name level:Level  input:Value*  node:Node*  (output_name output:Value)*
    Node        = op:Op  operand:Value?*  attr*  output:Value*  origin:Origin      -- replaced, never mutated
    Value       = dtype:DType  shape:Dim*  quant:QuantParams?  data:array?         -- identity is the object
    QuantParams = dtype  scale:float32[]  zero_point:int32[]  axis?  group_size?  digits?   -- real = scale (q - zero_point)
    Dim         = int | expression over symbols                                     -- `batch`, `2*seq + 1`
    attr        = name: int | float | bool | str | DType | Dim | QuantParams | tuple of int, float or Dim
    Origin      = module source pass*                                               -- where in the user's model
    Level       = FLOAT | QUANTIZED | INTEGER | LEGAL                               -- verify.py says what each allows
    Op          = row of the table in `ops/`: operands, attributes, shape rule, NumPy reference body, category

A constant is a Value with `data`; tied weights are one Value. Uses are derived (`Graph.uses`, `Graph.producer`).
Rounding is an attribute of quantize and requantize nodes only. State is paired inputs and outputs.
New graphs come from `GraphBuilder`, changed ones from `rewrite`; analyses live in dictionaries keyed by Value.
"""

from .builder import GraphBuilder, Rewriter, constant, drop_dead_nodes, rewrite
from .dims import Dim, Shape
from .dtypes import DType
from .graph import Graph, Node, Origin, Value, make_node
from .levels import Level
from .ops import OPS, Op, get_op
from .quant import QuantParams
from .text import parse_graph, print_graph
from .verify import verify_graph

__all__ = [
    "OPS",
    "DType",
    "Dim",
    "Graph",
    "GraphBuilder",
    "Level",
    "Node",
    "Op",
    "Origin",
    "QuantParams",
    "Rewriter",
    "Shape",
    "Value",
    "constant",
    "drop_dead_nodes",
    "get_op",
    "make_node",
    "parse_graph",
    "print_graph",
    "rewrite",
    "verify_graph",
]
