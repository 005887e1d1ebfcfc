// One output channel of the array: its weights, its dot product, its accumulators, its
// requantization.
//
// Weights are loaded into a shadow register while the active ones are held over a tile of pixels
// (weight stationary: Chen et al. 2016, Jouppi et al. 2017); `swap` takes them over. Two sets of
// accumulators: one is written back while the other accumulates.
// Latency: 3 cycles from `a` to `accumulate`; see bacmac_requantize for the write-back.
module bacmac_channel #(
    parameter integer IN = 16,      // products of a dot product
    parameter integer TILE = 64,    // pixels of a tile
    parameter integer PRODUCT = 2,  // see bacmac_lane
    parameter integer MAG = 3,      // bits of a magnitude code
    parameter integer INDEX = 6     // bits of a pixel's number in the tile
) (
    input wire                    clk,          // rising edge
    input wire                    load_enable,  // 1: load_data into the shadow register
    input wire [IN*(MAG+1)-1:0]   load_data,    // magnitudes, then relative signs
    input wire                    swap,         // 1: the shadow becomes active
    input wire [8*IN-1:0]         a,            // activations, unsigned
    input wire [10*IN-1:0]        a3,           // three times each
    input wire [7:0]              own_byte,     // what a pool takes, three cycles after a
    input wire                    pool,         // 1: the byte itself instead of the product
    input wire                    maximum,      // 1: keep the larger instead of adding
    input wire                    accumulate,   // 1: three cycles after a: take the sum
    input wire                    first,        // first of its block: forget what was there
    input wire                    empty,        // no group: nothing is added
    input wire                    set,          // which set of accumulators
    input wire [INDEX-1:0]        pixel,        // which of the set
    input wire                    read_enable,  // write-back: read an accumulator
    input wire                    read_set,     // which set
    input wire [INDEX-1:0]        read_pixel,   // which of the set
    input wire [6:0]              stages,       // enables of bacmac_requantize
    input wire [95:0]             constants,    // of this channel
    input wire signed [8:0]       residual,     // value, 0 where there is none
    input wire signed [15:0]      low,          // smallest stored value
    input wire signed [15:0]      high,         // largest stored value
    output wire [31:0]            wide,         // int32 output
    output wire [7:0]             y             // stored activation
);
  localparam integer TERM = PRODUCT == 4 ? 15 : PRODUCT == 3 ? 14 : PRODUCT == 2 ? 12 : 11;
  localparam integer SUM = TERM + $clog2(IN) + 1;  // bits of a dot product, see bacmac_lane

  reg [IN*(MAG+1)-1:0] shadow;
  reg [IN*MAG-1:0] magnitude;
  reg [IN-1:0] sign;
  always_ff @(posedge clk) begin
    if (load_enable) shadow <= load_data;
    if (swap) begin
      magnitude <= shadow[IN*MAG-1:0];
      sign <= shadow[IN*(MAG+1)-1:IN*MAG];
    end
  end

  wire signed [SUM-1:0] sum;
  wire negate;
  bacmac_lane #(
      .IN(IN), .PRODUCT(PRODUCT), .MAG(MAG), .SUM(SUM)
  ) lane (
      .clk(clk), .a(a), .a3(a3), .magnitude(magnitude), .sign(sign), .sum(sum), .negate(negate)
  );

  // each set has one reader and one writer: while it accumulates, or while it is written back
  reg [31:0] set_0[0:TILE-1];
  reg [31:0] set_1[0:TILE-1];
  wire [INDEX-1:0] address_0 = (accumulate && !set) ? pixel : read_pixel;
  wire [INDEX-1:0] address_1 = (accumulate && set) ? pixel : read_pixel;
  wire [31:0] value_0 = set_0[address_0];
  wire [31:0] value_1 = set_1[address_1];
  wire signed [31:0] previous = first ? 32'sd0 : $signed(set ? value_1 : value_0);
  wire signed [31:0] operand = pool ? $signed({24'd0, own_byte})
                                    : $signed({{(32 - SUM) {sum[SUM-1]}}, sum});
  wire signed [31:0] total = (negate && !pool) ? previous - operand : previous + operand;
  wire keep = maximum && !first && previous[7:0] > own_byte;
  wire [31:0] after = empty ? 32'd0 : (maximum ? (keep ? previous : operand) : total);

  reg signed [31:0] accumulator;
  always_ff @(posedge clk) begin
    if (accumulate && !set) set_0[pixel] <= after;
    if (accumulate && set) set_1[pixel] <= after;
    if (read_enable) accumulator <= $signed(read_set ? value_1 : value_0);
  end

  bacmac_requantize requantize (
      .clk(clk), .enable(stages), .accumulator(accumulator), .constants(constants),
      .residual(residual), .low(low), .high(high), .wide(wide), .y(y)
  );
endmodule
