// One output lane: IN products of activations and weights, and the tree that adds them.
//
// PRODUCT chooses the product term and nothing else; the tree, its registers and its latency are
// the same for BAC and MAC. Magnitudes are unsigned codes; signs come as the relative signs of
// docs/accelerator.md ("Weights"): the first IN/2 bits steer level 1, the next IN/4 level 2, and
// so on; the last bit is the sign of weight 0 and so of the whole sum, handed on as `negate`.
//
// Latency: 3 cycles for every PRODUCT and IN (registers after product and level 1, after level 3
// (IN = 8: 2), after the rest). Throughput: one dot product a cycle; activations and weights may
// both change in every cycle. Never stalls. There is no reset: what comes out during the first 3
// cycles is not defined.
module bacmac_lane #(
    parameter integer IN = 16,      // inputs: 8, 16 or 32
    parameter integer PRODUCT = 2,  // 0 uniform-4 with shared 3a, 1 uniform-4 by `*`, 2 pot-4e4,
                                    // 3 pot-4 (exponents 0..6), 4 uniform-8
    parameter integer MAG = PRODUCT == 4 ? 7 : 3,  // bits of a magnitude code
    parameter integer TERM = PRODUCT == 4 ? 15 : PRODUCT == 3 ? 14 : PRODUCT == 2 ? 12 : 11,
                                    // bits of a product, unsigned
    parameter integer SUM = TERM + $clog2(IN) + 1  // bits of the sum, two's complement
) (
    input  wire logic               clk,        // rising edge
    input  wire logic [IN*8-1:0]    a,          // activations, unsigned, input 0 lowest
    input  wire logic [IN*10-1:0]   a3,         // 3 * a; not read where PRODUCT is 1, 2 or 3
    input  wire logic [IN*MAG-1:0]  magnitude,  // codes (host/arith/array_codes.py)
    input  wire logic [IN-1:0]      sign,       // relative signs
    output      logic signed [SUM-1:0] sum,     // two's complement; of the sign of weight 0
    output      logic               negate      // sign of weight 0: the dot product is -sum
);
  localparam integer LEVELS = $clog2(IN);
  localparam integer MIDDLE = LEVELS > 3 ? 2 : 1;        // levels between registers 1 and 2
  localparam integer LAST = LEVELS - 1 - MIDDLE;         // levels between registers 2 and 3: 1 or 2
  localparam integer MIDDLE_SIGNS = MIDDLE == 2 ? IN / 4 + IN / 8 : IN / 4;
  localparam integer LAST_SIGNS = IN / 2 - 1 - MIDDLE_SIGNS;
  localparam integer NUMBER1 = TERM + 2;                 // bits of a number after level 1
  localparam integer NUMBER2 = NUMBER1 + MIDDLE;         // in register 2
  localparam integer COUNT1 = IN / 2;                    // numbers in register 1
  localparam integer COUNT2 = COUNT1 >> MIDDLE;          // in register 2

  // Products, with a sign bit of 0 in front.
  logic [IN*(TERM+1)-1:0] terms;
  for (genvar i = 0; i < IN; i++) begin : g_product
    if (PRODUCT == 0) begin : g_kind
      bacmac_product_uniform4 term (
          .a(a[i*8+:8]), .a3(a3[i*10+:10]), .magnitude(magnitude[i*MAG+:MAG]),
          .product(terms[i*(TERM+1)+:TERM]));
    end else if (PRODUCT == 1) begin : g_kind
      bacmac_product_uniform4_star term (
          .a(a[i*8+:8]), .magnitude(magnitude[i*MAG+:MAG]), .product(terms[i*(TERM+1)+:TERM]));
    end else if (PRODUCT == 2) begin : g_kind
      bacmac_product_pot4e4 term (
          .a(a[i*8+:8]), .magnitude(magnitude[i*MAG+:MAG]), .product(terms[i*(TERM+1)+:TERM]));
    end else if (PRODUCT == 3) begin : g_kind
      bacmac_product_pot4 term (
          .a(a[i*8+:8]), .magnitude(magnitude[i*MAG+:MAG]), .product(terms[i*(TERM+1)+:TERM]));
    end else begin : g_kind
      bacmac_product_uniform8 term (
          .a(a[i*8+:8]), .a3(a3[i*10+:10]), .magnitude(magnitude[i*MAG+:MAG]),
          .product(terms[i*(TERM+1)+:TERM]));
    end
    if (PRODUCT >= 1 && PRODUCT <= 3) begin : g_no_a3
      wire unused = &{1'b0, a3[i*10+:10]};
    end
    assign terms[i*(TERM+1)+TERM] = 1'b0;
  end

  // Level 1, register 1. Signs of later levels wait beside the numbers that they steer.
  logic [COUNT1*NUMBER1-1:0] level1, numbers1;
  logic [MIDDLE_SIGNS+LAST_SIGNS:0] signs1;
  bacmac_tree_level #(.PAIRS(IN / 2), .WIDTH(TERM + 1)) first (
      .x(terms), .subtract(sign[IN/2-1:0]), .y(level1));
  always_ff @(posedge clk) begin
    numbers1 <= level1;
    signs1 <= sign[IN-1:IN/2];
  end

  // Levels 2 and 3 (IN = 8: 2), register 2.
  logic [COUNT2*NUMBER2-1:0] middle, numbers2;
  logic [LAST_SIGNS:0] signs2;
  if (MIDDLE == 2) begin : g_middle
    logic [IN/4*(NUMBER1+1)-1:0] level2;
    bacmac_tree_level #(.PAIRS(IN / 4), .WIDTH(NUMBER1)) second (
        .x(numbers1), .subtract(signs1[IN/4-1:0]), .y(level2));
    bacmac_tree_level #(.PAIRS(IN / 8), .WIDTH(NUMBER1 + 1)) third (
        .x(level2), .subtract(signs1[IN/4+:IN/8]), .y(middle));
  end else begin : g_middle
    bacmac_tree_level #(.PAIRS(IN / 4), .WIDTH(NUMBER1)) second (
        .x(numbers1), .subtract(signs1[IN/4-1:0]), .y(middle));
  end
  always_ff @(posedge clk) begin
    numbers2 <= middle;
    signs2 <= signs1[MIDDLE_SIGNS+:LAST_SIGNS+1];
  end

  // The rest, register 3.
  logic [SUM-1:0] total;
  if (LAST == 2) begin : g_last
    logic [2*(NUMBER2+1)-1:0] level4;
    bacmac_tree_level #(.PAIRS(2), .WIDTH(NUMBER2)) fourth (
        .x(numbers2), .subtract(signs2[1:0]), .y(level4));
    bacmac_tree_level #(.PAIRS(1), .WIDTH(NUMBER2 + 1)) fifth (
        .x(level4), .subtract(signs2[2]), .y(total));
  end else begin : g_last
    bacmac_tree_level #(.PAIRS(1), .WIDTH(NUMBER2)) fourth (
        .x(numbers2), .subtract(signs2[0]), .y(total));
  end
  always_ff @(posedge clk) begin
    sum <= total;
    negate <= signs2[LAST_SIGNS];
  end
endmodule
