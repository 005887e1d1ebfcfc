// What AXI demands of whoever drives valid (IHI 0022, "Handshake process"), as assertions.
module axi_rules #(
    parameter integer WIDTH = 1
) (
    input wire             clk,
    input wire             rst,
    input wire             valid,
    input wire             ready,
    input wire [WIDTH-1:0] payload
);
  reg waited = 1'b0;  // valid and not ready in the cycle before
  reg was_rst = 1'b0;
  reg [WIDTH-1:0] held;

  always @(posedge clk) begin
    if (waited) begin
      assert (valid) else $fatal(1, "%m: valid fell before ready");
      assert (payload === held) else $fatal(1, "%m: payload changed before ready");
    end
    if (was_rst) assert (!valid) else $fatal(1, "%m: valid after reset");
    waited <= valid && !ready && !rst;
    was_rst <= rst;
    held <= payload;
  end
endmodule
