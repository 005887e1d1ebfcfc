// Loads a group's weights, word by word, into the shadow registers of the channels.
//
// The first word arrives six cycles after `load`, when the group before it has been taken over by
// its first pixel. `nonzero` counts the weights of the active group that are not zero.
module bacmac_weights #(
    parameter integer IN = 16,
    parameter integer OUT = 16,
    parameter integer MAG = 3,          // bits of a magnitude code
    parameter integer BYTES = 2097152   // capacity
) (
    input  wire            clk,          // rising edge
    input  wire            rst,          // synchronous, active high
    input  wire            load_valid,   // a word from the stream
    input  wire [19:0]     load_word,    // word
    input  wire [8*IN-1:0] load_data,    // word, byte 0 lowest
    input  wire [19:0]     weight_word,  // first word of the layer's groups
    input  wire            load,         // pulse: the next group
    input  wire            load_rewind,  // with load: the layer's first group
    input  wire            swap,         // the shadow becomes active
    output reg  [OUT-1:0]  lane_enable,  // channels whose weights are in lane_data
    output wire [8*IN-1:0] lane_data,    // one word
    output reg  [11:0]     nonzero       // of the active group
);
  localparam integer LANES = 8 / (MAG + 1);      // lanes of a word: 2 or 1
  localparam integer LANE_BITS = IN * (MAG + 1);
  localparam integer WORDS = OUT / LANES;
  localparam integer DEPTH = BYTES / IN;
  localparam integer ADDRESS = $clog2(DEPTH);

  reg [2:0] due;
  reg [2:0] due_rewind;
  reg reading;
  reg [7:0] word;
  reg [19:0] address;
  reg valid_1, valid_2;
  reg [7:0] word_1, word_2;
  reg [11:0] counted;
  wire read_last = word == WORDS[7:0] - 8'd1;

  always_ff @(posedge clk) begin
    due <= {due[1:0], load};
    due_rewind <= {due_rewind[1:0], load_rewind};
    if (reading) begin
      address <= address + 20'd1;
      word <= word + 8'd1;
      if (read_last) reading <= 1'b0;
    end
    if (due[2]) begin
      reading <= 1'b1;
      word <= 8'd0;
      if (due_rewind[2]) address <= weight_word;
    end
    valid_1 <= reading;
    valid_2 <= valid_1;
    word_1 <= word;
    word_2 <= word_1;
    if (rst) begin
      due <= 3'd0;
      reading <= 1'b0;
      valid_1 <= 1'b0;
      valid_2 <= 1'b0;
    end
  end

  bacmac_memory #(
      .WIDTH(8 * IN), .DEPTH(DEPTH), .ADDRESS(ADDRESS), .ULTRA(1)
  ) memory (
      .clk(clk),
      .write_enable(load_valid), .write_address(load_word[ADDRESS-1:0]), .write_data(load_data),
      .read_enable(reading), .read_address(address[ADDRESS-1:0]), .read_data(lane_data)
  );

  integer i;
  always_comb
    for (i = 0; i < OUT; i = i + 1)
      lane_enable[i] = valid_2 && word_2 == i[7:0] / LANES[7:0];

  // ---- weights that are not zero
  reg [7:0] in_word;
  integer lane, weight;
  always_comb begin
    in_word = 8'd0;
    for (lane = 0; lane < LANES; lane = lane + 1)
      for (weight = 0; weight < IN; weight = weight + 1)
        in_word = in_word + {7'd0, |lane_data[lane*LANE_BITS+weight*MAG+:MAG]};
  end
  always_ff @(posedge clk) begin
    if (swap) nonzero <= counted;
    if (valid_2) counted <= (word_2 == 8'd0 ? 12'd0 : counted) + {4'd0, in_word};
  end
  wire unused = &{1'b0, load_word, address};
endmodule
