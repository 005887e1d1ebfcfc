// BYTES bytes that begin at any byte, out of two words that were read together: what each further
// list of groups adds to port A of the activation memory (see bacmac_activations). Latency 1 cycle.
module group_read #(
    parameter integer BYTES = 16  // bytes of a word
) (
    input  wire                     clk,
    input  wire                     enable,
    input  wire                     is_odd,  // the first byte lies in the odd word
    input  wire [$clog2(BYTES)-1:0] offset,  // of the first byte in its word
    input  wire [8*BYTES-1:0]       even,    // words as the memory gives them
    input  wire [8*BYTES-1:0]       odd,
    output reg  [8*BYTES-1:0]       data     // byte 0 lowest
);
  wire [16*BYTES-1:0] rotated = (is_odd ? {even, odd} : {odd, even}) >> {offset, 3'd0};
  always_ff @(posedge clk) if (enable) data <= rotated[8*BYTES-1:0];
endmodule
