// The activation memory: IN bytes at any byte address a cycle on each of two ports.
//
// Two banks hold the even and the odd words, so that IN bytes that begin anywhere lie in one word
// of each; they are read together and rotated. A bank that holds none of the wanted bytes is not
// clocked. Latencies, from the cycle in which the inputs are valid:
//   a_valid     -> a_data 4 cycles      r_valid -> r_data 4 cycles
//   word_enable -> word_data 2 cycles   w_valid -> written at the end of the next cycle
// r_valid and w_valid must not meet in one cycle: both use port B (a write wins).
// a_valid in cycle c and word_enable in c + 1 must not meet either.
module bacmac_activations #(
    parameter integer IN = 16,             // bytes of a word
    parameter integer BYTES = 524288       // capacity, at most 2^20
) (
    input  wire            clk,           // rising edge
    input  wire            a_valid,       // read IN bytes for the array
    input  wire [19:0]     a_address,     // first byte
    output reg  [8*IN-1:0] a_data,        // byte i is that at a_address + i
    input  wire            r_valid,       // read IN bytes of a residual
    input  wire [19:0]     r_address,     // first byte
    output reg  [8*IN-1:0] r_data,        // as a_data
    input  wire            w_valid,       // write
    input  wire [19:0]     w_address,     // first byte
    input  wire [7:0]      w_count,       // bytes, 0 to IN
    input  wire [8*IN-1:0] w_data,        // byte 0 first
    input  wire            word_enable,   // read a word for the output stream
    input  wire [19:0]     word_address,  // word
    output wire [8*IN-1:0] word_data      // word, two cycles later
);
  localparam integer OFFSET = $clog2(IN);
  localparam integer DEPTH = BYTES / (2 * IN);
  localparam integer ADDRESS = $clog2(DEPTH);

  // ---- port A
  // word number / 2 of the even and of the odd word that IN bytes from a_address lie in
  wire [19:0] a_next = a_address + IN[19:0];
  reg a_even_1, a_odd_1, a_is_odd_1, a_is_odd_2, a_is_odd_3;
  reg [ADDRESS-1:0] a_even_address_1, a_odd_address_1;
  reg [OFFSET-1:0] a_offset_1, a_offset_2, a_offset_3;
  reg a_valid_1, a_valid_2, a_valid_3;
  reg word_is_odd_1, word_is_odd_2;
  wire [8*IN-1:0] a_even, a_odd;
  wire [16*IN-1:0] a_rotated =
      (a_is_odd_3 ? {a_even, a_odd} : {a_odd, a_even}) >> {a_offset_3, 3'd0};
  wire a_aligned = a_address[OFFSET-1:0] == {OFFSET{1'b0}};

  always_ff @(posedge clk) begin
    a_valid_1 <= a_valid;
    a_valid_2 <= a_valid_1;
    a_valid_3 <= a_valid_2;
    a_even_1 <= a_valid && !(a_aligned && a_address[OFFSET]);
    a_odd_1 <= a_valid && !(a_aligned && !a_address[OFFSET]);
    if (a_valid) begin
      // of an odd first word the even one is the next
      a_even_address_1 <= a_address[OFFSET] ? a_next[OFFSET+1+:ADDRESS]
                                            : a_address[OFFSET+1+:ADDRESS];
      a_odd_address_1 <= a_address[OFFSET+1+:ADDRESS];
      a_is_odd_1 <= a_address[OFFSET];
      a_offset_1 <= a_address[OFFSET-1:0];
    end
    a_is_odd_2 <= a_is_odd_1;
    a_is_odd_3 <= a_is_odd_2;
    a_offset_2 <= a_offset_1;
    a_offset_3 <= a_offset_2;
    if (a_valid_3)
      a_data <= a_rotated[8*IN-1:0];
    if (word_enable) word_is_odd_1 <= word_address[0];
    word_is_odd_2 <= word_is_odd_1;
  end
  assign word_data = word_is_odd_2 ? a_odd : a_even;

  // ---- port B
  wire [19:0] b_address = w_valid ? w_address : r_address;
  wire [19:0] b_next = b_address + IN[19:0];
  wire [2*IN-1:0] w_bytes = {{IN{1'b0}}, ~({IN{1'b1}} << w_count)} << w_address[OFFSET-1:0];
  wire [16*IN-1:0] w_shifted = {{8 * IN{1'b0}}, w_data} << {w_address[OFFSET-1:0], 3'd0};
  wire b_is_odd = b_address[OFFSET];
  wire [16*IN-1:0] b_rotated =
      (b_is_odd_3 ? {b_even, b_odd} : {b_odd, b_even}) >> {b_offset_3, 3'd0};
  wire r_aligned = r_address[OFFSET-1:0] == {OFFSET{1'b0}};
  reg b_even_1, b_odd_1, b_is_odd_1, b_is_odd_2, b_is_odd_3;
  reg [IN-1:0] b_even_write_1, b_odd_write_1;
  reg [ADDRESS-1:0] b_even_address_1, b_odd_address_1;
  reg [8*IN-1:0] b_even_data_1, b_odd_data_1;
  reg [OFFSET-1:0] b_offset_1, b_offset_2, b_offset_3;
  reg r_valid_1, r_valid_2, r_valid_3;
  wire [8*IN-1:0] b_even, b_odd;

  always_ff @(posedge clk) begin
    r_valid_1 <= r_valid && !w_valid;
    r_valid_2 <= r_valid_1;
    r_valid_3 <= r_valid_2;
    b_even_1 <= w_valid || (r_valid && !(r_aligned && b_is_odd));
    b_odd_1 <= w_valid || (r_valid && !(r_aligned && !b_is_odd));
    b_even_write_1 <= w_valid ? (b_is_odd ? w_bytes[2*IN-1:IN] : w_bytes[IN-1:0]) : {IN{1'b0}};
    b_odd_write_1 <= w_valid ? (b_is_odd ? w_bytes[IN-1:0] : w_bytes[2*IN-1:IN]) : {IN{1'b0}};
    if (w_valid) begin
      b_even_data_1 <= b_is_odd ? w_shifted[16*IN-1:8*IN] : w_shifted[8*IN-1:0];
      b_odd_data_1 <= b_is_odd ? w_shifted[8*IN-1:0] : w_shifted[16*IN-1:8*IN];
    end
    if (w_valid || r_valid) begin
      b_even_address_1 <= b_is_odd ? b_next[OFFSET+1+:ADDRESS] : b_address[OFFSET+1+:ADDRESS];
      b_odd_address_1 <= b_address[OFFSET+1+:ADDRESS];
      b_is_odd_1 <= b_is_odd;
      b_offset_1 <= b_address[OFFSET-1:0];
    end
    b_is_odd_2 <= b_is_odd_1;
    b_is_odd_3 <= b_is_odd_2;
    b_offset_2 <= b_offset_1;
    b_offset_3 <= b_offset_2;
    if (r_valid_3)
      r_data <= b_rotated[8*IN-1:0];
  end

  // a word read takes the address that a pixel read would have computed one cycle before
  bacmac_activation_bank #(
      .IN(IN), .DEPTH(DEPTH), .ADDRESS(ADDRESS)
  ) even_bank (
      .clk(clk),
      .a_enable(a_even_1 || (word_enable && !word_address[0])),
      .a_address(word_enable ? word_address[1+:ADDRESS] : a_even_address_1),
      .a_data(a_even),
      .b_enable(b_even_1), .b_write(b_even_write_1), .b_address(b_even_address_1),
      .b_write_data(b_even_data_1), .b_data(b_even)
  );
  bacmac_activation_bank #(
      .IN(IN), .DEPTH(DEPTH), .ADDRESS(ADDRESS)
  ) odd_bank (
      .clk(clk),
      .a_enable(a_odd_1 || (word_enable && word_address[0])),
      .a_address(word_enable ? word_address[1+:ADDRESS] : a_odd_address_1),
      .a_data(a_odd),
      .b_enable(b_odd_1), .b_write(b_odd_write_1), .b_address(b_odd_address_1),
      .b_write_data(b_odd_data_1), .b_data(b_odd)
  );
  wire unused = &{1'b0, word_address, a_next, b_next, a_rotated[16*IN-1:8*IN],
                  b_rotated[16*IN-1:8*IN]};
endmodule
