"""Lanes to compare: those of the RTL, and others that share its tree, registers and latency.

Every candidate is a module `study`: products of 16 inputs, tree, and the addition into an
accumulator that comes in as `base` and leaves as `total`. What all lanes share (3a, sums of two
activations) is a module `front`; a sixteenth of it belongs to a lane.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bacmac.host.arith.array_codes import own_signs, relative_signs
from bacmac.overlays.estimate.activity import Words, words_of
from bacmac.overlays.estimate.yosys import rtl_sources

Array = npt.NDArray[np.int64]
INPUTS = 16
LATENCY = 3
DEPTH_BITS = 10  # of the number of products in a sum, 576 of them
RTL = rtl_sources()
TREE = {"bacmac_tree_level.sv": RTL["bacmac_tree_level.sv"]}


@dataclass(frozen=True, eq=False)
class Candidate:
    """A lane.

    Attributes:
        name: of the weight format and how it is multiplied.
        bits: stored, a weight.
        sources, parameters: of the module `study`.
        levels: (n, size) every combination of levels that `size` neighbouring weights can have.
        ports: words of the module's ports, but `base`, of activations and levels (cycles, 64, 16).
        front: text of the module `front`; "" where nothing but the activations is shared.
        accumulator: bits of `base`.
    """

    name: str
    bits: float
    sources: Mapping[str, str]
    levels: Array
    ports: Callable[[Array, Array], dict[str, Words]]
    accumulator: int
    parameters: Mapping[str, int] = field(default_factory=dict)
    front: str = ""

    def stimulus(self, activations: Array, levels: Array, base: Array) -> dict[str, Words]:
        """Words of every input port of `study`."""
        late = np.roll(base, LATENCY, axis=0)[..., None]
        return {**self.ports(activations, levels), "base": words_of(late, self.accumulator)}


def accumulate(bits: int, accumulator: int) -> str:
    """The last statement of a lane: what is added to the accumulator."""
    sign = f"{{{accumulator - bits}{{sum[{bits - 1}]}}}}"
    return (
        f"always_ff @(posedge clk) total <= base + ({{{sign}, sum}} ^ {{{accumulator}{{negate}}}})"
        f" + {accumulator}'(negate);\nendmodule\n"
    )


def mux4(zero: str, one: str, two: str, three: str, code: str) -> str:
    """A choice of four by two bits of a code."""
    return f"{code}[1] ? ({code}[0] ? {three} : {two}) : ({code}[0] ? {one} : {zero})"


# What all lanes share: every input's 3a.
TRIPLE = """module front (input wire logic clk, input wire logic [127:0] a, output logic [159:0] t);
for (genvar i = 0; i < 16; i++) always_ff @(posedge clk)
  t[i*10+:10] <= {2'b0, a[i*8+:8]} + {1'b0, a[i*8+:8], 1'b0};
endmodule
"""
DOUBLED, TWICE_DOUBLED, PLAIN = "{1'b0, a, 1'b0}", "{a, 2'b0}", "{2'b0, a}"
SHIFTS = mux4("10'd0", PLAIN, DOUBLED, TWICE_DOUBLED, "magnitude")
TRIPLES = mux4("10'd0", PLAIN, DOUBLED, "a3", "magnitude")


def scalar(
    name: str, product: int, codes: Mapping[int, int], *, text: str = "", bits: int = 0
) -> Candidate:
    """A lane of the RTL, whole, or with the text of its product term (and its bits) replaced."""
    magnitude_bits = max(codes.values()).bit_length()
    term = bits or (max(codes) * 255).bit_length()
    top = f"""module study #(parameter integer PRODUCT = 0, parameter integer MAG = 0) (
input wire logic clk, input wire logic [127:0] a, input wire logic [159:0] a3,
input wire logic [16*MAG-1:0] magnitude, input wire logic [15:0] sign,
input wire logic [{term + DEPTH_BITS}:0] base, output logic [{term + DEPTH_BITS}:0] total);
logic signed [{term + 4}:0] sum;
logic negate;
bacmac_lane #(.IN(16), .PRODUCT(PRODUCT), .MAG(MAG), .TERM({term})) lane (.clk(clk), .a(a),
  .a3(a3), .magnitude(magnitude), .sign(sign), .sum(sum), .negate(negate));
{accumulate(term + 5, term + DEPTH_BITS + 1)}"""
    replaced = {}
    takes_triple = product in (0, 4)
    if text:
        module = "bacmac_product_uniform4" if takes_triple else "bacmac_product_pot4e4"
        triple = "input wire logic [9:0] a3, " if takes_triple else ""
        replaced[f"{module}.sv"] = (
            f"module {module} (input wire logic [7:0] a, {triple}input wire logic "
            f"[{magnitude_bits - 1}:0] magnitude, output logic [{term - 1}:0] product);\n"
            f"{text}\nendmodule\n"
        )
    table = np.zeros(129, np.int64)
    for level, code in codes.items():
        table[level] = code

    def ports(a: Array, levels: Array) -> dict[str, Words]:
        return {
            "a": words_of(a, 8),
            "a3": words_of(3 * a, 10),
            "magnitude": words_of(table[np.abs(levels)], magnitude_bits),
            "sign": words_of(relative_signs(own_signs(levels)), 1),
        }

    return Candidate(
        name,
        magnitude_bits + 1,
        {**RTL, **replaced, "study.sv": top},
        np.array([[sign * level] for level in codes for sign in (1, -1)], np.int64),
        ports,
        term + DEPTH_BITS + 1,
        {"PRODUCT": product, "MAG": magnitude_bits},
        TRIPLE if takes_triple else "",
    )


def same(count: int) -> dict[int, int]:
    """Codes that are the levels themselves."""
    return {level: level for level in range(count)}


def block(name: str, size: int, fine: Sequence[int], shifts: Sequence[int]) -> Candidate:
    """Levels of two bits and a sign, times a power of two that `size` (2 or 4) weights share.

    The shared shift stands behind the first `size - 1` additions: one multiplexer for all of them.
    """
    top_shift, shift_bits = shifts[-1], (len(shifts) - 1).bit_length()
    count = INPUTS // size
    accumulator = 10 + top_shift + 11
    product = (TRIPLES if 3 in fine else SHIFTS).replace("magnitude", "m")
    product = (
        product.replace("a3", "t[i*10+:10]")
        .replace(" a", " a[i*8+:8]")
        .replace("{a,", "{a[i*8+:8],")
    )
    width = 12 if size == 2 else 13  # of a number that is shifted
    wide = width + top_shift

    def shifted(exponent: int) -> str:
        head = f"{{{top_shift - exponent}{{v[{width - 1}]}}}}, " if exponent < top_shift else ""
        return f"{{{head}v{f', {exponent}' + chr(39) + 'd0' if exponent else ''}}}"

    choice = shifted(shifts[0])
    for number, exponent in enumerate(shifts[1:], 1):
        choice = f"k == {number} ? {shifted(exponent)} : ({choice})"
    numbers = "r1" if size == 2 else "l2"
    shifter = f"""logic [{count * wide - 1}:0] shifted;
