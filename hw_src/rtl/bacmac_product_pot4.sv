// Product of a power-of-two weight's magnitude with exponents 0..6 and an activation: one shift.
//
// Two multiplexer levels: {0, a, 2a, 4a}, then times 1, 8 or 64. Each level is a function of three
// data bits and the three code bits, one 6-input LUT a bit, so nothing has to be decoded. The zero
// is taken out in the first level, so a zero weight holds every bit of its product still whatever
// the activation does (operand isolation).
//
// Latency: none. Depth: two LUTs.
module bacmac_product_pot4 (
    input  wire logic [7:0]  a,          // activation, unsigned
    input  wire logic [2:0]  magnitude,  // code: 0 is level 0, otherwise exponent + 1
    output      logic [13:0] product     // level * a, 0..16320
);
  logic [9:0] fine;
  logic times1, times2, times4;

  assign times1 = magnitude == 3'd1 || magnitude == 3'd4 || magnitude == 3'd7;
  assign times2 = magnitude == 3'd2 || magnitude == 3'd5;
  assign times4 = magnitude == 3'd3 || magnitude == 3'd6;
  assign fine = times4 ? {a, 2'b00} : times2 ? {1'b0, a, 1'b0} : times1 ? {2'b00, a} : 10'd0;
  assign product = magnitude == 3'd7 ? {fine[7:0], 6'd0}
                 : magnitude[2] ? {1'b0, fine, 3'b000} : {4'd0, fine};
endmodule
