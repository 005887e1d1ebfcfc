// From an accumulator to a stored activation: bias, multiplier, residual, one rounding, clamp.
//
//     t = (acc + bias) * multiplier + residual * residual_multiplier        exact
//     y = clamp((t + 2^(shift-1)) >> shift)     round half up; shift 0 adds nothing
//
// (Fixed-point requantization with one rounding: docs/numerics.md; Jacob et al. 2018.)
// Stages, one cycle each, clocked only when their enable is set, so that nothing toggles for
// nothing and a value stays where it is until the next one comes:
//   enable[0] acc + bias   [1] partial products   [2] products   [3] t and rounding
//   [4] shift by eights    [5] shift by ones: `wide`             [6] clamp: `y`
// `residual` is taken with enable[1]; the constants with enable[0].
module bacmac_requantize (
    input wire               clk,          // rising edge
    input wire [6:0]         enable,       // one a stage, see above
    input wire signed [31:0] accumulator,  // with enable[0]
    input wire [95:0]        constants,    // with enable[0]: bias i32, multiplier u16,
                                           // shift u8, zero u8, residual multiplier i32
    input wire signed [8:0]  residual,     // with enable[1]; 0 where there is none
    input wire signed [15:0] low,          // smallest stored value
    input wire signed [15:0] high,         // largest stored value
    output wire signed [31:0] wide,        // int32 output (multiplier 1, shift 0)
    output reg [7:0]         y             // stored activation, uint8 or int8
);
  reg signed [31:0] sum;
  reg [14:0] multiplier_1;
  reg signed [31:0] residual_multiplier_1;
  reg [5:0] shift_1, shift_2, shift_3, shift_4;
  reg [2:0] shift_5;
  // 17 low bits unsigned and the signed rest: one DSP48E2 multiplier each
  reg signed [32:0] product_low;
  reg signed [30:0] product_high;
  reg signed [26:0] residual_low;
  reg signed [23:0] residual_high;
  reg signed [47:0] product;
  reg signed [41:0] residual_product;
  reg signed [49:0] total;
  reg signed [49:0] coarse;
  wire signed [49:0] rounding = (shift_3 == 6'd0) ? 50'sd0 : $signed(50'd1 << (shift_3 - 6'd1));
  wire signed [49:0] fine = coarse >>> shift_5;
  reg signed [49:0] value;
  wire signed [49:0] least = {{34{low[15]}}, low};
  wire signed [49:0] most = {{34{high[15]}}, high};

  always_ff @(posedge clk) begin
    if (enable[0]) begin
      sum <= accumulator + $signed(constants[31:0]);
      multiplier_1 <= constants[46:32];
      shift_1 <= constants[53:48];
      residual_multiplier_1 <= $signed(constants[95:64]);
    end
    if (enable[1]) begin
      product_low <= $signed({1'b0, sum[16:0]}) * $signed({1'b0, multiplier_1});
      product_high <= $signed(sum[31:17]) * $signed({1'b0, multiplier_1});
      residual_low <= $signed({1'b0, residual_multiplier_1[16:0]}) * residual;
      residual_high <= $signed(residual_multiplier_1[31:17]) * residual;
      shift_2 <= shift_1;
    end
    if (enable[2]) begin
      product <= {{15{product_low[32]}}, product_low} + {product_high, 17'd0};
      residual_product <= {{15{residual_low[26]}}, residual_low}
          + {residual_high[23], residual_high, 17'd0};
      shift_3 <= shift_2;
    end
    if (enable[3]) begin
      total <= {{2{product[47]}}, product} + {{8{residual_product[41]}}, residual_product}
          + rounding;
      shift_4 <= shift_3;
    end
    if (enable[4]) begin
      coarse <= total >>> {shift_4[5:3], 3'd0};
      shift_5 <= shift_4[2:0];
    end
    if (enable[5]) value <= fine;
    if (enable[6])
      y <= (value < least) ? low[7:0] : (value > most) ? high[7:0] : value[7:0];
  end
  assign wide = value[31:0];

  wire unused = &{1'b0, constants[47], constants[63:54]};
endmodule
