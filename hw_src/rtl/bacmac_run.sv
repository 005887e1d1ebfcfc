// Run control: loads, batches, and every way in which they end.
//
// A batch: IDLE, PROBE (the engine reads the first descriptor), SIZE (bytes of all images, a bit of
// the multiplier a cycle), FIT, INPUT, and for every pass and image LAYER for each descriptor and,
// in the last pass, OUTPUT. The phases do not overlap, so the cycles of a batch without those spent
// waiting for a stream do not depend on either stream. A layer starts in the cycle after the one
// before it was done. Any error leads to FAILED, and only reset leads out (docs/accelerator.md).
module bacmac_run #(
    parameter integer IN = 16,                    // bytes of a word and of a beat
    parameter integer ACTIVATION_BYTES = 524288,  // capacities
    parameter integer WEIGHT_BYTES = 2097152,
    parameter integer CONSTANT_BYTES = 294912,
    parameter integer PROGRAM_BYTES = 131072,
    parameter integer MAX_LAYERS = 256            // 2 to 256
) (
    input  wire        clk,              // rising edge
    input  wire        rst,              // synchronous, active high
    // registers, see bacmac_registers
    input  wire        start,            // pulse
    input  wire        load,             // pulse: STREAM_SELECT is written
    input  wire        refused,          // pulse: a register is written that may not be now
    input  wire [11:0] refused_offset,   // byte offset of that register
    input  wire [1:0]  stream_select,    // 0 images, 1 program, 2 weights, 3 constants
    input  wire [31:0] n_images,         // images of a batch
    input  wire [31:0] passes,           // over the batch
    input  wire [31:0] n_descriptors,    // layers of the program
    input  wire [31:0] load_bytes,       // bytes of the next load
    output wire        busy,             // a load or a batch runs
    output reg         done,             // the last batch has ended
    output wire        failed,           // 1: stopped by an error
    output reg  [2:0]  loaded,           // program, weights, constants from bit 0
    output reg  [7:0]  error_code,       // 0: none
    output reg  [31:0] error_info,       // see docs/accelerator.md
    // loader
    output wire        load_begins,      // pulse, with the three below
    output wire [1:0]  load_target,      // 0 activations, 1 program, 2 weights, 3 constants
    output wire [19:0] load_first_word,  // word
    output wire [31:0] load_n_bytes,     // bytes
    input  wire        load_done,        // pulse: all has arrived
    input  wire        load_bad,         // pulse: the packet is wrong
    input  wire [7:0]  load_bad_code,    // ERROR_CODE
    input  wire [31:0] load_bad_info,    // ERROR_INFO
    // sender
    output wire        output_begins,    // pulse
    output wire        output_is_last,   // of the batch, with it
    input  wire        output_done,      // pulse: the last beat is taken
    // engine
    output reg  [31:0] program_bytes,    // loaded
    output reg  [31:0] weight_bytes,     // bytes
    output reg  [31:0] constant_bytes,   // bytes
    output wire        layer_start,      // pulse, with the four below
    output wire        layer_probe,      // only read the descriptor
    output reg  [7:0]  layer_index,      // number of the descriptor
    output wire        layer_final,      // it is the program's last
    output reg  [19:0] image_offset,     // bytes of the batch's images before this one
    input  wire        layer_done,       // pulse
    input  wire        layer_bad,        // pulse
    input  wire [19:0] input_address,    // bytes
    input  wire [19:0] input_bytes,      // bytes of one image
    // counters
    output wire        batch_runs,       // 1: cycles count
    output wire        images_arrive,    // waiting for the input counts
    output wire        image_done        // pulse: an image has passed
);
  localparam integer OFFSET = $clog2(IN);
  localparam [31:0] CAPACITY = ACTIVATION_BYTES;
  localparam [7:0] BAD_DESCRIPTOR = 8'd1;
  localparam [7:0] OVERRUN = 8'd2;
  localparam [7:0] UNDERRUN = 8'd3;
  localparam [7:0] NOT_LOADED = 8'd4;
  localparam [7:0] BAD_BEAT = 8'd5;
  localparam [7:0] BUSY = 8'd6;
  localparam [1:0] PROGRAM = 2'd1;
  localparam [1:0] WEIGHTS = 2'd2;

  localparam [3:0] IDLE = 4'd0;
  localparam [3:0] LOAD = 4'd1;     // a load is received
  localparam [3:0] PROBE = 4'd2;    // the engine is told to read the first descriptor
  localparam [3:0] PROBING = 4'd3;  // it does
  localparam [3:0] SIZE = 4'd4;     // bytes of all images
  localparam [3:0] FIT = 4'd5;      // are they held? If so the loader is told to receive them
  localparam [3:0] INPUT = 4'd6;    // images are received
  localparam [3:0] LAYER = 4'd7;    // the engine is told to run a layer
  localparam [3:0] RUNNING = 4'd8;  // it does
  localparam [3:0] OUTPUT = 4'd9;   // the sender is told to send an image's output
  localparam [3:0] SENDING = 4'd10; // it does
  localparam [3:0] FAILED = 4'd11;

  reg [3:0] state;
  reg [4:0] size_step;         // bit of the image's bytes
  reg [20:0] image_bytes;      // in whole words
  reg [52:0] batch_bytes;      // of all images, in whole words
  reg [31:0] images_left;      // of this pass, without the one that runs
  reg [31:0] passes_left;      // without the one that runs
  wire [52:0] held_bytes = batch_bytes + {33'd0, input_address};
  wire fits = held_bytes <= {21'd0, CAPACITY};
  wire [32:0] n_done = {25'd0, layer_index} + 33'd1;
  wire last_layer = n_done == {1'b0, n_descriptors};
  wire last_pass = passes_left == 0;
  wire last_image = images_left == 0;
  wire [31:0] capacity = stream_select == PROGRAM ? PROGRAM_BYTES
      : stream_select == WEIGHTS ? WEIGHT_BYTES : CONSTANT_BYTES;
  wire load_starts = state == IDLE && load && stream_select != 0;

  // ---- what is wrong with a command
  reg [7:0] wrong_code;   // 0: nothing
  reg [31:0] wrong_info;

  always_comb begin
    wrong_code = 8'd0;
    wrong_info = 32'd0;
    if (start) begin
      if (loaded != 3'b111) begin
        wrong_code = NOT_LOADED;
        wrong_info = !loaded[0] ? 32'd1 : !loaded[1] ? 32'd2 : 32'd3;
      end else if (n_images == 0 || passes == 0 || n_descriptors == 0) begin
        wrong_code = UNDERRUN;
      end else if (n_descriptors > MAX_LAYERS) begin
        wrong_code = BAD_DESCRIPTOR;
        wrong_info = MAX_LAYERS;
      end
    end else begin
      wrong_info = load_bytes;
      if (stream_select != PROGRAM && !loaded[0]) begin
        wrong_code = NOT_LOADED;
        wrong_info = {30'd0, PROGRAM};
      end else if (load_bytes[OFFSET-1:0] != 0) begin
        wrong_code = BAD_BEAT;
      end else if (load_bytes > capacity) begin
        wrong_code = OVERRUN;
      end
    end
  end

  assign busy = state != IDLE && state != FAILED;
  assign failed = state == FAILED;
  assign load_begins = (load_starts && wrong_code == 0 && load_bytes != 0)
      || (state == FIT && fits);
  assign load_target = state == FIT ? 2'd0 : stream_select;
  assign load_first_word = state == FIT ? input_address >> OFFSET : 20'd0;
  assign load_n_bytes = state == FIT ? batch_bytes[31:0] : load_bytes;
  assign output_begins = state == OUTPUT;
  assign output_is_last = last_image;
  assign layer_start = state == PROBE || state == LAYER;
  assign layer_probe = state == PROBE;
  assign layer_final = last_layer;
  assign batch_runs = busy && state != LOAD;
  assign images_arrive = state == INPUT;
  assign image_done = state == RUNNING && layer_done && last_layer;

  always_ff @(posedge clk) begin
    case (state)
      IDLE: begin
        if (start) begin
          done <= 1'b0;
          layer_index <= 8'd0;
          image_offset <= 20'd0;
          images_left <= n_images - 32'd1;
          passes_left <= passes - 32'd1;
          state <= PROBE;
        end
        if (load_starts) begin
          if (stream_select == PROGRAM) begin
            loaded <= 3'b000;  // weights and constants are of the program before
            program_bytes <= 32'd0;
            weight_bytes <= 32'd0;
            constant_bytes <= 32'd0;
          end else begin
            loaded[stream_select-2'd1] <= 1'b0;
          end
          state <= LOAD;
          if (load_bytes == 0) begin
            loaded[stream_select-2'd1] <= 1'b1;
            if (stream_select == WEIGHTS) weight_bytes <= 32'd0;
            else constant_bytes <= 32'd0;
            state <= IDLE;
          end
        end
        if ((start || load_starts) && wrong_code != 0) begin
          error_code <= wrong_code;
          error_info <= wrong_info;
          if (load_starts) loaded[stream_select-2'd1] <= 1'b0;
          state <= FAILED;
        end
      end
      LOAD:
      if (load_done) begin
        loaded[stream_select-2'd1] <= 1'b1;
        if (stream_select == PROGRAM) program_bytes <= load_bytes;
        else if (stream_select == WEIGHTS) weight_bytes <= load_bytes;
        else constant_bytes <= load_bytes;
        state <= IDLE;
      end
      PROBE: state <= PROBING;
      PROBING: begin
        image_bytes <= ({1'b0, input_bytes} + IN[20:0] - 21'd1) & ~(IN[20:0] - 21'd1);
        batch_bytes <= 53'd0;
        size_step <= 5'd20;
        if (layer_done) state <= SIZE;
      end
      SIZE: begin
        batch_bytes <= {batch_bytes[51:0], 1'b0}
            + (image_bytes[size_step] ? {21'd0, n_images} : 53'd0);
        size_step <= size_step - 5'd1;
        if (size_step == 0) state <= FIT;
      end
      FIT:
      if (fits) begin
        state <= INPUT;
      end else begin
        error_code <= OVERRUN;
        error_info <= held_bytes[31:0];
        state <= FAILED;
      end
      INPUT: if (load_done) state <= LAYER;
      LAYER: state <= RUNNING;
      RUNNING:
      if (layer_done) begin
        state <= LAYER;
        layer_index <= layer_index + 8'd1;
        if (last_layer && last_pass) state <= OUTPUT;
      end
      OUTPUT: state <= SENDING;
      SENDING:
      if (output_done) begin
        state <= LAYER;
        if (last_image) begin
          done <= 1'b1;
          state <= IDLE;
        end
      end
      default: ;
    endcase

    // the next image, the next pass
    if (image_done) begin
      layer_index <= 8'd0;
      if (!last_pass) begin
        images_left <= last_image ? n_images - 32'd1 : images_left - 32'd1;
        image_offset <= last_image ? 20'd0 : image_offset + image_bytes[19:0];
        if (last_image) passes_left <= passes_left - 32'd1;
      end
    end
    if (state == SENDING && output_done) begin
      images_left <= images_left - 32'd1;
      image_offset <= image_offset + image_bytes[19:0];
    end

    if (state != FAILED) begin
      if (layer_bad) begin
        error_code <= BAD_DESCRIPTOR;
        error_info <= {24'd0, layer_index};
        state <= FAILED;
      end
      if (load_bad) begin
        error_code <= load_bad_code;
        error_info <= load_bad_info;
        state <= FAILED;
      end
      if (refused) begin
        error_code <= BUSY;
        error_info <= {20'd0, refused_offset};
        state <= FAILED;
      end
    end
    if (rst) begin
      state <= IDLE;
      done <= 1'b0;
      loaded <= 3'b000;
      program_bytes <= 32'd0;
      weight_bytes <= 32'd0;
      constant_bytes <= 32'd0;
      error_code <= 8'd0;
      error_info <= 32'd0;
    end
  end
endmodule
