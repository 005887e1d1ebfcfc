// The output stream: reads one image's output from the activation memory and sends it.
//
// Reads are issued while less than DEPTH words are under way or stored, so that the memory's two
// cycles are hidden: from the first to the last beat of an image a beat is offered in every cycle,
// whatever the other side does. The first is offered 4 cycles after the cycle of `begins`, `done`
// comes in the cycle after the last is taken. tvalid comes from registers and does not depend on
// tready; an offered beat stays until it is taken, also after `stop`, which lets no further one out.
module bacmac_sender #(
    parameter integer IN = 16  // bytes of a beat and of a word
) (
    input  wire            clk,            // rising edge
    input  wire            rst,            // synchronous, active high
    input  wire            begins,         // pulse, with the three below
    input  wire [19:0]     first_word,     // of the activation memory
    input  wire [19:0]     n_bytes,        // not 0; what is beyond them in the last beat is sent as 0
    input  wire            packet_ends,    // with this output
    input  wire            stop,           // stopped by an error
    output reg             done,           // pulse: the last beat is taken
    output wire            waiting,        // a beat is offered and not taken
    // engine
    output wire            read_enable,    // 1: read in this cycle
    output wire [19:0]     read_word,      // word
    input  wire [8*IN-1:0] read_data,      // two cycles after read_enable
    // AXI4-Stream
    output wire [8*IN-1:0] m_axis_tdata,   // beat, byte 0 lowest
    output wire [IN-1:0]   m_axis_tkeep,   // all ones
    output wire            m_axis_tlast,   // last beat of its packet
    output wire            m_axis_tvalid,  // beat valid
    input  wire            m_axis_tready   // beat taken
);
  localparam integer OFFSET = $clog2(IN);
  // a word issued in cycle c is offered in c + 3; taken there, it frees its place for c + 4
  localparam [2:0] DEPTH = 3'd4;

  reg [19:0] word;
  reg [19:0] n_left;                // words to issue, without the last
  reg [OFFSET-1:0] n_odd;           // bytes of the last word; 0: all
  reg ends_packet;
  reg issuing;
  reg issued_1, issued_2;
  reg last_1, last_2;
  reg [2:0] n_claimed;              // words under way or stored
  reg [2:0] n_stored;
  reg [1:0] write_place, read_place;
  reg [8*IN+1:0] places[0:DEPTH-1]; // last of its output, last of the packet, data
  reg offered;                      // the beat was already offered in the cycle before
  wire [8*IN-1:0] mask = n_odd == 0 || !last_2 ? {8 * IN{1'b1}}
                                               : ~({8 * IN{1'b1}} << {n_odd, 3'd0});
  wire [8*IN+1:0] place = places[read_place];
  wire taken = m_axis_tvalid && m_axis_tready;
  wire [19:0] last_byte = n_bytes - 20'd1;

  assign read_enable = issuing && n_claimed < DEPTH;
  assign read_word = word;
  assign waiting = m_axis_tvalid && !m_axis_tready;
  assign m_axis_tvalid = n_stored != 0 && (!stop || offered);
  assign m_axis_tkeep = {IN{1'b1}};
  assign {m_axis_tlast, m_axis_tdata} = place[8*IN:0];

  always_ff @(posedge clk) begin
    done <= 1'b0;
    if (rst) begin
      issuing <= 1'b0;
      issued_1 <= 1'b0;
      issued_2 <= 1'b0;
      n_claimed <= 3'd0;
      n_stored <= 3'd0;
      write_place <= 2'd0;
      read_place <= 2'd0;
      offered <= 1'b0;
    end else begin
      if (begins) issuing <= 1'b1;
      else if (read_enable && n_left == 0) issuing <= 1'b0;
      issued_1 <= read_enable;
      issued_2 <= issued_1;
      n_claimed <= n_claimed + {2'd0, read_enable} - {2'd0, taken};
      n_stored <= n_stored + {2'd0, issued_2} - {2'd0, taken};
      if (issued_2) write_place <= write_place + 2'd1;
      if (taken) read_place <= read_place + 2'd1;
      offered <= waiting;
      done <= taken && place[8*IN+1];
    end
    if (begins) begin
      word <= first_word;
      n_left <= last_byte >> OFFSET;
      n_odd <= n_bytes[OFFSET-1:0];
      ends_packet <= packet_ends;
    end else if (read_enable) begin
      word <= word + 20'd1;
      n_left <= n_left - 20'd1;
    end
    last_1 <= n_left == 0;
    last_2 <= last_1;
    if (issued_2) places[write_place] <= {last_2, last_2 && ends_packet, read_data & mask};
  end
endmodule
