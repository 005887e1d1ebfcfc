// The whole accelerator under the AXI rules. `dma_rst` resets the masters of the bench alone.
module shell_bench #(
    parameter integer IN = 16
) (
    input  wire            aclk,
    input  wire            aresetn,
    input  wire            dma_rst,
    input  wire [11:0]     s_axi_awaddr,
    input  wire            s_axi_awvalid,
    output wire            s_axi_awready,
    input  wire [31:0]     s_axi_wdata,
    input  wire [3:0]      s_axi_wstrb,
    input  wire            s_axi_wvalid,
    output wire            s_axi_wready,
    output wire [1:0]      s_axi_bresp,
    output wire            s_axi_bvalid,
    input  wire            s_axi_bready,
    input  wire [11:0]     s_axi_araddr,
    input  wire            s_axi_arvalid,
    output wire            s_axi_arready,
    output wire [31:0]     s_axi_rdata,
    output wire [1:0]      s_axi_rresp,
    output wire            s_axi_rvalid,
    input  wire            s_axi_rready,
    input  wire [8*IN-1:0] s_axis_tdata,
    input  wire [IN-1:0]   s_axis_tkeep,
    input  wire            s_axis_tlast,
    input  wire            s_axis_tvalid,
    output wire            s_axis_tready,
    output wire [8*IN-1:0] m_axis_tdata,
    output wire [IN-1:0]   m_axis_tkeep,
    output wire            m_axis_tlast,
    output wire            m_axis_tvalid,
    input  wire            m_axis_tready,
    output wire [3:0]      run_state,
    output wire            core_rst
);
  bacmac #(
      .IN(IN), .OUT(8), .ACTIVATION_BYTES(4096), .WEIGHT_BYTES(1024), .CONSTANT_BYTES(1536),
      .PROGRAM_BYTES(2048), .MAX_LAYERS(16), .BUILD_ID(32'hBEEF0001)
  ) accelerator (
      .aclk(aclk), .aresetn(aresetn),
      .s_axi_awaddr(s_axi_awaddr), .s_axi_awvalid(s_axi_awvalid), .s_axi_awready(s_axi_awready),
      .s_axi_wdata(s_axi_wdata), .s_axi_wstrb(s_axi_wstrb),
      .s_axi_wvalid(s_axi_wvalid), .s_axi_wready(s_axi_wready),
      .s_axi_bresp(s_axi_bresp), .s_axi_bvalid(s_axi_bvalid), .s_axi_bready(s_axi_bready),
      .s_axi_araddr(s_axi_araddr), .s_axi_arvalid(s_axi_arvalid), .s_axi_arready(s_axi_arready),
      .s_axi_rdata(s_axi_rdata), .s_axi_rresp(s_axi_rresp),
      .s_axi_rvalid(s_axi_rvalid), .s_axi_rready(s_axi_rready),
      .s_axis_tdata(s_axis_tdata), .s_axis_tkeep(s_axis_tkeep), .s_axis_tlast(s_axis_tlast),
      .s_axis_tvalid(s_axis_tvalid), .s_axis_tready(s_axis_tready),
      .m_axis_tdata(m_axis_tdata), .m_axis_tkeep(m_axis_tkeep), .m_axis_tlast(m_axis_tlast),
      .m_axis_tvalid(m_axis_tvalid), .m_axis_tready(m_axis_tready)
  );
  assign run_state = accelerator.top.run.state;
  assign core_rst = accelerator.top.core_rst;

  axi_rules #(.WIDTH(2)) b_rules (
      .clk(aclk), .rst(!aresetn), .valid(s_axi_bvalid), .ready(s_axi_bready),
      .payload(s_axi_bresp));
  axi_rules #(.WIDTH(34)) r_rules (
      .clk(aclk), .rst(!aresetn), .valid(s_axi_rvalid), .ready(s_axi_rready),
      .payload({s_axi_rresp, s_axi_rdata}));
  axi_rules #(.WIDTH(9 * IN + 1)) m_rules (
      .clk(aclk), .rst(core_rst), .valid(m_axis_tvalid), .ready(m_axis_tready),
      .payload({m_axis_tlast, m_axis_tkeep, m_axis_tdata}));
endmodule
