// Runs one layer: the memories, the array and all that moves between them (docs/accelerator.md).
//
// The caller loads the memories, then starts layers one after the other. From the issue of a
// pixel in cycle c:
//   c + 1 read address     c + 5 bytes, rotated     c + 6 padding filled in
//   c + 7 at the lanes     c + 10 sums, accumulated at its end
module bacmac_engine #(
    parameter integer IN = 16,                   // products of a lane; bytes of a word and a beat
    parameter integer OUT = 16,                  // lanes
    parameter integer TILE = 64,                 // pixels of a tile, a power of two
    parameter integer PRODUCT = 2,               // product term, see bacmac_lane
    parameter integer ACTIVATION_BYTES = 524288,
    parameter integer WEIGHT_BYTES = 2097152,
    parameter integer CONSTANT_BYTES = 294912,
    parameter integer PROGRAM_BYTES = 131072
) (
    input  wire            clk,             // rising edge
    input  wire            rst,             // synchronous, active high
    // the stream's words
    input  wire            load_valid,      // 1: a word in this cycle
    input  wire [1:0]      load_target,     // 0 activations, 1 program, 2 weights, 3 constants
    input  wire [19:0]     load_word,       // word; of constants the running number
    input  wire [8*IN-1:0] load_data,       // word, byte 0 lowest
    input  wire [31:0]     program_bytes,   // what is loaded
    input  wire [31:0]     weight_bytes,    // bytes
    input  wire [31:0]     constant_bytes,  // bytes
    // a layer
    input  wire            layer_start,     // pulse
    input  wire            layer_probe,     // with it: only read the descriptor
    input  wire [7:0]      layer_index,     // number of the descriptor
    input  wire            layer_final,     // the program's last
    input  wire [19:0]     image_offset,    // bytes of the batch's images before this one
    output reg             layer_done,      // pulse
    output reg             layer_bad,       // pulse: descriptor or group list make no sense
    output wire [19:0]     input_address,   // of the layer last read, in bytes
    output wire [19:0]     input_bytes,     // bytes of one image
    output wire [19:0]     output_address,  // byte
    output wire [19:0]     output_bytes,    // bytes of one image
    // words of the activation memory
    input  wire            read_enable,     // 1: read in this cycle
    input  wire [19:0]     read_word,       // word
    output wire [8*IN-1:0] read_data,       // two cycles later
    // to be counted in this cycle
    output reg             count_busy,      // a pixel is issued to the array or a pool
    output reg  [11:0]     count_products,  // weight slots that are not zero
    output reg  [11:0]     count_isolated,  // weight slots of the group that are zero
    output reg  [23:0]     count_skipped    // slots of groups that are not in the list
);
  localparam integer MAG = PRODUCT == 4 ? 7 : 3;
  localparam integer INDEX = $clog2(TILE);
  localparam integer GROUP_WORDS = OUT * (MAG + 1) / 8;
  localparam integer SLOTS = $clog2(IN * OUT);
  localparam integer LANE_BITS = IN * (MAG + 1);
  localparam integer LANES = 8 / (MAG + 1);
  localparam integer BANKS = 12 * OUT / IN;              // words of a constant row
  localparam integer ROWS = CONSTANT_BYTES / (12 * OUT);
  localparam integer ROW = $clog2(ROWS);
  localparam integer PROGRAM_DEPTH = PROGRAM_BYTES / IN;
  localparam integer PROGRAM = $clog2(PROGRAM_DEPTH);

  // ---- the layer
  wire layer_ready, descriptor_bad, list_bad, written;
  wire pool, maximum, wide, residual, residual_signed, input_signed;
  wire [7:0] fill, stride_h, pad_top;
  wire [15:0] low, high, in_h, out_w, out_c, n_blocks, n_entries, n_skipped, constant_row;
  wire [19:0] row_bytes, row_limit, y_step, y_before, n_pixels;
  wire [23:0] x_step, x_before;
  wire [17:0] pixel_bytes;
  wire [19:0] source_address, residual_source, list_word, weight_word;
  wire [31:0] layer_weight_bytes;
  wire descriptor_read, list_read;
  wire [19:0] descriptor_word, entry_word;
  wire [8*IN-1:0] program_data;
  reg probe;
  reg stopped;                                           // by an error: until reset
  wire run = layer_ready && !probe;

  bacmac_layer #(
      .IN(IN), .OUT(OUT), .ACTIVATION_BYTES(ACTIVATION_BYTES)
  ) layer (
      .clk(clk), .rst(rst), .start(layer_start), .index(layer_index), .final_layer(layer_final),
      .image_offset(image_offset), .program_bytes(program_bytes), .weight_bytes(weight_bytes),
      .constant_bytes(constant_bytes), .read_enable(descriptor_read),
      .read_word(descriptor_word), .read_data(program_data), .ready(layer_ready),
      .bad(descriptor_bad), .pool(pool), .maximum(maximum), .wide(wide), .residual(residual),
      .residual_signed(residual_signed), .input_signed(input_signed), .fill(fill), .low(low),
      .high(high), .in_h(in_h), .out_w(out_w), .out_c(out_c), .stride_h(stride_h),
      .pad_top(pad_top), .row_bytes(row_bytes), .row_limit(row_limit), .x_step(x_step),
      .x_before(x_before), .y_step(y_step), .y_before(y_before), .input_bytes(input_bytes),
      .n_pixels(n_pixels), .pixel_bytes(pixel_bytes), .output_bytes(output_bytes),
      .n_blocks(n_blocks), .input_address(input_address), .output_address(output_address),
      .source_address(source_address), .residual_source(residual_source), .list_word(list_word),
      .n_entries(n_entries), .n_skipped(n_skipped), .weight_word(weight_word),
      .layer_weight_bytes(layer_weight_bytes), .constant_row(constant_row)
  );

  wire [19:0] n_tiles = (n_pixels + TILE[19:0] - 20'd1) >> INDEX;
  always_ff @(posedge clk) begin
    if (layer_start) probe <= layer_probe;
    layer_done <= !stopped && ((layer_ready && probe) || written);
    layer_bad <= !stopped && (descriptor_bad || list_bad);
    if (descriptor_bad || list_bad) stopped <= 1'b1;
    if (rst) begin
      layer_done <= 1'b0;
      layer_bad <= 1'b0;
      stopped <= 1'b0;
    end
  end

  bacmac_memory #(
      .WIDTH(8 * IN), .DEPTH(PROGRAM_DEPTH), .ADDRESS(PROGRAM)
  ) program_memory (
      .clk(clk),
      .write_enable(load_valid && load_target == 2'd1), .write_address(load_word[PROGRAM-1:0]),
      .write_data(load_data), .read_enable(descriptor_read || list_read),
      .read_address(list_read ? entry_word[PROGRAM-1:0] : descriptor_word[PROGRAM-1:0]),
      .read_data(program_data)
  );

  // ---- entries and pixels
  wire entry_valid, entry_first, entry_last, entry_empty, entry_opens, take;
  wire [19:0] row_offset, row_distance;
  wire [7:0] ky;
  wire load, load_rewind;
  wire issue, issue_first, issue_empty, issue_opens, issue_swap, issue_ends, issue_set;
  wire block_opens;
  wire [INDEX-1:0] issue_pixel;
  wire read_valid;
  wire [19:0] read_address;
  wire [7:0] read_low, read_high;
  reg [1:0] set_free;
  wire [1:0] set_read;

  bacmac_entries #(
      .IN(IN), .OUT(OUT), .MAG(MAG)
  ) entries (
      .clk(clk), .rst(rst || stopped), .start(run), .list_word(list_word), .n_entries(n_entries),
      .n_blocks(n_blocks), .n_tiles(n_tiles), .pool(pool),
      .layer_weight_bytes(layer_weight_bytes), .row_bytes(row_bytes), .read_enable(list_read),
      .read_word(entry_word), .read_data(program_data), .valid(entry_valid),
      .row_offset(row_offset), .ky(ky), .row_distance(row_distance), .first(entry_first),
      .last(entry_last), .empty(entry_empty), .opens_tile(entry_opens), .take(take),
      .bad(list_bad)
  );

  bacmac_issue #(
      .IN(IN), .TILE(TILE), .INDEX(INDEX), .WORDS(GROUP_WORDS)
  ) issuer (
      .clk(clk), .rst(rst || stopped), .start(run), .pool(pool), .n_pixels(n_pixels),
      .out_w(out_w), .in_h(in_h), .stride_h(stride_h), .pad_top(pad_top), .row_limit(row_limit),
      .x_step(x_step), .x_before(x_before), .y_step(y_step), .y_before(y_before),
      .source_address(source_address), .entry_valid(entry_valid), .row_offset(row_offset),
      .ky(ky), .row_distance(row_distance), .first(entry_first), .last(entry_last),
      .empty(entry_empty), .opens_tile(entry_opens), .take(take), .load(load),
      .load_rewind(load_rewind), .set_free(set_free), .issue(issue), .issue_first(issue_first),
      .issue_empty(issue_empty), .issue_opens(issue_opens), .issue_swap(issue_swap),
      .issue_ends(issue_ends), .issue_set(issue_set), .issue_pixel(issue_pixel),
      .block_opens(block_opens), .read_valid(read_valid), .read_address(read_address),
      .read_low(read_low), .read_high(read_high)
  );

  always_ff @(posedge clk) begin
    if (block_opens) set_free[issue_set] <= 1'b0;
    if (set_read[0]) set_free[0] <= 1'b1;
    if (set_read[1]) set_free[1] <= 1'b1;
    if (rst || run) set_free <= 2'b11;
  end

  // ---- what goes with a pixel: bit n is valid in cycle c + n
  localparam integer LAST = 10;
  reg [LAST:1] issued, swaps, firsts, empties, ends, sets;
  reg [INDEX-1:0] pixel[1:LAST];
  reg [15:0] span[2:5];                                  // read_low, read_high
  reg [5:2] reads;
  integer i;
  always_ff @(posedge clk) begin
    issued <= {issued[LAST-1:1], issue};
    swaps <= {swaps[LAST-1:1], issue && issue_swap};
    firsts <= {firsts[LAST-1:1], issue_first};
    empties <= {empties[LAST-1:1], issue_empty};
    ends <= {ends[LAST-1:1], issue && issue_ends};
    sets <= {sets[LAST-1:1], issue_set};
    pixel[1] <= issue_pixel;
    for (i = 2; i <= LAST; i = i + 1) pixel[i] <= pixel[i-1];
    reads <= {reads[4:2], read_valid};
    span[2] <= {read_high, read_low};
    for (i = 3; i <= 5; i = i + 1) span[i] <= span[i-1];
    if (rst || stopped) begin
      issued <= {LAST{1'b0}};
      swaps <= {LAST{1'b0}};
      ends <= {LAST{1'b0}};
    end
  end

  // ---- activations
  wire [8*IN-1:0] bytes;
  wire residual_read;
  wire [19:0] residual_address;
  wire [8*IN-1:0] residual_bytes;
  wire write_valid;
  wire [19:0] write_address;
  wire [7:0] write_count;
  reg [8*IN-1:0] write_data;
  wire image_valid = load_valid && load_target == 2'd0;

  bacmac_activations #(
      .IN(IN), .BYTES(ACTIVATION_BYTES)
  ) activations (
      .clk(clk), .a_valid(read_valid), .a_address(read_address), .a_data(bytes),
      .r_valid(residual_read), .r_address(residual_address), .r_data(residual_bytes),
      .w_valid(image_valid || write_valid),
      .w_address(image_valid ? load_word << $clog2(IN) : write_address),
      .w_count(image_valid ? IN[7:0] : write_count),
      .w_data(image_valid ? load_data : write_data),
      .word_enable(read_enable), .word_address(read_word), .word_data(read_data)
  );

  // bytes low .. high - 1 of the read are not padding; the array takes them unsigned
  wire [IN-1:0] real_byte = reads[5] ? ~({IN{1'b1}} << span[5][15:8]) & ({IN{1'b1}} << span[5][7:0])
                                  : {IN{1'b0}};
  reg [8*IN-1:0] filled, a;
  reg [10*IN-1:0] a3;
  integer j;
  always_ff @(posedge clk) begin
    if (issued[5])
      for (j = 0; j < IN; j = j + 1)
        filled[8*j+:8] <= real_byte[j] ? bytes[8*j+:8] ^ {input_signed, 7'd0} : fill;
    if (issued[6]) begin
      a <= filled;
      if (PRODUCT == 0 || PRODUCT == 4)
        for (j = 0; j < IN; j = j + 1)
          a3[10*j+:10] <= {2'd0, filled[8*j+:8]} + {1'b0, filled[8*j+:8], 1'b0};
      else a3 <= {10 * IN{1'b0}};
    end
  end

  // ---- weights
  wire [OUT-1:0] lane_enable;
  wire [8*IN-1:0] lane_data;
  wire [11:0] nonzero;
  bacmac_weights #(
      .IN(IN), .OUT(OUT), .MAG(MAG), .BYTES(WEIGHT_BYTES)
  ) weights (
      .clk(clk), .rst(rst || stopped), .load_valid(load_valid && load_target == 2'd2),
      .load_word(load_word), .load_data(load_data), .weight_word(weight_word), .load(load),
      .load_rewind(load_rewind), .swap(swaps[6]), .lane_enable(lane_enable),
      .lane_data(lane_data), .nonzero(nonzero)
  );

  // ---- constants: one row holds those of all lanes; rows are filled word by word
  reg [7:0] next_bank;
  reg [ROW-1:0] next_row;
  wire constant_valid = load_valid && load_target == 2'd3;
  wire [7:0] bank = load_word == 20'd0 ? 8'd0 : next_bank;
  wire [ROW-1:0] row = load_word == 20'd0 ? {ROW{1'b0}} : next_row;
  wire constant_read;
  wire [15:0] constant_address;
  wire [96*OUT-1:0] constants;
  always_ff @(posedge clk)
    if (constant_valid) begin
      next_bank <= bank == BANKS[7:0] - 8'd1 ? 8'd0 : bank + 8'd1;
      next_row <= bank == BANKS[7:0] - 8'd1 ? row + 1'b1 : row;
    end
  genvar g;
  generate
    for (g = 0; g < BANKS; g = g + 1) begin : g_constants
      bacmac_memory #(
          .WIDTH(8 * IN), .DEPTH(ROWS), .ADDRESS(ROW)
      ) memory (
          .clk(clk), .write_enable(constant_valid && bank == g[7:0]), .write_address(row),
          .write_data(load_data), .read_enable(constant_read),
          .read_address(constant_address[ROW-1:0]), .read_data(constants[8*IN*g+:8*IN])
      );
    end
  endgenerate

  // ---- write-back
  wire accumulator_read, accumulator_set;
  wire [INDEX-1:0] accumulator_pixel;
  wire [6:0] stages;
  wire [3:0] wide_word;
  bacmac_write_back #(
      .IN(IN), .OUT(OUT), .TILE(TILE), .INDEX(INDEX)
  ) write_back (
      .clk(clk), .rst(rst || stopped), .start(run), .n_pixels(n_pixels), .n_blocks(n_blocks),
      .out_c(out_c), .pixel_bytes(pixel_bytes), .wide(wide), .residual(residual),
      .output_address(output_address), .residual_source(residual_source),
      .constant_row(constant_row), .block_done(ends[LAST]), .set_read(set_read),
      .layer_done(written), .residual_read(residual_read), .residual_address(residual_address),
      .accumulator_read(accumulator_read), .accumulator_set(accumulator_set),
      .accumulator_pixel(accumulator_pixel), .constant_read(constant_read),
      .constant_address(constant_address), .stages(stages), .wide_word(wide_word),
      .write_valid(write_valid), .write_address(write_address), .write_count(write_count)
  );

  // ---- the array
  wire [32*OUT-1:0] wide_values;
  wire [8*OUT-1:0] stored;
  reg [8*OUT-1:0] own_1, own_2, own_3;
  always_ff @(posedge clk) begin
    if (pool) begin
      own_1 <= a[8*OUT-1:0];
      own_2 <= own_1;
      own_3 <= own_2;
    end
  end
  generate
    for (g = 0; g < OUT; g = g + 1) begin : g_channel
      wire [7:0] second = residual_bytes[8*g+:8];
      bacmac_channel #(
          .IN(IN), .TILE(TILE), .PRODUCT(PRODUCT), .MAG(MAG), .INDEX(INDEX)
      ) channel (
          .clk(clk), .load_enable(lane_enable[g]),
          .load_data(lane_data[(g%LANES)*LANE_BITS+:LANE_BITS]), .swap(swaps[6]), .a(a), .a3(a3),
          .own_byte(own_3[8*g+:8]), .pool(pool), .maximum(maximum), .accumulate(issued[LAST]),
          .first(firsts[LAST]), .empty(empties[LAST]), .set(sets[LAST]), .pixel(pixel[LAST]),
          .read_enable(accumulator_read), .read_set(accumulator_set),
          .read_pixel(accumulator_pixel), .stages(stages), .constants(constants[96*g+:96]),
          .residual(residual ? {residual_signed & second[7], second} : 9'd0), .low(low),
          .high(high), .wide(wide_values[32*g+:32]), .y(stored[8*g+:8])
      );
    end
  endgenerate

  // an int32 pixel leaves word by word; both ways take the same time
  reg [8*IN-1:0] wide_1;
  wire [32*OUT-1:0] wide_shifted = wide_values >> {wide_word, {$clog2(8 * IN) {1'b0}}};
  wire [8*IN-1:0] stored_word;
  generate
    if (OUT == IN) begin : g_word
      assign stored_word = stored;
    end else begin : g_word
      assign stored_word = {{8 * (IN - OUT) {1'b0}}, stored};
    end
  endgenerate
  always_ff @(posedge clk) begin
    if (wide) wide_1 <= wide_shifted[8*IN-1:0];
    write_data <= wide ? wide_1 : stored_word;
  end

  // ---- counts: those of the group when its pixels are at the lanes
  wire [SLOTS:0] slots = 1'b1 << SLOTS;
  wire counted = issued[7] && !pool && !empties[7];
  always_ff @(posedge clk) begin
    count_busy <= issue && !issue_empty;
    count_products <= counted ? nonzero : 12'd0;
    count_isolated <= counted ? {{(11 - SLOTS) {1'b0}}, slots} - nonzero : 12'd0;
    count_skipped <= issue && issue_opens ? {8'd0, n_skipped} << SLOTS : 24'd0;
    if (rst || stopped) begin
      count_busy <= 1'b0;
      count_products <= 12'd0;
      count_isolated <= 12'd0;
      count_skipped <= 24'd0;
    end
  end
  wire unused = &{1'b0, descriptor_word, entry_word, swaps[LAST:7], constant_address,
                  residual_bytes, wide_shifted[32*OUT-1:8*IN]};
endmodule
