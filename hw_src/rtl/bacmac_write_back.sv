// Takes finished blocks, pixel by pixel, through the requantization into the activation memory.
//
// A pixel begins in cycle c. Its residual is asked for in c + 1, its accumulator is read in c + 3
// and its constants are there in c + 4; the seven stages of the requantization are clocked in
// c + 4 .. c + 10; its bytes are given to the activation memory in c + 12. An int32 pixel takes
// several words, one a cycle. Residuals begin in even cycles of the layer, so that their reads and
// the writes take turns on port B.
module bacmac_write_back #(
    parameter integer IN = 16,     // bytes of a word
    parameter integer OUT = 16,    // channels of a block
    parameter integer TILE = 64,   // pixels of a tile
    parameter integer INDEX = 6    // bits of a pixel's number in the tile
) (
    input  wire             clk,                // rising edge
    input  wire             rst,                // synchronous, active high
    input  wire             start,              // pulse: a new layer
    // the layer
    input  wire [19:0]      n_pixels,           // output pixels
    input  wire [15:0]      n_blocks,           // output blocks
    input  wire [15:0]      out_c,              // channels
    input  wire [17:0]      pixel_bytes,        // of one output pixel
    input  wire             wide,               // int32 outputs
    input  wire             residual,           // a second input is added
    input  wire [19:0]      output_address,     // byte
    input  wire [19:0]      residual_source,    // byte
    input  wire [15:0]      constant_row,       // of the first block
    // blocks
    input  wire             block_done,         // pulse: the accumulators of a block are complete
    output reg  [1:0]       set_read,           // pulse: set 0, 1 will have been read when the next
                                                // pixel issued reaches the accumulators
    output reg              layer_done,         // pulse: all is written
    // to the channels and memories; the cycle counts from the pixel's c
    output reg              residual_read,      // c + 1
    output reg  [19:0]      residual_address,   // byte
    output reg              accumulator_read,   // c + 3
    output reg              accumulator_set,    // which set
    output reg  [INDEX-1:0] accumulator_pixel,  // which of the set
    output reg              constant_read,      // c + 2, with a block's first pixel
    output reg  [15:0]      constant_address,   // row
    output wire [6:0]       stages,             // c + 4 .. c + 10, one bit each
    output wire [3:0]       wide_word,          // c + 10 ..: word of the int32 pixel
    output reg              write_valid,        // c + 12 ..
    output reg  [19:0]      write_address,      // byte
    output reg  [7:0]       write_count         // bytes
);
  localparam integer BLOCK = $clog2(OUT);
  localparam integer WIDE_WORDS = 4 * OUT / IN;
  localparam integer DEPTH = 11;               // from c to c + 11
  localparam [4:0] DRAIN = 5'd12;
  // a set is handed over early: from `set_read` a pixel takes 12 cycles to the accumulators, from
  // its begin the last pixel 3 until it is read
  localparam [INDEX+2:0] EARLY = 8;

  // ---- the block that is written back
  reg [1:0] waiting;                           // blocks that are complete
  reg active;
  reg [3:0] phase;                             // cycle of the pixel
  reg opens;                                   // first pixel of its block
  reg set;
  reg [INDEX-1:0] index;                       // pixel of the tile
  reg [INDEX:0] left;                          // pixels of the tile from this one on
  reg [19:0] pixels_left;                      // pixels of the output from this tile on
  reg [15:0] block;
  reg [19:0] pixel_at, tile_at, block_at;      // bytes from the output's start
  reg [INDEX+2:0] to_release;                  // cycles until the set is handed over
  reg odd;                                     // cycles since the start, lowest bit
  reg finishing;
  reg [4:0] drain;

  wire [3:0] last_phase = wide ? WIDE_WORDS[3:0] - 4'd1 : residual ? 4'd1 : 4'd0;
  wire begins = active && phase == 4'd0;
  wire pixel_ends = active && phase == last_phase;
  wire block_ends = pixel_ends && left == 1;
  wire tile_ends = block_ends && block == n_blocks - 16'd1;
  wire [19:0] next_at = pixel_at + {2'd0, pixel_bytes};
  wire [INDEX:0] tile_pixels = pixels_left > TILE[19:0] ? TILE[INDEX:0] : pixels_left[INDEX:0];
  wire [19:0] next_left = tile_ends ? pixels_left - {{(19 - INDEX) {1'b0}}, tile_pixels}
                                    : pixels_left;
  wire [INDEX:0] next_pixels = next_left > TILE[19:0] ? TILE[INDEX:0] : next_left[INDEX:0];
  wire ends = tile_ends && next_left == 20'd0;
  wire [INDEX:0] next_before = next_pixels - 1'b1;
  wire [INDEX+2:0] next_cycles = wide ? {2'd0, next_before} * WIDE_WORDS[INDEX+2:0]
      : residual ? {1'b0, next_before, 1'b0} : {2'd0, next_before};
  wire open = waiting != 2'd0 && (!active || block_ends) && !ends && (!residual || odd);

  // ---- what follows it: one entry a word to be written
  wire [19:0] channels_left = {4'd0, out_c} - ({4'd0, block} << BLOCK);
  wire [7:0] channels = channels_left > OUT[19:0] ? OUT[7:0] : channels_left[7:0];
  wire [19:0] phase_at = wide ? {16'd0, phase} * IN[19:0] : 20'd0;
  wire [19:0] bytes_left = {10'd0, channels, 2'd0} - phase_at;
  wire [7:0] bytes = !wide ? channels
      : bytes_left[19] ? 8'd0 : bytes_left > IN[19:0] ? IN[7:0] : bytes_left[7:0];
  wire [19:0] at = pixel_at + block_at;
  reg [DEPTH:1] begun, writes;
  reg [27:0] follows[1:DEPTH];
  reg [3:0] word[1:DEPTH];
  reg opens_1, set_1, set_2;
  reg [INDEX-1:0] index_1, index_2;
  reg [15:0] row_1;

  integer i;
  always_ff @(posedge clk) begin
    odd <= !odd;
    layer_done <= 1'b0;
    set_read <= 2'b00;
    if (to_release != 0) to_release <= to_release - 1'b1;
    if (to_release == 1) set_read <= set ? 2'b10 : 2'b01;
    waiting <= waiting + {1'b0, block_done} - {1'b0, open};
    if (active) phase <= pixel_ends ? 4'd0 : phase + 4'd1;
    if (pixel_ends) begin
      opens <= 1'b0;
      index <= index + 1'b1;
      left <= left - 1'b1;
      pixel_at <= next_at;
    end
    if (block_ends) begin
      active <= 1'b0;
      set <= !set;
      block <= tile_ends ? 16'd0 : block + 16'd1;
      block_at <= tile_ends ? 20'd0 : block_at + (wide ? {OUT[17:0], 2'd0} : OUT[19:0]);
      pixel_at <= tile_ends ? next_at : tile_at;
      if (tile_ends) tile_at <= next_at;
      pixels_left <= next_left;
    end
    if (open) begin
      active <= 1'b1;
      phase <= 4'd0;
      opens <= 1'b1;
      index <= {INDEX{1'b0}};
      left <= next_pixels;
      to_release <= next_cycles > EARLY ? next_cycles - EARLY : {(INDEX + 3) {1'b0}};
      if (next_cycles <= EARLY) set_read <= set ^ block_ends ? 2'b10 : 2'b01;
    end
    if (ends) begin
      finishing <= 1'b1;
      drain <= 5'd0;
    end
    if (finishing) begin
      drain <= drain + 5'd1;
      if (drain == DRAIN) begin
        finishing <= 1'b0;
        layer_done <= 1'b1;
      end
    end

    // c + 1
    begun <= {begun[DEPTH-1:1], begins};
    writes <= {writes[DEPTH-1:1], active && (wide || begins)};
    if (active) begin
      follows[1] <= {bytes, at + phase_at};
      word[1] <= phase;
      residual_address <= residual_source + at;
    end
    residual_read <= begins && residual;
    opens_1 <= opens;
    set_1 <= set;
    index_1 <= index;
    row_1 <= constant_row + block;
    // c + 2, c + 3
    constant_read <= begun[1] && opens_1;
    constant_address <= row_1;
    set_2 <= set_1;
    index_2 <= index_1;
    accumulator_read <= begun[2];
    accumulator_set <= set_2;
    accumulator_pixel <= index_2;
    for (i = 2; i <= DEPTH; i = i + 1) begin
      follows[i] <= follows[i-1];
      word[i] <= word[i-1];
    end
    // c + 12
    write_valid <= writes[DEPTH] && follows[DEPTH][27:20] != 8'd0;
    write_address <= output_address + follows[DEPTH][19:0];
    write_count <= follows[DEPTH][27:20];

    if (start) begin
      odd <= 1'b0;
      set <= 1'b0;
      block <= 16'd0;
      pixel_at <= 20'd0;
      tile_at <= 20'd0;
      block_at <= 20'd0;
      pixels_left <= n_pixels;
      waiting <= 2'd0;
    end
    if (rst) begin
      active <= 1'b0;
      finishing <= 1'b0;
      layer_done <= 1'b0;
      waiting <= 2'd0;
      to_release <= {(INDEX + 3) {1'b0}};
      begun <= {DEPTH{1'b0}};
      writes <= {DEPTH{1'b0}};
      write_valid <= 1'b0;
      residual_read <= 1'b0;
    end
  end

  assign stages = begun[10:4];
  assign wide_word = word[10];
  wire unused = &{1'b0, begun[DEPTH], word[DEPTH]};
endmodule
