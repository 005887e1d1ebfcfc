// Issues the pixels of each entry of the group list, one a cycle, and works out what each reads.
//
// Entry k + 1 follows entry k without a gap, unless its weights are not loaded by then or the
// accumulators of its block are still being written back (docs/accelerator.md, "Time").
// Latency: `issue` in cycle c, the read address and the padding mask in c + 1.
module bacmac_issue #(
    parameter integer IN = 16,     // bytes of a read
    parameter integer TILE = 64,   // pixels of a tile
    parameter integer INDEX = 6,   // bits of a pixel's number in the tile
    parameter integer WORDS = 8    // words of a group
) (
    input  wire             clk,             // rising edge
    input  wire             rst,             // synchronous, active high
    input  wire             start,           // pulse: the layer's entries may now be issued
    // the layer
    input  wire             pool,            // entries have no weights
    input  wire [19:0]      n_pixels,        // output pixels
    input  wire [15:0]      out_w,           // pixels of an output row
    input  wire [15:0]      in_h,            // input rows
    input  wire [7:0]       stride_h,        // rows
    input  wire [7:0]       pad_top,         // rows
    input  wire [19:0]      row_limit,       // bytes of a window row's whole reach
    input  wire [23:0]      x_step,          // bytes
    input  wire [23:0]      x_before,        // bytes
    input  wire [19:0]      y_step,          // bytes modulo 2^20
    input  wire [19:0]      y_before,        // bytes modulo 2^20
    input  wire [19:0]      source_address,  // first byte of the input
    // the next entry
    input  wire             entry_valid,     // 1: the fields below are there
    input  wire [19:0]      row_offset,      // bytes from the window's first column
    input  wire [7:0]       ky,              // window row
    input  wire [19:0]      row_distance,    // bytes (modulo 2^20) to that row
    input  wire             first,           // first of its block
    input  wire             last,            // last of its block
    input  wire             empty,           // no group
    input  wire             opens_tile,      // first of the list
    output wire             take,            // 1: it is taken in this cycle
    output wire             load,            // begin to load the next entry's weights
    output wire             load_rewind,     // from the first group on
    input  wire [1:0]       set_free,        // accumulators of set 0, 1 may be overwritten
    // what is issued
    output reg              issue,           // a pixel, in this cycle
    output reg              issue_first,     // its entry's fields
    output reg              issue_empty,     // no group
    output reg              issue_opens,     // first entry of the list
    output reg              issue_swap,      // first pixel of an entry with weights
    output reg              issue_ends,      // last pixel of its block
    output reg              issue_set,       // accumulators
    output reg  [INDEX-1:0] issue_pixel,     // number in the tile
    output reg              block_opens,     // pulse: a block has taken the accumulators issue_set
    // one cycle later
    output reg              read_valid,      // something of it lies in the input
    output reg  [19:0]      read_address,    // byte
    output reg  [7:0]       read_low,        // bytes read_low .. read_high - 1 are not padding
    output reg  [7:0]       read_high        // byte after the last
);
  localparam signed [27:0] READ = IN[27:0];
  localparam signed [26:0] BEFORE = -$signed(IN[26:0]);

  // ---- position of a window: column in bytes from the row's start, row, and the row's address
  reg [15:0] column, tile_column;                     // output pixel in its row
  reg signed [25:0] x, tile_x;
  reg signed [17:0] y, tile_y;
  reg [19:0] row, tile_row;
  wire row_ends = column == out_w - 16'd1;
  wire [15:0] next_column = row_ends ? 16'd0 : column + 16'd1;
  wire signed [25:0] x_first = -$signed({2'd0, x_before});
  wire signed [25:0] next_x = row_ends ? x_first : x + $signed({2'd0, x_step});
  wire signed [17:0] next_y = row_ends ? y + $signed({10'd0, stride_h}) : y;
  wire [19:0] next_row = row_ends ? row + y_step : row;

  // ---- the entry that is issued
  reg [19:0] entry_offset;
  reg [7:0] entry_ky;
  reg [19:0] entry_distance;
  reg [INDEX:0] pixels;                               // of the tile
  reg [19:0] pixels_after;                            // of the output after this tile
  reg due;                                            // the next entry's load is to be begun
  reg [7:0] age;                                      // cycles since it was
  reg rewind;                                         // the next load is the first of its tile
  reg running;
  reg issue_last;                                     // last entry of its block
  reg next_set;
  wire last_pixel = issue && {1'b0, issue_pixel} == pixels - 1'b1;
  wire [7:0] words = (pool || empty) ? 8'd0 : WORDS[7:0];
  wire begin_load = due && entry_valid;
  wire loaded = begin_load ? words <= 8'd1 : !due && age + 8'd1 >= words;
  wire free = !first || set_free[next_set];
  wire [INDEX:0] tile_pixels = pixels_after > TILE[19:0] ? TILE[INDEX:0] : pixels_after[INDEX:0];
  assign load = begin_load && words != 8'd0;
  assign load_rewind = rewind || opens_tile;
  assign take = running && entry_valid && (!issue || last_pixel) && loaded && free;

  wire signed [26:0] reach = $signed({x[25], x}) + $signed({7'd0, entry_offset});
  wire signed [26:0] shortfall = -reach;
  wire signed [27:0] beyond = $signed({8'd0, row_limit}) - $signed({reach[26], reach});
  wire signed [18:0] input_row = $signed({y[17], y}) + $signed({11'd0, entry_ky});
  wire row_inside = !input_row[18] && input_row < $signed({3'd0, in_h});
  wire partly = row_inside && reach > BEFORE && beyond > 28'sd0;

  always_ff @(posedge clk) begin
    block_opens <= 1'b0;
    if (begin_load) begin
      due <= 1'b0;
      age <= 8'd1;
      rewind <= load_rewind && words == 8'd0;
    end else if (age != 8'hff) age <= age + 8'd1;
    if (issue) begin
      column <= next_column;
      x <= next_x;
      y <= next_y;
      row <= next_row;
      issue_pixel <= issue_pixel + 1'b1;
      issue_swap <= 1'b0;
      issue_ends <= issue_last && {1'b0, issue_pixel} + 1'b1 == pixels - 1'b1;
      if (last_pixel) issue <= 1'b0;
    end
    if (take) begin
      issue <= 1'b1;
      issue_swap <= !pool && !empty;
      issue_first <= first;
      issue_last <= last;
      issue_empty <= empty;
      issue_opens <= opens_tile;
      issue_pixel <= {INDEX{1'b0}};
      entry_offset <= row_offset;
      entry_ky <= ky;
      entry_distance <= row_distance;
      due <= 1'b1;
      if (first) begin
        issue_set <= next_set;
        next_set <= !next_set;
        block_opens <= 1'b1;
      end
      if (opens_tile) begin
        // the position after the tile before, whose last pixel may be this cycle's
        tile_column <= issue ? next_column : column;
        tile_x <= issue ? next_x : x;
        tile_y <= issue ? next_y : y;
        tile_row <= issue ? next_row : row;
        pixels <= tile_pixels;
        pixels_after <= pixels_after - {{(19 - INDEX) {1'b0}}, tile_pixels};
        issue_ends <= last && tile_pixels == 1;
      end else begin
        column <= tile_column;
        x <= tile_x;
        y <= tile_y;
        row <= tile_row;
        issue_ends <= last && pixels == 1;
      end
    end
    read_valid <= issue && partly && !issue_empty;
    if (issue) begin
      read_address <= source_address + row + entry_distance + x[19:0] + entry_offset;
      read_low <= !partly || !reach[26] ? 8'd0 : shortfall[7:0];
      read_high <= !partly ? 8'd0 : beyond < READ ? beyond[7:0] : READ[7:0];
    end
    if (start) begin
      running <= 1'b1;
      due <= 1'b1;
      rewind <= 1'b1;
      next_set <= 1'b0;
      column <= 16'd0;
      x <= x_first;
      y <= -$signed({10'd0, pad_top});
      row <= 20'd0 - y_before;
      pixels_after <= n_pixels;
    end
    if (rst) begin
      running <= 1'b0;
      due <= 1'b0;
      issue <= 1'b0;
      read_valid <= 1'b0;
      block_opens <= 1'b0;
    end
  end
  wire unused = &{1'b0, shortfall[26:8]};
endmodule
