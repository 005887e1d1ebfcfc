// The input stream: one announced packet at a time, checked and handed to the engine's memories.
//
// A packet is `n_bytes` long, in whole beats, TLAST with the last. What is not so is reported once
// and everything after it is swallowed until reset. Takes a beat every cycle; a beat is written
// the cycle after it came. tready is a register's output and does not depend on tvalid.
module bacmac_loader #(
    parameter integer IN = 16  // bytes of a beat and of a word
) (
    input  wire            clk,            // rising edge
    input  wire            rst,            // synchronous, active high
    input  wire            begins,         // pulse: a packet is awaited, with the three below
    input  wire [1:0]      target,         // 0 activations, 1 program, 2 weights, 3 constants
    input  wire [19:0]     first_word,     // where its first beat goes
    input  wire [31:0]     n_bytes,        // not 0, whole beats
    input  wire            swallow,        // stopped by an error: take all, keep nothing
    output reg             done,           // pulse: the packet is in
    output reg             bad,            // pulse: it is not as announced
    output reg  [7:0]      bad_code,       // ERROR_CODE, with bad
    output reg  [31:0]     bad_info,       // ERROR_INFO, with bad
    output wire            waiting,        // a beat is awaited and none is there
    // AXI4-Stream
    input  wire [8*IN-1:0] s_axis_tdata,   // beat, byte 0 lowest
    input  wire [IN-1:0]   s_axis_tkeep,   // 1: the byte is there
    input  wire            s_axis_tlast,   // last beat of its packet
    input  wire            s_axis_tvalid,  // beat valid
    output reg             s_axis_tready,  // beat taken
    // engine
    output reg             load_valid,     // 1: a word in this cycle
    output reg  [1:0]      load_target,    // 0 activations, 1 program, 2 weights, 3 constants
    output reg  [19:0]     load_word,      // word
    output reg  [8*IN-1:0] load_data       // word, byte 0 lowest
);
  localparam [7:0] OVERRUN = 8'd2;
  localparam [7:0] UNDERRUN = 8'd3;
  localparam [7:0] BAD_BEAT = 8'd5;

  reg receiving;
  reg [31:0] received;   // bytes before this beat
  reg [31:0] announced;  // bytes
  reg [31:0] n_kept;     // bytes of this beat
  integer i;
  wire beat = receiving && s_axis_tvalid;  // tready is 1 while receiving
  wire whole = &s_axis_tkeep;
  wire [31:0] with_this = received + IN;
  wire ends = with_this == announced;

  assign waiting = receiving && !s_axis_tvalid;

  always_comb begin
    n_kept = 32'd0;
    for (i = 0; i < IN; i = i + 1) n_kept = n_kept + {31'd0, s_axis_tkeep[i]};
  end

  always_ff @(posedge clk) begin
    done <= 1'b0;
    bad <= 1'b0;
    load_valid <= 1'b0;
    if (rst) begin
      receiving <= 1'b0;
      s_axis_tready <= 1'b0;
    end else if (swallow) begin
      receiving <= 1'b0;
      s_axis_tready <= 1'b1;
    end else if (begins) begin
      receiving <= 1'b1;
      s_axis_tready <= 1'b1;
    end else if (beat) begin
      load_valid <= whole;
      if (!whole || s_axis_tlast != ends) begin
        receiving <= 1'b0;
        bad <= 1'b1;
      end else if (ends) begin
        receiving <= 1'b0;
        s_axis_tready <= 1'b0;
        done <= 1'b1;
      end
    end

    if (begins) begin
      load_target <= target;
      load_word <= first_word - 20'd1;
      received <= 32'd0;
      announced <= n_bytes;
    end else if (beat) begin
      load_word <= load_word + 20'd1;
      received <= with_this;
    end
    if (beat) begin
      load_data <= s_axis_tdata;
      bad_code <= !whole ? BAD_BEAT : s_axis_tlast ? UNDERRUN : OVERRUN;
      bad_info <= !whole ? received + n_kept : s_axis_tlast ? with_this : announced;
    end
  end
endmodule
