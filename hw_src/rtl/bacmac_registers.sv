// AXI4-Lite slave of the register table (overlays/regmaps/accelerator-v2.toml).
//
// AW and W may come in any order and apart; a write acts when both are held and the response of
// the one before is taken. Every ready is a register's output: none depends on a valid or a ready
// in its own cycle. SLVERR answers an offset without a register, one that is not a multiple of 4,
// a write to a read-only register (and a read of a write-only one), and a write without all four
// strobes; nothing changes then. Protocol: AMBA AXI and ACE Protocol Specification, IHI 0022.
//
// Latency: a write acts 1 cycle after the later of AW and W, its response comes with the cycle
// after; a read's data come 2 cycles after AR (later while a layer's counters are in use).
module bacmac_registers #(
    parameter [31:0] BUILD_ID = 32'd0  // what BUILD reads
) (
    input  wire         clk,             // rising edge
    input  wire         rst,             // of the AXI channels
    input  wire         core_rst,        // of the values; also after soft_reset
    // AXI4-Lite
    input  wire [11:0]  s_axi_awaddr,    // bytes
    input  wire         s_axi_awvalid,   // address valid
    output wire         s_axi_awready,   // address taken
    input  wire [31:0]  s_axi_wdata,     // word
    input  wire [3:0]   s_axi_wstrb,     // all four, else SLVERR
    input  wire         s_axi_wvalid,    // data valid
    output wire         s_axi_wready,    // data taken
    output reg  [1:0]   s_axi_bresp,     // 0 OKAY, 2 SLVERR
    output reg          s_axi_bvalid,    // response valid
    input  wire         s_axi_bready,    // response taken
    input  wire [11:0]  s_axi_araddr,    // bytes
    input  wire         s_axi_arvalid,   // address valid
    output wire         s_axi_arready,   // address taken
    output reg  [31:0]  s_axi_rdata,     // word
    output reg  [1:0]   s_axi_rresp,     // as bresp
    output reg          s_axi_rvalid,    // data valid
    input  wire         s_axi_rready,    // data taken
    // commands, a pulse each
    output wire         soft_reset,      // in the cycle of the write
    output reg          start,           // the cycle after, as those that follow
    output reg          clear_counters,  // pulse
    output reg          load,            // STREAM_SELECT was written
    output reg          refused,         // a write that must not come while busy
    output reg  [11:0]  refused_offset,  // bytes, with refused
    // values
    output reg  [1:0]   stream_select,   // 0 images, 1 program, 2 weights, 3 constants
    output reg  [31:0]  n_images,        // images of a batch
    output reg  [31:0]  passes,          // over the batch
    output reg  [31:0]  n_descriptors,   // layers of the program
    output reg  [31:0]  load_bytes,      // bytes of the next load
    output reg  [31:0]  layer_select,    // number of a layer
    // state
    input  wire         busy,            // 1: a load or a batch runs
    input  wire         done,            // 1: the last batch has ended
    input  wire         failed,          // 1: stopped by an error
    input  wire [2:0]   loaded,          // program, weights, constants from bit 0
    input  wire [7:0]   error_code,      // 0: none
    input  wire [31:0]  error_info,      // see docs/accelerator.md
    input  wire [383:0] counters,        // 8 x 48 bits, see bacmac_counters
    input  wire [239:0] layer_counters,  // 5 x 48 bits, of layer layer_select
    input  wire         layer_valid      // layer_counters are to be read in this cycle
);
  `include "bacmac_registers.svh"
  localparam [1:0] OKAY = 2'd0;
  localparam [1:0] SLVERR = 2'd2;
  localparam integer N_COUNTERS = 13;

  // ---- writing
  reg aw_held, w_held, strobed;
  reg [11:0] write_address;
  reg [31:0] write_data;
  wire [9:0] write_word = write_address[11:2];
  wire write_now = aw_held && w_held && !s_axi_bvalid;
  wire write_good = strobed && write_address[1:0] == 2'd0 && write_word < N_WORDS
      && WRITABLE[write_word[$clog2(N_WORDS)-1:0]];
  wire writes = write_now && write_good;
  wire control = writes && write_word == AT_CTRL;
  wire guarded = write_word == AT_STREAM_SELECT || write_word == AT_LOAD_BYTES
      || write_word == AT_N_IMAGES || write_word == AT_REPEAT || write_word == AT_N_DESCRIPTORS
      || (write_word == AT_CTRL && write_data[CTRL_START_LSB]);
  wire accepted = writes && !soft_reset && !(guarded && busy);

  assign s_axi_awready = !aw_held;
  assign s_axi_wready = !w_held;
  assign soft_reset = control && write_data[CTRL_SOFT_RESET_LSB];

  always_ff @(posedge clk) begin
    if (rst) begin
      aw_held <= 1'b0;
      w_held <= 1'b0;
      s_axi_bvalid <= 1'b0;
    end else begin
      if (s_axi_awvalid && s_axi_awready) aw_held <= 1'b1;
      if (s_axi_wvalid && s_axi_wready) w_held <= 1'b1;
      if (s_axi_bready) s_axi_bvalid <= 1'b0;
      if (write_now) begin
        aw_held <= 1'b0;
        w_held <= 1'b0;
        s_axi_bvalid <= 1'b1;
      end
    end
    if (s_axi_awready) write_address <= s_axi_awaddr;
    if (s_axi_wready) begin
      write_data <= s_axi_wdata;
      strobed <= &s_axi_wstrb;
    end
    if (write_now) s_axi_bresp <= write_good ? OKAY : SLVERR;
  end

  always_ff @(posedge clk) begin
    if (core_rst) begin
      start <= 1'b0;
      clear_counters <= 1'b0;
      load <= 1'b0;
      refused <= 1'b0;
      stream_select <= RESET_STREAM_SELECT[1:0];
      n_images <= RESET_N_IMAGES;
      passes <= RESET_REPEAT;
      n_descriptors <= RESET_N_DESCRIPTORS;
      load_bytes <= RESET_LOAD_BYTES;
      layer_select <= RESET_LAYER_SELECT;
    end else begin
      start <= accepted && control && write_data[CTRL_START_LSB];
      clear_counters <= control && !soft_reset && write_data[CTRL_CLEAR_COUNTERS_LSB];
      load <= accepted && write_word == AT_STREAM_SELECT;
      refused <= writes && !soft_reset && guarded && busy;
      if (accepted) begin
        case (write_word)
          AT_STREAM_SELECT: stream_select <= write_data[STREAM_SELECT_SELECT_LSB+:2];
          AT_N_IMAGES: n_images <= write_data;
          AT_REPEAT: passes <= write_data;
          AT_N_DESCRIPTORS: n_descriptors <= write_data;
          AT_LOAD_BYTES: load_bytes <= write_data;
          AT_LAYER_SELECT: layer_select <= write_data;
          default: ;
        endcase
      end
    end
    refused_offset <= write_address;
  end

  // ---- reading
  reg ar_held;
  reg [11:0] read_address;
  reg [31:0] value;
  reg [3:0] number;        // of the counter
  reg is_counter, is_high;
  reg [16*N_COUNTERS-1:0] high;  // upper words, as they were when the lower word was read
  wire [9:0] read_word = read_address[11:2];
  wire read_good = read_address[1:0] == 2'd0 && read_word < N_WORDS
      && READABLE[read_word[$clog2(N_WORDS)-1:0]];
  wire read_now = ar_held && !s_axi_rvalid && layer_valid;
  wire [48*N_COUNTERS-1:0] all_counters = {layer_counters, counters};
  wire [47:0] counter = all_counters[48*number+:48];

  assign s_axi_arready = !ar_held;

  always_comb begin
    is_counter = 1'b1;
    is_high = 1'b0;
    number = 4'd0;
    case (read_word)
      AT_CYCLES_LO: number = 4'd0;
      AT_BUSY_CYCLES_LO: number = 4'd1;
      AT_STALL_IN_CYCLES_LO: number = 4'd2;
      AT_STALL_OUT_CYCLES_LO: number = 4'd3;
      AT_PRODUCTS_LO: number = 4'd4;
      AT_ISOLATED_LO: number = 4'd5;
      AT_SKIPPED_LO: number = 4'd6;
      AT_IMAGES_LO: number = 4'd7;
      AT_LAYER_CYCLES_LO: number = 4'd8;
      AT_LAYER_BUSY_LO: number = 4'd9;
      AT_LAYER_PRODUCTS_LO: number = 4'd10;
      AT_LAYER_ISOLATED_LO: number = 4'd11;
      AT_LAYER_SKIPPED_LO: number = 4'd12;
      AT_CYCLES_HI: {is_high, number} = {1'b1, 4'd0};
      AT_BUSY_CYCLES_HI: {is_high, number} = {1'b1, 4'd1};
      AT_STALL_IN_CYCLES_HI: {is_high, number} = {1'b1, 4'd2};
      AT_STALL_OUT_CYCLES_HI: {is_high, number} = {1'b1, 4'd3};
      AT_PRODUCTS_HI: {is_high, number} = {1'b1, 4'd4};
      AT_ISOLATED_HI: {is_high, number} = {1'b1, 4'd5};
      AT_SKIPPED_HI: {is_high, number} = {1'b1, 4'd6};
      AT_IMAGES_HI: {is_high, number} = {1'b1, 4'd7};
      AT_LAYER_CYCLES_HI: {is_high, number} = {1'b1, 4'd8};
      AT_LAYER_BUSY_HI: {is_high, number} = {1'b1, 4'd9};
      AT_LAYER_PRODUCTS_HI: {is_high, number} = {1'b1, 4'd10};
      AT_LAYER_ISOLATED_HI: {is_high, number} = {1'b1, 4'd11};
      AT_LAYER_SKIPPED_HI: {is_high, number} = {1'b1, 4'd12};
      default: is_counter = 1'b0;
    endcase
  end

  always_comb begin
    value = 32'd0;
    case (read_word)
      AT_ID: value = RESET_ID;
      AT_ABI: value = RESET_ABI;
      AT_BUILD: value = BUILD_ID;
      AT_STATUS: begin
        value[STATUS_IDLE_LSB] = !busy && !failed;
        value[STATUS_BUSY_LSB] = busy;
        value[STATUS_DONE_LSB] = done;
        value[STATUS_ERROR_LSB] = failed;
        value[STATUS_PROGRAM_LSB] = loaded[0];
        value[STATUS_WEIGHTS_LSB] = loaded[1];
        value[STATUS_CONSTANTS_LSB] = loaded[2];
        value[STATUS_ERROR_CODE_LSB+:8] = error_code;
      end
      AT_STREAM_SELECT: value[STREAM_SELECT_SELECT_LSB+:2] = stream_select;
      AT_N_IMAGES: value = n_images;
      AT_REPEAT: value = passes;
      AT_N_DESCRIPTORS: value = n_descriptors;
      AT_ERROR_INFO: value = error_info;
      AT_LOAD_BYTES: value = load_bytes;
      AT_LAYER_SELECT: value = layer_select;
      default: if (is_counter) value = is_high ? {16'd0, high[16*number+:16]} : counter[31:0];
    endcase
  end

  always_ff @(posedge clk) begin
    if (rst) begin
      ar_held <= 1'b0;
      s_axi_rvalid <= 1'b0;
    end else begin
      if (s_axi_arvalid && s_axi_arready) ar_held <= 1'b1;
      if (s_axi_rready) s_axi_rvalid <= 1'b0;
      if (read_now) begin
        ar_held <= 1'b0;
        s_axi_rvalid <= 1'b1;
      end
    end
    if (s_axi_arready) read_address <= s_axi_araddr;
    if (read_now) begin
      s_axi_rdata <= read_good ? value : 32'd0;
      s_axi_rresp <= read_good ? OKAY : SLVERR;
    end
    if (core_rst) high <= {16 * N_COUNTERS{1'b0}};
    else if (read_now && is_counter && !is_high) high[16*number+:16] <= counter[47:32];
  end
endmodule
