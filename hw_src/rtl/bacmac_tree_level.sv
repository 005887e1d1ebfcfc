// One level of a lane's adder tree: from each pair of numbers their sum or their difference.
//
// The bit that says which is the relative sign of the pair, made by the compiler, so nothing is
// ever negated and no correction term is needed (docs/accelerator.md, "Weights"). An adder that
// can subtract is one LUT a bit on a carry chain, as an adder is.
//
// Latency: none. Depth: one carry chain of WIDTH + 1 bits.
module bacmac_tree_level #(
    parameter integer PAIRS = 8,
    parameter integer WIDTH = 12  // bits of a number that comes in, two's complement
) (
    input  wire logic [2*PAIRS*WIDTH-1:0]   x,         // number 0 lowest
    input  wire logic [PAIRS-1:0]           subtract,  // 1: number 2i minus number 2i + 1
    output      logic [PAIRS*(WIDTH+1)-1:0] y          // two's complement, pair 0 lowest
);
  for (genvar i = 0; i < PAIRS; i++) begin : g_pair
    logic [WIDTH:0] left, right;

    assign left = {x[(2*i+1)*WIDTH-1], x[2*i*WIDTH+:WIDTH]};
    assign right = {x[(2*i+2)*WIDTH-1], x[(2*i+1)*WIDTH+:WIDTH]};
    // left - right is left + ~right + 1; written as a choice of two results it may become two adders
    assign y[i*(WIDTH+1)+:WIDTH+1] = left + (right ^ {(WIDTH + 1) {subtract[i]}})
                                     + {{WIDTH{1'b0}}, subtract[i]};
  end
endmodule
