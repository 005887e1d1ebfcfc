// One memory with a write port and a read port, both synchronous.
// Latency: data two cycles after `read_enable` (memory output, then its output register).
// ULTRA asks for UltraRAM, which Vivado does not choose by itself for what it holds best: large
// memories with few ports (AMD UG573, UltraRAM; UG901, RAM_STYLE).
module bacmac_memory #(
    parameter integer WIDTH = 128,   // bits of a word
    parameter integer DEPTH = 1024,  // words
    parameter integer ADDRESS = 10,  // bits of an address, at least enough for DEPTH
    parameter integer ULTRA = 0      // 1: UltraRAM, 0: block RAM
) (
    input wire                clk,           // rising edge
    input wire                write_enable,  // 1: write in this cycle
    input wire [ADDRESS-1:0]  write_address, // word
    input wire [WIDTH-1:0]    write_data,    // word
    input wire                read_enable,   // 1: read in this cycle
    input wire [ADDRESS-1:0]  read_address,  // word
    output reg [WIDTH-1:0]    read_data      // word, two cycles after read_enable, then held
);
  reg [WIDTH-1:0] word;
  reg             read_1;

  generate
    if (ULTRA != 0) begin : g_ultra
      (* ram_style = "ultra" *) reg [WIDTH-1:0] words[0:DEPTH-1];
      always_ff @(posedge clk) begin
        if (write_enable) words[write_address] <= write_data;
        if (read_enable) word <= words[read_address];
      end
    end else begin : g_block
      (* ram_style = "block" *) reg [WIDTH-1:0] words[0:DEPTH-1];
      always_ff @(posedge clk) begin
        if (write_enable) words[write_address] <= write_data;
        if (read_enable) word <= words[read_address];
      end
    end
  endgenerate

  always_ff @(posedge clk) begin
    read_1 <= read_enable;
    if (read_1) read_data <= word;
  end
endmodule
