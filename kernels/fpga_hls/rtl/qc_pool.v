// Pools: the largest element of TAPS words, and the sum of a frame.

// Largest of every TAPS words, lane by lane. From the last word of a window to its result: 3 clocks.
module qc_max_pool #(
  parameter PE = 4,
  parameter TAPS = 4,
  parameter BITS = 8,
  parameter SIGNED = 1,
  parameter DEPTH = 4
) (
  input clk,
  input rst,
  input [PE*BITS-1:0] in_data,
  input in_valid,
  output in_ready,
  output [PE*BITS-1:0] out_data,
  output out_valid,
  input out_ready
);
  localparam TB = TAPS > 1 ? $clog2(TAPS) : 1;
  reg [TB-1:0] tap;
  reg [$clog2(DEPTH+1)-1:0] credits;
  wire last = TAPS == 1 || tap == TAPS - 1;
  assign in_ready = !last || credits != 0;
  wire go = in_valid && in_ready;
  reg v1, first1, last1, v2;
  reg [PE*BITS-1:0] x1, best;
  always @(posedge clk) begin
    x1 <= in_data;
    first1 <= TAPS == 1 || tap == 0;
    last1 <= last;
    if (rst) begin
      tap <= 0;
      credits <= DEPTH;
      v1 <= 0;
      v2 <= 0;
    end else begin
      credits <= credits + (out_valid && out_ready) - (go && last);
      if (go) tap <= last ? 0 : tap + 1;
      v1 <= go;
      v2 <= v1 && last1;
    end
  end
  genvar p;
  generate
    for (p = 0; p < PE; p = p + 1) begin : lane
      wire [BITS-1:0] x = x1[p*BITS +: BITS], old = best[p*BITS +: BITS];
      // with the sign bit inverted, two's complement compares like unsigned numbers
      wire [BITS-1:0] turn = SIGNED ? {1'b1, {(BITS-1){1'b0}}} : 0;
      always @(posedge clk) if (v1 && (first1 || (x ^ turn) > (old ^ turn))) best[p*BITS +: BITS] <= x;
    end
  endgenerate
  wire unused;
  qc_fifo #(.W(PE*BITS), .D(DEPTH)) results
    (.clk(clk), .rst(rst), .in_data(best), .in_valid(v2), .in_ready(unused),
     .out_data(out_data), .out_valid(out_valid), .out_ready(out_ready));
endmodule

// y[c] = requantize(sum over VECTORS of x[c] + BIAS): all words are read, then CHANNELS / PE results are written.
// From the issue of a result to the output: 9 clocks.
module qc_frame_pool #(
  parameter PE = 4,
  parameter VECTORS = 16,
  parameter CHANNELS = 8,
  parameter AB = 8,
  parameter A_SIGNED = 1,
  parameter ACCB = 16,
  parameter signed [63:0] BIAS = 0,
  parameter MB = 17,
  parameter [63:0] M = 1,
  parameter SMIN = 16,
  parameter LEFT = 0,
  parameter OB = 8,
  parameter integer ZP = 0,
  parameter integer QMIN = -128,
  parameter integer QMAX = 127,
  parameter HALF_EVEN = 0,
  parameter DSPA = 25,
  parameter DEPTH = 16
) (
  input clk,
  input rst,
  input [PE*AB-1:0] in_data,
  input in_valid,
  output in_ready,
  output [PE*OB-1:0] out_data,
  output out_valid,
  input out_ready
);
  localparam GROUPS = CHANNELS / PE;
  localparam GB = GROUPS > 1 ? $clog2(GROUPS) : 1;
  localparam VB = $clog2(VECTORS + 1);
  localparam MQ = MB > 0 ? MB : 1;
  reg [GB-1:0] group;
  reg [VB-1:0] vector;           // VECTORS while results are written
  reg [$clog2(DEPTH+1)-1:0] credits;
  wire writing = vector == VECTORS;
  wire first = vector == 0;
  assign in_ready = !writing;
  wire read = in_valid && !writing;
  wire issue = writing && credits != 0;
  wire step = read || issue;
  wire last = GROUPS == 1 || group == GROUPS - 1;
  reg [7:0] v;
  always @(posedge clk)
    if (rst) begin
      group <= 0;
      vector <= 0;
      credits <= DEPTH;
      v <= 0;
    end else begin
      credits <= credits + (out_valid && out_ready) - issue;
      v <= {v, issue};
      if (step) begin
        group <= last ? 0 : group + 1;
        if (last) vector <= writing ? 0 : vector + 1;
      end
    end
  wire [PE*OB-1:0] codes;
  genvar p;
  generate
    for (p = 0; p < PE; p = p + 1) begin : lane
      (* ram_style = "distributed", syn_ramstyle = "distributed" *) reg signed [ACCB-1:0] sums [0:GROUPS-1];
      wire signed [ACCB-1:0] sum = sums[group];
      wire signed [AB:0] x = A_SIGNED ? {in_data[p*AB+AB-1], in_data[p*AB +: AB]} : {1'b0, in_data[p*AB +: AB]};
      always @(posedge clk) if (read) sums[group] <= x + (first ? $signed({ACCB{1'b0}}) : sum);
      reg signed [ACCB-1:0] acc1;
      wire signed [ACCB-1:0] bias = BIAS;
      wire [MQ-1:0] m = M;
      always @(posedge clk) acc1 <= sum;
      qc_rescale #(.AW(ACCB), .MB(MB), .SMIN(SMIN), .DS(0), .LEFT(LEFT), .OB(OB), .ZP(ZP), .QMIN(QMIN), .QMAX(QMAX),
                   .HALF_EVEN(HALF_EVEN), .DSPA(DSPA)) rescale
        (.clk(clk), .acc(acc1), .bias(bias), .m(m), .ds(1'b0), .y(codes[p*OB +: OB]));
    end
  endgenerate
  wire unused;
  qc_fifo #(.W(PE*OB), .D(DEPTH)) results
    (.clk(clk), .rst(rst), .in_data(codes), .in_valid(v[7]), .in_ready(unused),
     .out_data(out_data), .out_valid(out_valid), .out_ready(out_ready));
endmodule
