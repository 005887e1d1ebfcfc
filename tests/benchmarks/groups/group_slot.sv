// One of 256 slots of the dataflow in which a weight serves a square of pixels: the same product
// term as the array's, no tree, an accumulator of its own. Latency 1 cycle.
module group_slot #(
    parameter integer SUM = 24  // bits of the accumulator
) (
    input  wire                  clk,
    input  wire [7:0]            a,          // activation of the slot's pixel, unsigned
    input  wire [2:0]            magnitude,  // code of the weight, the same for all slots
    input  wire                  negate,     // sign of the weight, the same for all slots
    input  wire                  first,      // first weight of an output channel
    output reg  signed [SUM-1:0] sum
);
  wire [11:0] product;
  bacmac_product_pot4e4 term (.a(a), .magnitude(magnitude), .product(product));
  wire signed [SUM-1:0] before = first ? {SUM{1'b0}} : sum;
  wire signed [SUM-1:0] operand = $signed({{(SUM - 12) {1'b0}}, product});
  always_ff @(posedge clk) sum <= negate ? before - operand : before + operand;
endmodule