for (genvar i = 0; i < {count}; i++) begin : g_shift
  wire [{width - 1}:0] v = {numbers}[i*{width}+:{width}];
  wire [{shift_bits - 1}:0] k = c1[i*{shift_bits}+:{shift_bits}];
  assign shifted[i*{wide}+:{wide}] = {choice};
end
"""
    after = wide + 1 if size == 2 else wide  # of a number before level 3
    second = level(4, wide if size == 2 else 12, "shifted" if size == 2 else "r1", "s1[3:0]", "l2")
    third = level(2, after, "l2" if size == 2 else "shifted", "s1[5:4]", "l3")
    stage2 = shifter + second + third if size == 2 else second + shifter + third
    text = f"""module study (input wire logic clk, input wire logic [127:0] a,
input wire logic [159:0] t, input wire logic [31:0] magnitude,
input wire logic [{count * shift_bits - 1}:0] c, input wire logic [15:0] sign,
input wire logic [{accumulator - 1}:0] base, output logic [{accumulator - 1}:0] total);
logic [16*11-1:0] terms;
for (genvar i = 0; i < 16; i++) begin : g_product
  wire [1:0] m = magnitude[2*i+:2];
  assign terms[i*11+:11] = {{1'b0, {product}}};
end
{level(8, 11, "terms", "sign[7:0]", "l1")}logic [95:0] r1;
logic [7:0] s1;
logic [{count * shift_bits - 1}:0] c1;
always_ff @(posedge clk) begin r1 <= l1; s1 <= sign[15:8]; c1 <= c; end
{stage2}{ending(after + 1, accumulator)}"""
    base_levels = np.array(fine)
    choices = np.array(np.meshgrid(*[np.unique([*fine, *[-f for f in fine]])] * size))
    grid = choices.reshape(size, -1).T
    code_of = np.zeros(5, np.int64)
    code_of[base_levels] = np.arange(len(fine))

    def ports(a: Array, levels: Array) -> dict[str, Words]:
        magnitude = np.abs(levels).reshape(*levels.shape[:2], count, size)
        shift = np.full(magnitude.shape[:3], -1)
        for number, exponent in reversed(list(enumerate(shifts))):
            small, rest = magnitude >> exponent, magnitude % 2**exponent
            shift[(np.isin(small, base_levels) & (rest == 0)).all(-1)] = number
        small = magnitude >> np.array(shifts)[shift][..., None]
        return {
            "a": words_of(a, 8),
            "t": words_of(3 * a, 10),
            "magnitude": words_of(code_of[small].reshape(levels.shape), 2),
            "c": words_of(shift, shift_bits),
            "sign": words_of(relative_signs(own_signs(levels)), 1),
        }

    return Candidate(
        name,
        3 + shift_bits / size,
        {**TREE, "study.sv": text},
        np.unique(np.concatenate([grid << exponent for exponent in shifts]), axis=0),
        ports,
        accumulator,
        front=TRIPLE if 3 in fine else "",
    )


def level(pairs: int, width: int, x: str, subtract: str, y: str) -> str:
    """A level of the tree, and the declaration of what comes out."""
    return (
        f"logic [{pairs * (width + 1) - 1}:0] {y};\nbacmac_tree_level #(.PAIRS({pairs}), "
        f".WIDTH({width})) at_{y} (.x({x}), .subtract({subtract}), .y({y}));\n"
    )


def ending(width: int, accumulator: int) -> str:
    """Register 2, level 4, register 3 and the accumulator; `width` is that of a number in l3."""
    return f"""logic [{2 * width - 1}:0] r2;
logic [1:0] s2;
always_ff @(posedge clk) begin r2 <= l3; s2 <= s1[7:6]; end
{level(1, width, "r2", "s2[0]", "l4")}logic [{width}:0] sum;
logic negate;
always_ff @(posedge clk) begin sum <= l4; negate <= s2[1]; end
{accumulate(width + 1, accumulator)}"""


def pair(name: str, terms: Sequence[tuple[int, int]], shifts: Sequence[int]) -> Candidate:
    """Two weights are one of `terms`, (p, q) for p * a0 + q * a1, times a power of two and a sign.

    The terms are made once for all lanes, so a lane chooses one and shifts it: the first level of
    the tree is gone.
    """
    select, n_shift = (len(terms) - 1).bit_length(), len(shifts).bit_length()
    signed = [min(term) < 0 for term in terms]
    widths = [
        (255 * max(sum(max(x, 0) for x in t), -sum(min(x, 0) for x in t))).bit_length() + s
        for t, s in zip(terms, signed, strict=True)
    ]
    wide = max(w + (not s) for w, s in zip(widths, signed, strict=True))
    starts, total = np.cumsum([0, *widths]).tolist()[:-1], sum(widths)
    out, accumulator = wide + shifts[-1], 10 + shifts[-1] + 12

    def extended(number: int) -> str:
        start, width = starts[number], widths[number]
        top = f"t[i*{total}+{start + width - 1}]" if signed[number] else "1'b0"
        head = f"{{{wide - width}{{{top}}}}}, " if wide > width else ""
        return f"{{{head}t[i*{total}+{start}+:{width}]}}"

    def chosen(first: int, count: int) -> str:
        if count == 1:
            return extended(first)
        half = count // 2
        bit = f"k[i*{select}+{half.bit_length() - 1}]"
        return f"({bit} ? {chosen(first + half, half)} : {chosen(first, half)})"

    choice = f"{out}'d0"
    for number, exponent in enumerate(shifts, 1):
        head = f"{{{shifts[-1] - exponent}{{f[{wide - 1}]}}}}, " if exponent < shifts[-1] else ""
        tail = f", {exponent}'d0" if exponent else ""
        choice = f"e == {number} ? {{{head}f{tail}}} : ({choice})"
    text = f"""module study (input wire logic clk, input wire logic [{8 * total - 1}:0] t,
input wire logic [{8 * select - 1}:0] k, input wire logic [{8 * n_shift - 1}:0] c,
input wire logic [7:0] sign, input wire logic [{accumulator - 1}:0] base,
output logic [{accumulator - 1}:0] total);
logic [{8 * out - 1}:0] v, r1;
logic [7:0] s1;
for (genvar i = 0; i < 8; i++) begin : g_pair
  wire [{wide - 1}:0] f = {chosen(0, len(terms))};
  wire [{n_shift - 1}:0] e = c[i*{n_shift}+:{n_shift}];
  assign v[i*{out}+:{out}] = {choice};
end
always_ff @(posedge clk) begin r1 <= v; s1 <= sign; end
{level(4, out, "r1", "s1[3:0]", "l2")}{level(2, out + 1, "l2", "s1[5:4]", "l3")}"""
    text += ending(out + 2, accumulator)
    front = f"""module front (input wire logic clk, input wire logic [127:0] a,
output logic [{8 * total - 1}:0] t);
for (genvar i = 0; i < 8; i++) begin : g_pair
  wire signed [8:0] p = {{1'b0, a[i*16+:8]}}, q = {{1'b0, a[i*16+8+:8]}};
  always_ff @(posedge clk) begin
"""
    for (p, q), start, width in zip(terms, starts, widths, strict=True):
        front += f"    t[i*{total}+{start}+:{width}] <= {width}'({p} * p + {q} * q);\n"
    front += "  end\nend\nendmodule\n"
    codes = {(0, 0): (0, 0, 0)}
    for number, exponent in enumerate(shifts, 1):
        for index, (p, q) in enumerate(terms):
            for negative, factor in ((0, 2**exponent), (1, -(2**exponent))):
                codes.setdefault((p * factor, q * factor), (index, number, negative))

    def ports(a: Array, levels: Array) -> dict[str, Words]:
        both, x = (v.reshape(*v.shape[:2], 8, 2) for v in (levels, a))
        found, where = np.unique(both.reshape(-1, 2), axis=0, return_inverse=True)
        coded = np.array([codes[p, q] for p, q in found.tolist()])[where.reshape(-1)]
        index, shift, negative = np.moveaxis(coded.reshape(*both.shape[:3], 3), -1, 0)
        made = [
            words_of((p * x[..., 0] + q * x[..., 1]) & ((1 << w) - 1), w).reshape(len(a), 8, w)
            for (p, q), w in zip(terms, widths, strict=True)
        ]
        signs = own_signs(np.where(shift == 0, 0, 1 - 2 * negative))
        return {
            "t": np.concatenate(made, axis=2).reshape(len(a), -1),
            "k": words_of(index, select),
            "c": words_of(shift, n_shift),
            "sign": words_of(relative_signs(signs), 1),
        }

    return Candidate(
        name,
        (select + n_shift + 1) / 2,
        {**TREE, "study.sv": text},
        np.array(list(codes), np.int64),
        ports,
        accumulator,
        front=front,
    )


def bit_planes(name: str) -> Candidate:
    """Uniform 4-bit weights two at a time, by bit planes: {0, a0, a1, a0 + a1} for each bit.

    Distributed arithmetic (White, IEEE ASSP Magazine 1989) on two's complement weights; the sum of
    two activations is made once for all lanes.
    """
    planes = "".join(
        f"  wire [8:0] m{bit} = w[8*i+{bit + 4}] ? (w[8*i+{bit}] ? t[9*i+:9] : q)"
        f" : (w[8*i+{bit}] ? p : 9'd0);\n"
        for bit in range(4)
    )
    text = f"""module study (input wire logic clk, input wire logic [127:0] a,
input wire logic [71:0] t, input wire logic [63:0] w, input wire logic [21:0] base,
output logic [21:0] total);
logic [103:0] v, r1;
wire [7:0] s1 = 8'd0;
for (genvar i = 0; i < 8; i++) begin : g_pair
  wire [8:0] p = {{1'b0, a[16*i+:8]}}, q = {{1'b0, a[16*i+8+:8]}};
{planes}  wire [9:0] x1 = {{2'd0, m0[8:1]}} + {{1'b0, m1}};
  wire [9:0] x2 = {{1'b0, x1[9:1]}} + {{1'b0, m2}};
  wire [10:0] x3 = {{2'b0, x2[9:1]}} - {{2'b0, m3}};
  assign v[13*i+:13] = {{x3[9:0], x2[0], x1[0], m0[0]}};
end
always_ff @(posedge clk) r1 <= v;
{level(4, 13, "r1", "s1[3:0]", "l2")}{level(2, 14, "l2", "s1[5:4]", "l3")}{ending(15, 22)}"""
    front = """module front (input wire logic clk, input wire logic [127:0] a,
output logic [71:0] t);
for (genvar i = 0; i < 8; i++)
  always_ff @(posedge clk) t[9*i+:9] <= {1'b0, a[16*i+:8]} + {1'b0, a[16*i+8+:8]};
endmodule
"""

    def ports(a: Array, levels: Array) -> dict[str, Words]:
        return {
            "a": words_of(a, 8),
            "t": words_of(a.reshape(*a.shape[:2], 8, 2).sum(-1), 9),
            "w": words_of(levels & 15, 4),
        }

    grid = np.arange(-7, 8)[:, None]
    return Candidate(name, 4, {**TREE, "study.sv": text}, grid, ports, 22, front=front)


def twos_complement(name: str, bits: int) -> Candidate:
    """Two's complement weights, `*`, and a tree that only adds: what one writes first."""
    term = bits + 8
    text = f"""module study (input wire logic clk, input wire logic [127:0] a,
input wire logic [{16 * bits - 1}:0] w, input wire logic [{term + 9}:0] base,
output logic [{term + 9}:0] total);
logic [{16 * term - 1}:0] terms;
for (genvar i = 0; i < 16; i++) begin : g_product
  wire signed [{bits - 1}:0] weight = w[{bits}*i+:{bits}];
  wire signed [8:0] x = {{1'b0, a[8*i+:8]}};
  assign terms[{term}*i+:{term}] = {term}'(weight * x);
end
{level(8, term, "terms", "8'd0", "l1")}logic [{8 * (term + 1) - 1}:0] r1;
wire [7:0] s1 = 8'd0;
always_ff @(posedge clk) r1 <= l1;
{level(4, term + 1, "r1", "s1[3:0]", "l2")}{level(2, term + 2, "l2", "s1[5:4]", "l3")}"""
    text += ending(term + 3, term + 10)

    def ports(a: Array, levels: Array) -> dict[str, Words]:
        return {"a": words_of(a, 8), "w": words_of(levels & ((1 << bits) - 1), bits)}

    top = (1 << (bits - 1)) - 1
    grid = np.arange(-top, top + 1)[:, None]
    return Candidate(name, bits, {**TREE, "study.sv": text}, grid, ports, term + 10)


def _product(second: str, *, triple: bool = False, code: str = "magnitude") -> str:
    first = (TRIPLES if triple else SHIFTS).replace("magnitude", code)
    return f"logic [9:0] f;\nassign f = {first};\nassign product = {second};"


SUMS = ((1, 0), (0, 1), (1, 1), (1, -1))
HALVES = ((2, 1), (1, 2), (2, -1), (1, -2))
THIRDS = ((3, 1), (1, 3), (3, -1), (1, -3), (3, 2), (2, 3), (3, -2), (2, -3))
BASELINE = "mac uniform-4 shared 3a"
SHIPPED = (
    scalar(BASELINE, 0, same(8)),
    scalar("mac uniform-4 *", 1, same(8)),
    scalar("bac pot-4e4", 2, {0: 0, 1: 1, 2: 2, 4: 3, 8: 6, 16: 7}),
    scalar("bac pot-4", 3, {0: 0, **{1 << e: e + 1 for e in range(7)}}),
    scalar("mac uniform-8 shared 3a", 4, same(128)),
)
THREE_BITS = (
    scalar("bac pot-3", 2, {0: 0, 1: 1, 2: 2, 4: 3}, text=f"assign product = {SHIFTS};"),
    scalar("mac uniform-3 shared 3a", 0, same(4), text=f"assign product = {TRIPLES};"),
)
OTHERS = (
    twos_complement("mac uniform-4 *, two's complement", 4),
    twos_complement("mac uniform-8 *, two's complement", 8),
    bit_planes("mac uniform-4 bit planes of pairs"),
    scalar(
        "bac pot-4, exponents 0..3",
        2,
        {0: 0, 1: 1, 2: 2, 4: 3, 8: 7},
        text=_product("magnitude[2] ? {f, 1'b0} : {1'b0, f}"),
    ),
    scalar(
        "shifted 3a: 0 1 2 3 4 6",
        0,
        {0: 0, 1: 1, 2: 2, 3: 3, 4: 6, 6: 7},
        text=_product("magnitude[2] ? {f, 1'b0} : {1'b0, f}", triple=True),
    ),
    scalar(
        "shifted 3a: E2M1, 0 1 2 3 4 6 8 12",
        0,
        {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 6: 5, 8: 6, 12: 7},
        text="wire [1:0] k = {magnitude[2] | magnitude[1], magnitude[0]};\n"
        + _product(
            "magnitude[2] ? (magnitude[1] ? {f, 2'b0} : {1'b0, f, 1'b0}) : {2'b0, f}",
            triple=True,
            code="k",
        ),
    ),
    block("pot-3, a bit of exponent for 4", 4, (0, 1, 2, 4), (0, 1)),
    block("pot-3, a bit of exponent for 2", 2, (0, 1, 2, 4), (0, 1)),
    block("uniform-3, a bit of exponent for 4", 4, (0, 1, 2, 3), (0, 1)),
    block("uniform-3, a bit of exponent for 2", 2, (0, 1, 2, 3), (0, 1)),
    pair("pairs of 4 sums, exponents 0..2", SUMS, (0, 1, 2)),
    pair("pairs of 8 sums, exponents 0..2", SUMS + HALVES, (0, 1, 2)),
    pair("pairs of 16 sums, exponents 0..2", SUMS + HALVES + THIRDS, (0, 1, 2)),
)
SCHEMES = {
    "uniform-4": SHIPPED[:2],
    "pot-4e4": SHIPPED[2:3],
    "pot-4": SHIPPED[3:4],
    "uniform-8": SHIPPED[4:],
    "pot-3": THREE_BITS[:1],
    "uniform-3": THREE_BITS[1:],
}
"""The candidates that execute a scheme of the quantizer."""
