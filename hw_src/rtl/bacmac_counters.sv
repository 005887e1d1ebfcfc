// Counters of the run, and of each layer over a batch.
//
// 48 bits each. What the engine says is added one cycle later. A layer's counters lie in a memory:
// the row is read when the layer starts, counted on, and written back two cycles after it is done.
// Rows of layers that have not run since START count as 0, so nothing need ever be erased.
module bacmac_counters #(
    parameter integer MAX_LAYERS = 256  // 2 to 256
) (
    input  wire         clk,               // rising edge
    input  wire         rst,               // synchronous, active high
    input  wire         clear,             // pulse: zero the counters, not the layers'
    input  wire         start,             // pulse: zero the layers'
    // run control
    input  wire         batch_runs,        // 1: cycles count
    input  wire         waits_for_input,   // 1: the input stream keeps the batch waiting
    input  wire         waits_for_output,  // 1: the output stream does
    input  wire         image_done,        // pulse: an image has passed
    input  wire         layer_start,       // pulse, not for a probe
    input  wire         layer_done,        // pulse; ignored where no layer runs
    input  wire [7:0]   layer_index,       // in both
    // engine
    input  wire         count_busy,        // a pixel is issued
    input  wire [11:0]  count_products,    // slots
    input  wire [11:0]  count_isolated,    // slots
    input  wire [23:0]  count_skipped,     // slots
    // registers
    output wire [383:0] counters,          // cycles, busy, waiting for input, waiting for output,
                                           // products, isolated, skipped, images from bit 0
    input  wire [31:0]  layer_select,      // number of a layer
    output wire [239:0] layer_counters,    // cycles, busy, products, isolated, skipped from bit 0
    output reg          layer_valid        // they are layer_select's of the cycle before
);
  localparam integer ADDRESS = $clog2(MAX_LAYERS);

  // ---- of the run
  reg [47:0] n_cycles, n_busy, n_waited_in, n_waited_out;
  reg [47:0] n_products, n_isolated, n_skipped, n_images;
  reg busy_1;
  reg [11:0] products_1, isolated_1;
  reg [23:0] skipped_1;

  assign counters = {n_images, n_skipped, n_isolated, n_products,
                     n_waited_out, n_waited_in, n_busy, n_cycles};

  always_ff @(posedge clk) begin
    busy_1 <= batch_runs && count_busy;
    products_1 <= batch_runs ? count_products : 12'd0;
    isolated_1 <= batch_runs ? count_isolated : 12'd0;
    skipped_1 <= batch_runs ? count_skipped : 24'd0;
    if (rst || clear) begin
      n_cycles <= 48'd0;
      n_busy <= 48'd0;
      n_waited_in <= 48'd0;
      n_waited_out <= 48'd0;
      n_products <= 48'd0;
      n_isolated <= 48'd0;
      n_skipped <= 48'd0;
      n_images <= 48'd0;
    end else begin
      if (batch_runs) n_cycles <= n_cycles + 48'd1;
      if (busy_1) n_busy <= n_busy + 48'd1;
      if (waits_for_input) n_waited_in <= n_waited_in + 48'd1;
      if (waits_for_output) n_waited_out <= n_waited_out + 48'd1;
      n_products <= n_products + {36'd0, products_1};
      n_isolated <= n_isolated + {36'd0, isolated_1};
      n_skipped <= n_skipped + {24'd0, skipped_1};
      if (image_done) n_images <= n_images + 48'd1;
    end
  end

  // ---- of the layers
  reg [239:0] rows[0:MAX_LAYERS-1];
  reg [239:0] row;               // as read
  reg row_ran;                   // its layer has run since START
  reg [8:0] n_ran;               // layers that have run since START
  reg [8:0] held;                // layer that the sums below are of; 256: none
  reg starts_1, done_1, done_2, runs;
  reg [7:0] index_1;
  reg is_held_1;
  reg [47:0] cycles, busy, products, isolated, skipped;
  wire [31:0] address = layer_start ? {24'd0, layer_index} : layer_select;
  wire [239:0] sums = {skipped, isolated, products, busy, cycles};
  // of a program with one layer, the row is not written yet when it is read again
  wire [239:0] from = is_held_1 ? sums : row_ran ? row : 240'd0;

  assign layer_counters = row_ran ? row : 240'd0;

  always_ff @(posedge clk) begin
    row <= rows[address[ADDRESS-1:0]];
    if (done_2) rows[held[ADDRESS-1:0]] <= sums;
    row_ran <= address < {23'd0, n_ran};
    layer_valid <= !layer_start;

    starts_1 <= layer_start;
    index_1 <= layer_index;
    is_held_1 <= held == {1'b0, layer_index};
    done_1 <= layer_done && runs;
    done_2 <= done_1;
    if (layer_start) runs <= 1'b1;
    else if (layer_done) runs <= 1'b0;

    if (starts_1) begin
      cycles <= from[47:0] + 48'd1;
      busy <= from[95:48] + {47'd0, busy_1};
      products <= from[143:96] + {36'd0, products_1};
      isolated <= from[191:144] + {36'd0, isolated_1};
      skipped <= from[239:192] + {24'd0, skipped_1};
      held <= {1'b0, index_1};
    end else begin
      if (runs || done_1) cycles <= cycles + 48'd1;
      busy <= busy + {47'd0, busy_1};
      products <= products + {36'd0, products_1};
      isolated <= isolated + {36'd0, isolated_1};
      skipped <= skipped + {24'd0, skipped_1};
    end
    if (done_2 && {1'b0, held[7:0]} >= n_ran) n_ran <= {1'b0, held[7:0]} + 9'd1;

    if (start || rst) begin
      n_ran <= 9'd0;
      held <= 9'd256;
    end
    if (rst) begin
      runs <= 1'b0;
      starts_1 <= 1'b0;
      done_1 <= 1'b0;
      done_2 <= 1'b0;
    end
  end
endmodule
