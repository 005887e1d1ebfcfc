// The accelerator: registers, streams, run control, counters, and the engine.
//
// One clock; aresetn is synchronous to it and low for at least 16 cycles (PG164 gives that).
// SOFT_RESET leads to the state after aresetn, except that the AXI4-Lite channels go on.
module bacmac_top #(
    parameter integer IN = 16,                    // bytes of a beat, inputs of the array
    parameter integer OUT = 16,                   // outputs of the array
    parameter integer TILE = 64,                  // pixels that weights are held for
    parameter integer PRODUCT = 2,                // 0 uniform-4, shared 3a; 1 uniform-4, `*`;
                                                  // 2 pot-4e4; 3 pot-4; 4 uniform-8
    parameter integer ACTIVATION_BYTES = 524288,  // at most 2^20
    parameter integer WEIGHT_BYTES = 2097152,
    parameter integer CONSTANT_BYTES = 294912,
    parameter integer PROGRAM_BYTES = 131072,
    parameter integer MAX_LAYERS = 256,           // 2 to 256
    parameter [31:0]  BUILD_ID = 32'd0            // what BUILD reads
) (
    input  wire            aclk,           // rising edge
    input  wire            aresetn,        // synchronous, active low
    // AXI4-Lite, see bacmac_registers
    input  wire [11:0]     s_axi_awaddr,   // byte
    input  wire            s_axi_awvalid,  // address valid
    output wire            s_axi_awready,  // address taken
    input  wire [31:0]     s_axi_wdata,    // word
    input  wire [3:0]      s_axi_wstrb,    // all four, else SLVERR
    input  wire            s_axi_wvalid,   // data valid
    output wire            s_axi_wready,   // data taken
    output wire [1:0]      s_axi_bresp,    // 0 OKAY, 2 SLVERR
    output wire            s_axi_bvalid,   // response valid
    input  wire            s_axi_bready,   // response taken
    input  wire [11:0]     s_axi_araddr,   // byte
    input  wire            s_axi_arvalid,  // address valid
    output wire            s_axi_arready,  // address taken
    output wire [31:0]     s_axi_rdata,    // word
    output wire [1:0]      s_axi_rresp,    // 0 OKAY, 2 SLVERR
    output wire            s_axi_rvalid,   // data valid
    input  wire            s_axi_rready,   // data taken
    // loads and images
    input  wire [8*IN-1:0] s_axis_tdata,   // beat, byte 0 lowest
    input  wire [IN-1:0]   s_axis_tkeep,   // 1: the byte is there
    input  wire            s_axis_tlast,   // last beat of its packet
    input  wire            s_axis_tvalid,  // beat valid
    output wire            s_axis_tready,  // beat taken
    // outputs
    output wire [8*IN-1:0] m_axis_tdata,   // beat, byte 0 lowest
    output wire [IN-1:0]   m_axis_tkeep,   // 1: the byte is there
    output wire            m_axis_tlast,   // last beat of its packet
    output wire            m_axis_tvalid,  // beat valid
    input  wire            m_axis_tready   // beat taken
);
  localparam integer OFFSET = $clog2(IN);

  // ---- reset: registered, as it fans out far; a write that follows SOFT_RESET comes after it
  wire rst = !aresetn;
  wire soft_reset;
  wire failed;
  reg core_rst, engine_rst;
  always_ff @(posedge aclk) begin
    core_rst <= rst || soft_reset;
    engine_rst <= core_rst || failed;
  end

  // ---- registers
  wire start, clear_counters, load, refused;
  wire [11:0] refused_offset;
  wire [1:0] stream_select;
  wire [31:0] n_images, passes, n_descriptors, load_bytes, layer_select;
  wire busy, done;
  wire [2:0] loaded;
  wire [7:0] error_code;
  wire [31:0] error_info;
  wire [383:0] counters;
  wire [239:0] layer_counters;
  wire layer_valid;

  bacmac_registers #(
      .BUILD_ID(BUILD_ID)
  ) registers (
      .clk(aclk), .rst(rst), .core_rst(core_rst),
      .s_axi_awaddr(s_axi_awaddr), .s_axi_awvalid(s_axi_awvalid), .s_axi_awready(s_axi_awready),
      .s_axi_wdata(s_axi_wdata), .s_axi_wstrb(s_axi_wstrb),
      .s_axi_wvalid(s_axi_wvalid), .s_axi_wready(s_axi_wready),
      .s_axi_bresp(s_axi_bresp), .s_axi_bvalid(s_axi_bvalid), .s_axi_bready(s_axi_bready),
      .s_axi_araddr(s_axi_araddr), .s_axi_arvalid(s_axi_arvalid), .s_axi_arready(s_axi_arready),
      .s_axi_rdata(s_axi_rdata), .s_axi_rresp(s_axi_rresp),
      .s_axi_rvalid(s_axi_rvalid), .s_axi_rready(s_axi_rready),
      .soft_reset(soft_reset), .start(start), .clear_counters(clear_counters), .load(load),
      .refused(refused), .refused_offset(refused_offset),
      .stream_select(stream_select), .n_images(n_images), .passes(passes),
      .n_descriptors(n_descriptors), .load_bytes(load_bytes), .layer_select(layer_select),
      .busy(busy), .done(done), .failed(failed), .loaded(loaded),
      .error_code(error_code), .error_info(error_info),
      .counters(counters), .layer_counters(layer_counters), .layer_valid(layer_valid)
  );

  // ---- run control
  wire load_begins, load_done, load_bad;
  wire [1:0] begun_target;
  wire [19:0] load_first_word;
  wire [31:0] load_n_bytes, load_bad_info;
  wire [7:0] load_bad_code;
  wire output_begins, output_is_last, output_done;
  wire [31:0] program_bytes, weight_bytes, constant_bytes;
  wire layer_start, layer_probe, layer_final, layer_done, layer_bad;
  wire [7:0] layer_index;
  wire [19:0] image_offset, input_address, input_bytes, output_address, output_bytes;
  wire batch_runs, images_arrive, image_done;

  bacmac_run #(
      .IN(IN), .ACTIVATION_BYTES(ACTIVATION_BYTES), .WEIGHT_BYTES(WEIGHT_BYTES),
      .CONSTANT_BYTES(CONSTANT_BYTES), .PROGRAM_BYTES(PROGRAM_BYTES), .MAX_LAYERS(MAX_LAYERS)
  ) run (
      .clk(aclk), .rst(core_rst),
      .start(start), .load(load), .refused(refused), .refused_offset(refused_offset),
      .stream_select(stream_select), .n_images(n_images), .passes(passes),
      .n_descriptors(n_descriptors), .load_bytes(load_bytes),
      .busy(busy), .done(done), .failed(failed), .loaded(loaded),
      .error_code(error_code), .error_info(error_info),
      .load_begins(load_begins), .load_target(begun_target),
      .load_first_word(load_first_word), .load_n_bytes(load_n_bytes),
      .load_done(load_done), .load_bad(load_bad),
      .load_bad_code(load_bad_code), .load_bad_info(load_bad_info),
      .output_begins(output_begins), .output_is_last(output_is_last), .output_done(output_done),
      .program_bytes(program_bytes), .weight_bytes(weight_bytes), .constant_bytes(constant_bytes),
      .layer_start(layer_start), .layer_probe(layer_probe), .layer_index(layer_index),
      .layer_final(layer_final), .image_offset(image_offset),
      .layer_done(layer_done), .layer_bad(layer_bad),
      .input_address(input_address), .input_bytes(input_bytes),
      .batch_runs(batch_runs), .images_arrive(images_arrive), .image_done(image_done)
  );

  // ---- streams
  wire load_valid;
  wire [1:0] load_target;
  wire [19:0] load_word;
  wire [8*IN-1:0] load_data;
  wire load_waits, output_waits;
  wire read_enable;
  wire [19:0] read_word;
  wire [8*IN-1:0] read_data;

  bacmac_loader #(
      .IN(IN)
  ) loader (
      .clk(aclk), .rst(core_rst),
      .begins(load_begins), .target(begun_target), .first_word(load_first_word),
      .n_bytes(load_n_bytes), .swallow(failed),
      .done(load_done), .bad(load_bad), .bad_code(load_bad_code), .bad_info(load_bad_info),
      .waiting(load_waits),
      .s_axis_tdata(s_axis_tdata), .s_axis_tkeep(s_axis_tkeep), .s_axis_tlast(s_axis_tlast),
      .s_axis_tvalid(s_axis_tvalid), .s_axis_tready(s_axis_tready),
      .load_valid(load_valid), .load_target(load_target), .load_word(load_word),
      .load_data(load_data)
  );

  bacmac_sender #(
      .IN(IN)
  ) sender (
      .clk(aclk), .rst(core_rst),
      .begins(output_begins), .first_word(output_address >> OFFSET), .n_bytes(output_bytes),
      .packet_ends(output_is_last), .stop(failed),
      .done(output_done), .waiting(output_waits),
      .read_enable(read_enable), .read_word(read_word), .read_data(read_data),
      .m_axis_tdata(m_axis_tdata), .m_axis_tkeep(m_axis_tkeep), .m_axis_tlast(m_axis_tlast),
      .m_axis_tvalid(m_axis_tvalid), .m_axis_tready(m_axis_tready)
  );

  // ---- engine and counters
  wire count_busy;
  wire [11:0] count_products, count_isolated;
  wire [23:0] count_skipped;

  bacmac_engine #(
      .IN(IN), .OUT(OUT), .TILE(TILE), .PRODUCT(PRODUCT), .ACTIVATION_BYTES(ACTIVATION_BYTES),
      .WEIGHT_BYTES(WEIGHT_BYTES), .CONSTANT_BYTES(CONSTANT_BYTES),
      .PROGRAM_BYTES(PROGRAM_BYTES)
  ) engine (
      .clk(aclk), .rst(engine_rst),
      .load_valid(load_valid), .load_target(load_target), .load_word(load_word),
      .load_data(load_data),
      .program_bytes(program_bytes), .weight_bytes(weight_bytes), .constant_bytes(constant_bytes),
      .layer_start(layer_start), .layer_probe(layer_probe), .layer_index(layer_index),
      .layer_final(layer_final), .image_offset(image_offset),
      .layer_done(layer_done), .layer_bad(layer_bad),
      .input_address(input_address), .input_bytes(input_bytes),
      .output_address(output_address), .output_bytes(output_bytes),
      .read_enable(read_enable), .read_word(read_word), .read_data(read_data),
      .count_busy(count_busy), .count_products(count_products),
      .count_isolated(count_isolated), .count_skipped(count_skipped)
  );

  bacmac_counters #(
      .MAX_LAYERS(MAX_LAYERS)
  ) counting (
      .clk(aclk), .rst(core_rst), .clear(clear_counters), .start(start && !failed),
      .batch_runs(batch_runs), .waits_for_input(images_arrive && load_waits),
      .waits_for_output(output_waits && !failed), .image_done(image_done),
      .layer_start(layer_start && !layer_probe), .layer_done(layer_done),
      .layer_index(layer_index),
      .count_busy(count_busy), .count_products(count_products),
      .count_isolated(count_isolated), .count_skipped(count_skipped),
      .counters(counters),
      .layer_select(layer_select), .layer_counters(layer_counters), .layer_valid(layer_valid)
  );
endmodule
