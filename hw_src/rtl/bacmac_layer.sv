// Reads a layer's descriptor, derives what the loops need, and refuses what makes no sense.
//
// The descriptor holds what the layer is (docs/accelerator.md); distances in bytes are products of
// its fields and come from one multiplier, a step every two cycles. The time from `start` to
// `ready` is the same for every layer.
module bacmac_layer #(
    parameter integer IN = 16,              // bytes of a word
    parameter integer OUT = 16,             // channels of a block
    parameter integer ACTIVATION_BYTES = 524288
) (
    input  wire            clk,                 // rising edge
    input  wire            rst,                 // synchronous, active high
    input  wire            start,               // pulse: begin with this descriptor
    input  wire [7:0]      index,               // its number, with start
    input  wire            final_layer,         // it is the program's last, with start
    input  wire [19:0]     image_offset,        // bytes of the batch's images before this one
    input  wire [31:0]     program_bytes,       // what is loaded
    input  wire [31:0]     weight_bytes,        // bytes
    input  wire [31:0]     constant_bytes,      // bytes
    output reg             read_enable,         // program memory
    output reg  [19:0]     read_word,           // word
    input  wire [8*IN-1:0] read_data,           // two cycles later
    output reg             ready,               // pulse: all below is valid until the next start
    output reg             bad,                 // pulse instead: it makes no sense
    output wire            pool,                // not a convolution
    output wire            maximum,             // a max pool
    output wire            wide,                // int32 outputs
    output wire            residual,            // a second input is added
    output wire            residual_signed,     // 1: int8, 0: uint8
    output wire            input_signed,        // 1: int8, 0: uint8
    output wire [7:0]      fill,                // what padding is, as the array takes it
    output wire [15:0]     low,                 // clamp
    output wire [15:0]     high,                // largest stored value
    output wire [15:0]     in_h,                // rows
    output wire [15:0]     out_w,               // pixels of a row
    output wire [15:0]     out_c,               // channels
    output wire [7:0]      stride_h,            // rows
    output wire [7:0]      pad_top,             // rows
    output reg  [19:0]     row_bytes,           // one row of the input
    output reg  [19:0]     row_limit,           // where a window row ends: row_bytes, all if dense
    output reg  [23:0]     x_step,              // bytes from one pixel's window to the next
    output reg  [23:0]     x_before,            // bytes of the left padding
    output reg  [19:0]     y_step,              // bytes (modulo 2^20) from a row of windows to the next
    output reg  [19:0]     y_before,            // bytes (modulo 2^20) of the top padding
    output reg  [19:0]     input_bytes,         // the whole input
    output reg  [19:0]     n_pixels,            // output pixels
    output reg  [17:0]     pixel_bytes,         // of one output pixel
    output reg  [19:0]     output_bytes,        // the whole output
    output reg  [15:0]     n_blocks,            // output blocks
    output wire [19:0]     input_address,       // without the image's offset
    output wire [19:0]     output_address,      // byte
    output reg  [19:0]     source_address,      // with the image's offset where it is an image
    output reg  [19:0]     residual_source,     // byte
    output wire [19:0]     list_word,           // first word of the group list
    output wire [15:0]     n_entries,           // of the group list
    output wire [15:0]     n_skipped,           // groups that are not in it
    output wire [19:0]     weight_word,         // first word of the weights
    output wire [31:0]     layer_weight_bytes,  // bytes of the layer's groups
    output wire [15:0]     constant_row         // of the first block
);
  localparam integer OFFSET = $clog2(IN);
  localparam integer BLOCK = $clog2(OUT);
  localparam integer WORDS = 64 / IN;
  localparam [31:0] CAPACITY = ACTIVATION_BYTES;
  localparam [31:0] RECORD_BYTES = 64;
  localparam [31:0] ROW_BYTES = 12 * OUT;

  // ---- the descriptor, as it lies in memory
  reg [511:0] d;
  wire [7:0] kind = d[7:0];
  wire [7:0] flags = d[15:8];
  wire [7:0] kernel_h = d[23:16];
  wire [7:0] kernel_w = d[31:24];
  wire [7:0] stride_w = d[47:40];
  wire [7:0] pad_left = d[63:56];
  wire [7:0] pad_bottom = d[71:64];
  wire [7:0] pad_right = d[79:72];
  wire [15:0] in_w = d[159:144];
  wire [15:0] in_c = d[175:160];
  wire [31:0] input_at = d[223:192];
  wire [31:0] output_at = d[255:224];
  wire [31:0] residual_at = d[287:256];
  wire [31:0] weight_at = d[319:288];
  wire [31:0] row_at = d[383:352];
  wire [31:0] list_at = d[415:384];
  wire [15:0] out_h = d[463:448];
  wire requantize = flags[0];
  wire dense = flags[2];

  assign stride_h = d[39:32];
  assign pad_top = d[55:48];
  assign low = d[95:80];
  assign high = d[111:96];
  assign in_h = d[143:128];
  assign out_c = d[191:176];
  assign layer_weight_bytes = d[351:320];
  assign out_w = d[479:464];
  assign n_entries = d[495:480];
  assign n_skipped = d[511:496];
  assign pool = kind != 8'd0;
  assign maximum = kind == 8'd1;
  assign residual = flags[1];
  assign residual_signed = flags[6];
  assign input_signed = flags[7];
  assign wide = !pool && !requantize;
  assign fill = (maximum ? d[423:416] : 8'd0) ^ {input_signed, 7'd0};
  assign input_address = input_at[19:0];
  assign output_address = output_at[19:0];
  assign list_word = list_at[OFFSET+:20];
  assign weight_word = weight_at[OFFSET+:20];
  assign constant_row = row_at[15:0];

  // ---- steps
  localparam [4:0] IDLE = 5'd31;
  reg fetching;
  reg [7:0] fetch;          // word asked for
  reg [1:0] fetched_valid;  // words under way
  reg [7:0] fetched;        // words taken
  reg [4:0] step;
  reg second;               // second cycle of a step: the product is there
  reg final_1;
  reg wrong;
  reg [19:0] left, right;   // operands of the multiplier
  reg [39:0] product;
  reg [19:0] offset;
  wire [15:0] last_row = out_h - 16'd1;
  wire [15:0] last_column = out_w - 16'd1;
  // rows and columns that the last window leaves over: at least 0 and below the stride
  wire [19:0] rest_h = {4'd0, in_h} + {12'd0, pad_top} + {12'd0, pad_bottom} - {12'd0, kernel_h};
  wire [19:0] rest_w = {4'd0, in_w} + {12'd0, pad_left} + {12'd0, pad_right} - {12'd0, kernel_w};
  wire is_zero = kernel_h == 0 || kernel_w == 0 || stride_h == 0 || stride_w == 0 || in_h == 0
      || in_w == 0 || in_c == 0 || out_c == 0 || out_h == 0 || out_w == 0 || n_entries == 0;
  wire odd_flags = kind > 8'd2 || flags[5] != final_1 || (wide && !final_1)
      || (pool && (residual || in_c != out_c)) || (wide && residual);
  wire unaligned = input_at[OFFSET-1:0] != 0 || output_at[OFFSET-1:0] != 0
      || residual_at[OFFSET-1:0] != 0 || weight_at[OFFSET-1:0] != 0 || list_at[OFFSET-1:0] != 0;
  wire [32:0] list_end = {1'b0, list_at} + {15'd0, n_entries, 2'd0};
  wire [32:0] weight_end = {1'b0, weight_at} + {1'b0, layer_weight_bytes};
  wire [32:0] row_end = {1'b0, row_at} + {17'd0, n_blocks};
  wire [44:0] rows_bytes = row_end[31:0] * ROW_BYTES[12:0];

  always_ff @(posedge clk) begin
    ready <= 1'b0;
    bad <= 1'b0;
    read_enable <= 1'b0;
    fetched_valid <= {fetched_valid[0], read_enable};
    product <= left * right;
    if (rst) begin
      fetching <= 1'b0;
      fetched_valid <= 2'd0;
      step <= IDLE;
    end else if (start) begin
      fetching <= 1'b1;
      fetch <= 8'd1;
      fetched <= 8'd0;
      read_enable <= 1'b1;
      read_word <= {12'd0, index} << (6 - OFFSET);
      final_1 <= final_layer;
      offset <= image_offset;
      wrong <= ({24'd0, index} + 32'd1) * RECORD_BYTES > program_bytes;
    end else if (fetching) begin
      if (fetch != WORDS[7:0]) begin
        read_enable <= 1'b1;
        read_word <= read_word + 20'd1;
        fetch <= fetch + 8'd1;
      end
      if (fetched_valid[1]) begin
        d <= {read_data, d[511:8*IN]};  // the first word ends up lowest
        fetched <= fetched + 8'd1;
        if (fetched == WORDS[7:0] - 8'd1) begin
          fetching <= 1'b0;
          step <= 5'd0;
          second <= 1'b0;
        end
      end
    end else if (step != IDLE) begin
      second <= !second;
      if (!second) begin
        case (step)
          5'd0: begin left <= {4'd0, in_w}; right <= {4'd0, in_c}; end
          5'd1: begin left <= {12'd0, stride_w}; right <= {4'd0, in_c}; end
          5'd2: begin left <= {12'd0, pad_left}; right <= {4'd0, in_c}; end
          5'd3: begin left <= {12'd0, stride_h}; right <= row_bytes; end
          5'd4: begin left <= {12'd0, pad_top}; right <= row_bytes; end
          5'd5: begin left <= {4'd0, in_h}; right <= row_bytes; end
          5'd6: begin left <= {4'd0, out_h}; right <= {4'd0, out_w}; end
          // n_pixels as it comes: the register still holds the layer before
          5'd7: begin left <= product[19:0]; right <= {2'd0, pixel_bytes}; end
          5'd8: begin left <= {4'd0, last_row}; right <= {12'd0, stride_h}; end
          5'd9: begin left <= {4'd0, last_column}; right <= {12'd0, stride_w}; end
          default: ;
        endcase
        // what the step before asked for
        case (step)
          5'd1: begin row_bytes <= product[19:0]; wrong <= wrong || product[39:20] != 0; end
          5'd2: x_step <= product[23:0];
          5'd3: x_before <= product[23:0];
          5'd4: y_step <= product[19:0];
          5'd5: y_before <= product[19:0];
          5'd6: begin
            input_bytes <= product[19:0];
            wrong <= wrong || product > {8'd0, CAPACITY} || product[39:20] != 0;
            row_limit <= dense ? product[19:0] : row_bytes;
          end
          5'd7: begin n_pixels <= product[19:0]; wrong <= wrong || product[39:20] != 0; end
          5'd8: begin
            output_bytes <= product[19:0];
            wrong <= wrong || product > {8'd0, CAPACITY} || product[39:20] != 0;
          end
          5'd9: wrong <= wrong || rest_h[19] || product > {20'd0, rest_h}
              || {20'd0, rest_h} - product >= {32'd0, stride_h};
          5'd10: wrong <= wrong || rest_w[19] || product > {20'd0, rest_w}
              || {20'd0, rest_w} - product >= {32'd0, stride_w};
          default: ;
        endcase
      end else begin
        step <= step + 5'd1;
        case (step)
          5'd0: begin
            wrong <= wrong || is_zero || odd_flags || unaligned;
            pixel_bytes <= wide ? {out_c, 2'd0} : {2'd0, out_c};
            n_blocks <= (out_c + OUT[15:0] - 16'd1) >> BLOCK;
            source_address <= input_address + (flags[3] ? offset : 20'd0);
            residual_source <= residual_at[19:0] + (flags[4] ? offset : 20'd0);
          end
          5'd2: wrong <= wrong || list_end > {1'b0, program_bytes}
              || weight_end > {1'b0, weight_bytes};
          5'd4: wrong <= wrong || row_end[32] || rows_bytes > {13'd0, constant_bytes};
          5'd8: wrong <= wrong || {1'b0, output_at} + {13'd0, output_bytes} > {1'b0, CAPACITY}
              || {1'b0, input_at} + {13'd0, input_bytes} + (flags[3] ? {13'd0, offset} : 33'd0)
                 > {1'b0, CAPACITY};
          5'd9: wrong <= wrong || (residual && {1'b0, residual_at} + {13'd0, output_bytes}
              + (flags[4] ? {13'd0, offset} : 33'd0) > {1'b0, CAPACITY});
          5'd11: begin
            ready <= !wrong;
            bad <= wrong;
            step <= IDLE;
          end
          default: ;
        endcase
      end
    end
  end

  wire unused = &{1'b0, d[127:112], d[447:424], input_at[31:20], list_at[31:20+OFFSET],
                  weight_at[31:20+OFFSET], row_at[31:16], residual_at[31:20], output_at[31:20]};
endmodule
