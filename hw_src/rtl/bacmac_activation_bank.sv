// One bank of the activation memory: port A reads, port B reads or writes bytes of a word.
// True dual-port block RAM with byte writes (AMD UG573, block RAM, "Byte-Wide Write Enable").
// Latency: two cycles on both ports.
module bacmac_activation_bank #(
    parameter integer IN = 16,       // bytes of a word
    parameter integer DEPTH = 16384, // words
    parameter integer ADDRESS = 14   // bits of an address
) (
    input wire               clk,           // rising edge
    input wire               a_enable,      // 1: read word a_address in this cycle
    input wire [ADDRESS-1:0] a_address,     // word
    output reg [8*IN-1:0]    a_data,        // word, two cycles later, then held
    input wire               b_enable,      // 1: read or write word b_address in this cycle
    input wire [IN-1:0]      b_write,       // byte i is written; all 0: read
    input wire [ADDRESS-1:0] b_address,     // word
    input wire [8*IN-1:0]    b_write_data,  // bytes to be written
    output reg [8*IN-1:0]    b_data         // word as it was before a write, two cycles later
);
  reg [8*IN-1:0] words[0:DEPTH-1];
  reg [8*IN-1:0] a_word;
  reg [8*IN-1:0] b_word;
  reg            a_1;
  reg            b_1;

  always_ff @(posedge clk) begin
    if (a_enable) a_word <= words[a_address];
    a_1 <= a_enable;
    if (a_1) a_data <= a_word;
  end

  integer i;
  always_ff @(posedge clk) begin
    if (b_enable) begin
      for (i = 0; i < IN; i = i + 1)
        if (b_write[i]) words[b_address][8*i+:8] <= b_write_data[8*i+:8];
      b_word <= words[b_address];
    end
    b_1 <= b_enable && b_write == {IN{1'b0}};
    if (b_1) b_data <= b_word;
  end
endmodule
