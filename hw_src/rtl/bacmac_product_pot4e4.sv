// Product of a power-of-two weight's magnitude with exponents 0..4 and an activation: one shift.
//
// Two multiplexer levels: {0, a, 2a, 4a}, then times 1 or 4. The zero is taken out in the first
// level, so a zero weight holds every bit of its product still whatever the activation does
// (operand isolation).
//
// Latency: none. Depth: two LUTs.
module bacmac_product_pot4e4 (
    input  wire logic [7:0]  a,          // activation, unsigned
    input  wire logic [2:0]  magnitude,  // code: {times 4, {0, 1, 2, 4}}: 1 2 3 6 7 are levels 1 2 4 8 16
    output      logic [11:0] product     // level * a, 0..4080
);
  logic [9:0] fine;

  assign fine = magnitude[1] ? (magnitude[0] ? {a, 2'b00} : {1'b0, a, 1'b0})
                             : (magnitude[0] ? {2'b00, a} : 10'd0);
  assign product = magnitude[2] ? {fine, 2'b00} : {2'b00, fine};
endmodule
