// Has the ports of the engine and none of its insides: a layer takes as long as its descriptor says
// in `weight_bytes`, and its output is its input, over and over, plus the layer's number plus 1.
// A descriptor of kind 255 is bad. A probe takes PROBE_CYCLES. Half of a layer's cycles are busy,
// with 3 products and 1 slot isolated each; `n_skipped` slots are skipped in its first cycle.
module bacmac_engine #(
    parameter integer IN = 16,
    parameter integer OUT = 16,
    parameter integer TILE = 64,
    parameter integer PRODUCT = 2,
    parameter integer ACTIVATION_BYTES = 524288,
    parameter integer WEIGHT_BYTES = 2097152,
    parameter integer CONSTANT_BYTES = 196608,
    parameter integer PROGRAM_BYTES = 131072
) (
    input  wire            clk,
    input  wire            rst,
    input  wire            load_valid,
    input  wire [1:0]      load_target,
    input  wire [19:0]     load_word,
    input  wire [8*IN-1:0] load_data,
    input  wire [31:0]     program_bytes,
    input  wire [31:0]     weight_bytes,
    input  wire [31:0]     constant_bytes,
    input  wire            layer_start,
    input  wire            layer_probe,
    input  wire [7:0]      layer_index,
    input  wire            layer_final,
    input  wire [19:0]     image_offset,
    output reg             layer_done,
    output reg             layer_bad,
    output reg  [19:0]     input_address,
    output reg  [19:0]     input_bytes,
    output reg  [19:0]     output_address,
    output reg  [19:0]     output_bytes,
    input  wire            read_enable,
    input  wire [19:0]     read_word,
    output reg  [8*IN-1:0] read_data,
    output reg             count_busy,
    output reg  [11:0]     count_products,
    output reg  [11:0]     count_isolated,
    output reg  [23:0]     count_skipped
);
  localparam integer PROBE_CYCLES = 5;  // from layer_start to layer_done, both counted

  reg [7:0] activations[0:ACTIVATION_BYTES-1];
  reg [7:0] program_memory[0:PROGRAM_BYTES-1];
  reg [7:0] weights[0:WEIGHT_BYTES-1];      // only written: the bench looks into them
  reg [7:0] constants[0:CONSTANT_BYTES-1];
  reg [511:0] d;
  reg [31:0] cycle, n_cycles;  // of the layer
  reg probe, final_layer, runs;
  reg [7:0] index;
  reg [19:0] from;
  reg [8*IN-1:0] word;
  integer i;

  always @(posedge clk) begin
    layer_done <= 1'b0;
    layer_bad <= 1'b0;
    count_busy <= 1'b0;
    count_products <= 12'd0;
    count_isolated <= 12'd0;
    count_skipped <= 24'd0;
    if (load_valid)
      for (i = 0; i < IN; i = i + 1)
        case (load_target)
          2'd0: activations[load_word*IN+i] <= load_data[8*i+:8];
          2'd1: program_memory[load_word*IN+i] <= load_data[8*i+:8];
          2'd2: weights[load_word*IN+i] <= load_data[8*i+:8];
          default: constants[load_word*IN+i] <= load_data[8*i+:8];
        endcase

    for (i = 0; i < IN; i = i + 1) word[8*i+:8] <= activations[read_word*IN+i];
    read_data <= word;

    if (layer_start) begin
      for (i = 0; i < 64; i = i + 1) d[8*i+:8] = program_memory[layer_index*64+i];
      input_address <= d[211:192];
      input_bytes <= d[143:128] * d[159:144] * d[175:160];
      output_address <= d[243:224];
      output_bytes <= d[463:448] * d[479:464] * d[191:176];
      n_cycles <= layer_probe ? PROBE_CYCLES : d[351:320];
      probe <= layer_probe;
      final_layer <= layer_final;
      index <= layer_index;
      from <= d[211:192] + (d[11] ? image_offset : 20'd0);
      cycle <= 32'd1;
      runs <= 1'b1;
      if (!layer_probe) count_skipped <= {8'd0, d[511:496]};
    end else if (runs) begin
      cycle <= cycle + 32'd1;
      if (!probe && cycle <= n_cycles / 2) begin
        count_busy <= 1'b1;
        count_products <= 12'd3;
        count_isolated <= 12'd1;
      end
      if (cycle == n_cycles - 2) begin
        runs <= 1'b0;
        if (d[7:0] == 8'd255 || d[13] != final_layer
            || program_bytes < ({24'd0, index} + 1) * 64) layer_bad <= 1'b1;
        else layer_done <= 1'b1;
        if (!probe)
          for (i = 0; i < output_bytes; i = i + 1)
            activations[output_address+i] <= activations[from+i%input_bytes] + index + 8'd1;
      end
    end
    if (rst) begin
      runs <= 1'b0;
      layer_done <= 1'b0;
      layer_bad <= 1'b0;
    end
  end
endmodule
