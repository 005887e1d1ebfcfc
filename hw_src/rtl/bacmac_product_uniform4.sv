// Product of a 4-bit uniform weight's magnitude and an activation: 0..7 times a.
//
// The multiple 3a is made once for all lanes and comes in beside a, so that a product is one
// 4-to-1 multiplexer {0, a, 2a, 3a} and one addition of {0, 4a}: radix-4 digits with a shared
// hard multiple, as in a radix-8 multiplier without recoding (Ercegovac and Lang, "Digital
// Arithmetic", 2004, section 4.5). A zero weight holds both still.
//
// Latency: none. Depth: one LUT, one carry chain of 11 bits.
module bacmac_product_uniform4 (
    input  wire logic [7:0]  a,          // activation, unsigned
    input  wire logic [9:0]  a3,         // 3 * a
    input  wire logic [2:0]  magnitude,  // code: the level itself, 0..7
    output      logic [10:0] product     // level * a, 0..1785
);
  logic [9:0] low;  // the two low bits of the level, times a

  assign low = magnitude[1] ? (magnitude[0] ? a3 : {1'b0, a, 1'b0})
                            : (magnitude[0] ? {2'b00, a} : 10'd0);
  assign product = {1'b0, low} + (magnitude[2] ? {1'b0, a, 2'b00} : 11'd0);
endmodule
