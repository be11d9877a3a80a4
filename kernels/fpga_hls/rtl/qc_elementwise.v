// Units that take a word and give a word, lane by lane: sum of streams, requantize, table.

// Words through LATENCY clocks of arithmetic outside, with room kept for them in the output queue.
// A word is taken in the clock of `go`; `result` is its result LATENCY clocks later, at the output one more.
module qc_lane_control #(parameter W = 8, parameter LATENCY = 8, parameter DEPTH = 16) (
  input clk,
  input rst,
  input in_valid,
  output in_ready,
  output go,
  input [W-1:0] result,
  output [W-1:0] out_data,
  output out_valid,
  input out_ready
);
  reg [$clog2(DEPTH+1)-1:0] credits;
  reg [LATENCY-1:0] v;
  assign in_ready = credits != 0;
  assign go = in_valid && in_ready && !rst;
  always @(posedge clk)
    if (rst) begin
      credits <= DEPTH;
      v <= 0;
    end else begin
      credits <= credits + (out_valid && out_ready) - go;
      v <= {v, go};
    end
  wire unused;
  qc_fifo #(.W(W), .D(DEPTH)) results
    (.clk(clk), .rst(rst), .in_data(result), .in_valid(v[LATENCY-1]), .in_ready(unused),
     .out_data(out_data), .out_valid(out_valid), .out_ready(out_ready));
endmodule

// y = requantize(sum of M[i] * x[i] + BIAS), one factor per operand, no multiplier behind the sum. COUNT operands lie
// side by side in in_data, each PE lanes of AB[i] bits (packed in BITS as 8-bit fields, operand 0 lowest); FACTORS
// are packed as signed 32-bit fields. From the words to their result: 10 + ceil(log2 COUNT) clocks.
module qc_add #(
  parameter PE = 4,
  parameter COUNT = 2,
  parameter [8*COUNT-1:0] BITS = {8'd8, 8'd8},
  parameter [COUNT-1:0] SIGNED = 2'b11,
  parameter [32*COUNT-1:0] FACTORS = {32'd1, 32'd1},
  parameter signed [63:0] BIAS = 0,
  parameter WIDE = 8,            // the widest operand
  parameter MW = 17,             // bits of a factor, sign included
  parameter ACCB = 32,
  parameter IN = PE * 16,        // bits of a word of all operands
  parameter SMIN = 16,
  parameter LEFT = 0,
  parameter OB = 8,
  parameter integer ZP = 0,
  parameter integer QMIN = -128,
  parameter integer QMAX = 127,
  parameter HALF_EVEN = 0,
  parameter DEPTH = 16
) (
  input clk,
  input rst,
  input [IN-1:0] in_data,
  input [COUNT-1:0] in_valid,
  output [COUNT-1:0] in_ready,
  output [PE*OB-1:0] out_data,
  output out_valid,
  input out_ready
);
  function integer offset(input integer n);
    integer k;
    begin
      offset = 0;
      for (k = 0; k < n; k = k + 1) offset = offset + PE * BITS[8*k +: 8];
    end
  endfunction
  localparam LEVELS = $clog2(COUNT);
  localparam PB = WIDE + 1 + MW;
  wire room, go;
  assign in_ready = {COUNT{room && &in_valid}};
  wire [PE*OB-1:0] codes;
  genvar p, k;
  generate
    for (p = 0; p < PE; p = p + 1) begin : lane
      wire [COUNT*PB-1:0] products;
      for (k = 0; k < COUNT; k = k + 1) begin : operand
        localparam B = BITS[8*k +: 8];
        wire [B-1:0] raw = in_data[offset(k) + p*B +: B];
        reg signed [B:0] x;
        reg signed [MW-1:0] factor;
        reg signed [PB-1:0] product;
        always @(posedge clk) begin
          x <= SIGNED[k] ? {raw[B-1], raw} : {1'b0, raw};
          factor <= FACTORS[32*k +: MW];
          product <= x * factor;
        end
        assign products[k*PB +: PB] = product;
      end
      wire signed [PB+LEVELS-1:0] sum;
      qc_tree #(.N(COUNT), .B(PB)) tree (.clk(clk), .x(products), .y(sum));
      wire signed [ACCB-1:0] acc = sum;
      wire signed [ACCB-1:0] bias = BIAS;
      qc_rescale #(.AW(ACCB), .MB(0), .SMIN(SMIN), .DS(0), .LEFT(LEFT), .OB(OB), .ZP(ZP), .QMIN(QMIN), .QMAX(QMAX),
                   .HALF_EVEN(HALF_EVEN)) rescale
        (.clk(clk), .acc(acc), .bias(bias), .m(1'b0), .ds(1'b0), .y(codes[p*OB +: OB]));
    end
  endgenerate
  qc_lane_control #(.W(PE*OB), .LATENCY(9 + LEVELS), .DEPTH(DEPTH)) control
    (.clk(clk), .rst(rst), .in_valid(&in_valid), .in_ready(room), .go(go), .result(codes),
     .out_data(out_data), .out_valid(out_valid), .out_ready(out_ready));
endmodule

// y = table[x], a table per lane of 2^AB words of OB bits, in the order of the codes' bits. From the word to its result: 3 clocks.
module qc_lookup #(
  parameter PE = 4,
  parameter AB = 8,
  parameter OB = 8,
  parameter BLOCK = 0,
  parameter TABLE = "",
  parameter DEPTH = 4
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
  reg [PE*AB-1:0] x1;
  wire [PE*OB-1:0] y2;
  wire go;
  always @(posedge clk) x1 <= in_data;
  genvar p;
  generate
    for (p = 0; p < PE; p = p + 1) begin : lane
      qc_rom #(.W(OB), .D(1 << AB), .BLOCK(BLOCK), .FILE(TABLE)) table_rom
        (.clk(clk), .addr(x1[p*AB +: AB]), .data(y2[p*OB +: OB]));
    end
  endgenerate
  qc_lane_control #(.W(PE*OB), .LATENCY(2), .DEPTH(DEPTH)) control
    (.clk(clk), .rst(rst), .in_valid(in_valid), .in_ready(in_ready), .go(go), .result(y2),
     .out_data(out_data), .out_valid(out_valid), .out_ready(out_ready));
endmodule
