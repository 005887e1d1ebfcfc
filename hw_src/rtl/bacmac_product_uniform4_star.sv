// Product of a 4-bit uniform weight's magnitude and an activation, left to the synthesizer's `*`.
//
// The straightforward multiplier: what a comparison with bacmac_product_uniform4 costs when nobody
// has looked for a better one.
//
// Latency: none. Depth: whatever the tool makes of an 8 x 3 bit multiplier.
module bacmac_product_uniform4_star (
    input  wire logic [7:0]  a,          // activation, unsigned
    input  wire logic [2:0]  magnitude,  // code: the level itself, 0..7
    output      logic [10:0] product     // level * a, 0..1785
);
  assign product = {3'b000, a} * {8'd0, magnitude};
endmodule
