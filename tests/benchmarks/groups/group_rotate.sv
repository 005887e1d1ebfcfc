// A ring of BYTES bytes turned by `offset`: one row, or one column, of the 16 x 16 pixels that a
// square of a plane of channels is read as. Latency 1 cycle.
module group_rotate #(
    parameter integer BYTES = 16
) (
    input  wire                     clk,
    input  wire                     enable,
    input  wire [$clog2(BYTES)-1:0] offset,
    input  wire [8*BYTES-1:0]       ring,
    output reg  [8*BYTES-1:0]       data  // byte i is that at i + offset, modulo BYTES
);
  wire [16*BYTES-1:0] turned = {ring, ring} >> {offset, 3'd0};
  always_ff @(posedge clk) if (enable) data <= turned[8*BYTES-1:0];
endmodule
