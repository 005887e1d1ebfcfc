// Product of an 8-bit uniform weight's magnitude and an activation: 0..127 times a.
//
// Radix-4 digits with the shared multiple 3a (see bacmac_product_uniform4): three digits and the
// top bit, two rows at a time, then their sum. A zero weight holds everything still.
//
// Latency: none. Depth: one LUT, two carry chains of up to 13 bits.
module bacmac_product_uniform8 (
    input  wire logic [7:0]  a,          // activation, unsigned
    input  wire logic [9:0]  a3,         // 3 * a
    input  wire logic [6:0]  magnitude,  // code: the level itself, 0..127
    output      logic [14:0] product     // level * a, 0..32385
);
  logic [9:0] digit0, digit1, digit2;
  logic [11:0] low;   // 0..15 times a
  logic [10:0] high;  // 0..7 times a

  assign digit0 = magnitude[1] ? (magnitude[0] ? a3 : {1'b0, a, 1'b0})
                               : (magnitude[0] ? {2'b00, a} : 10'd0);
  assign digit1 = magnitude[3] ? (magnitude[2] ? a3 : {1'b0, a, 1'b0})
                               : (magnitude[2] ? {2'b00, a} : 10'd0);
  assign digit2 = magnitude[5] ? (magnitude[4] ? a3 : {1'b0, a, 1'b0})
                               : (magnitude[4] ? {2'b00, a} : 10'd0);
  assign low = {2'b00, digit0} + {digit1, 2'b00};
  assign high = {1'b0, digit2} + (magnitude[6] ? {1'b0, a, 2'b00} : 11'd0);
  assign product = {3'b000, low} + {high, 4'd0};
endmodule
