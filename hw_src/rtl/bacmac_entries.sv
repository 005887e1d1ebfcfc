// Reads the group list ahead of the array, once a tile, and refuses one that makes no sense.
//
// Keeps a first-in first-out queue filled, one entry a cycle, so that the array never waits for
// the list. The distance of an entry's window row is its `ky` times the bytes of a row.
module bacmac_entries #(
    parameter integer IN = 16,   // bytes of a word
    parameter integer OUT = 16,  // channels of a block
    parameter integer MAG = 3    // bits of a magnitude code
) (
    input  wire            clk,                 // rising edge
    input  wire            rst,                 // synchronous, active high
    input  wire            start,               // pulse: the layer's list, from its first entry
    input  wire [19:0]     list_word,           // first word
    input  wire [15:0]     n_entries,           // of one tile
    input  wire [15:0]     n_blocks,            // output blocks of one tile
    input  wire [19:0]     n_tiles,             // how often the list is read
    input  wire            pool,                // entries have no weights
    input  wire [31:0]     layer_weight_bytes,  // of all groups in the list
    input  wire [19:0]     row_bytes,           // of one input row
    output reg             read_enable,         // program memory
    output reg  [19:0]     read_word,           // word
    input  wire [8*IN-1:0] read_data,           // two cycles later
    output wire            valid,               // the fields below are those of the next entry
    output wire [19:0]     row_offset,          // bytes from the window's first column
    output wire [7:0]      ky,                  // window row
    output wire [19:0]     row_distance,        // bytes (modulo 2^20) to that row
    output wire            first,               // first of its block
    output wire            last,                // last of its block
    output wire            empty,               // no group
    output wire            opens_tile,          // first of the list
    input  wire            take,                // the next entry is taken in this cycle
    output reg             bad                  // pulse: the list makes no sense
);
  localparam integer EACH = IN / 4;             // entries of a word
  localparam integer PART = $clog2(EACH);
  localparam [31:0] GROUP_BYTES = IN * OUT * (MAG + 1) / 8;

  // ---- ask for entries as long as the queue has room for all that is under way
  reg running;
  reg [15:0] asked;            // number in the list
  reg [19:0] tiles_left;
  reg [3:0] promised;          // in the queue or under way
  reg [PART-1:0] part_0, part_1, part_2;
  reg valid_1, valid_2, valid_3;
  wire ask = running && promised < 4'd8;
  wire list_end = asked == n_entries - 16'd1;
  reg [31:0] entry_3;
  reg end_0, end_1, end_2, end_3;
  wire [31:0] entry_2 = read_data[{part_2, 5'd0}+:32];

  // ---- what is left of this tile's list, checked as it comes
  reg opens_block, opens_list;
  reg [15:0] blocks_left;
  reg [31:0] weights_left;
  wire is_last = entry_3[28];
  wire is_empty = entry_3[29];
  wire [31:0] weights_after = (pool || is_empty) ? weights_left : weights_left - GROUP_BYTES;
  wire nonsense = entry_3[31:30] != 2'd0 || (is_empty && (pool || !opens_block || !is_last))
      || (is_last && (blocks_left == 16'd1) != end_3)
      || (end_3 && (!is_last || weights_after != 32'd0));

  // ---- the queue; the product comes one cycle after the rest
  reg [51:0] queue[0:7];
  reg [51:0] next_4;
  reg push_4;
  reg [2:0] head, tail;
  reg [3:0] filled;

  always_ff @(posedge clk) begin
    bad <= 1'b0;
    read_enable <= ask;
    valid_1 <= read_enable;
    valid_2 <= valid_1;
    valid_3 <= valid_2;
    if (ask) begin
      read_word <= list_word + {4'd0, asked >> PART};
      part_0 <= asked[PART-1:0];
      end_0 <= list_end;
      asked <= list_end ? 16'd0 : asked + 16'd1;
      if (list_end) begin
        tiles_left <= tiles_left - 20'd1;
        if (tiles_left == 20'd1) running <= 1'b0;
      end
    end
    part_1 <= part_0;
    part_2 <= part_1;
    end_1 <= end_0;
    end_2 <= end_1;
    if (valid_2) begin
      entry_3 <= entry_2;
      end_3 <= end_2;
    end
    push_4 <= valid_3;
    if (valid_3) begin
      next_4 <= {opens_list, is_empty, is_last, opens_block,
                 {12'd0, entry_3[27:20]} * row_bytes, entry_3[27:0]};
      opens_block <= is_last;
      opens_list <= end_3;
      blocks_left <= end_3 ? n_blocks : is_last ? blocks_left - 16'd1 : blocks_left;
      weights_left <= end_3 ? layer_weight_bytes : weights_after;
      bad <= nonsense;
    end
    if (push_4) begin
      queue[tail] <= next_4;
      tail <= tail + 3'd1;
    end
    if (take) head <= head + 3'd1;
    filled <= filled + {3'd0, push_4} - {3'd0, take};
    promised <= promised + {3'd0, ask} - {3'd0, take};
    if (start) begin
      running <= 1'b1;
      asked <= 16'd0;
      tiles_left <= n_tiles;
      opens_block <= 1'b1;
      opens_list <= 1'b1;
      blocks_left <= n_blocks;
      weights_left <= layer_weight_bytes;
    end
    if (rst || start) begin
      promised <= 4'd0;
      filled <= 4'd0;
      head <= 3'd0;
      tail <= 3'd0;
      valid_1 <= 1'b0;
      valid_2 <= 1'b0;
      valid_3 <= 1'b0;
      push_4 <= 1'b0;
      read_enable <= 1'b0;
    end
    if (rst) begin
      running <= 1'b0;
      bad <= 1'b0;
    end
  end

  assign valid = filled != 4'd0;
  assign {opens_tile, empty, last, first, row_distance, ky, row_offset} = queue[head];
endmodule
