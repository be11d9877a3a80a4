// A product of an activation and a weight, one clock.
module qc_mul #(parameter AB = 8, parameter A_SIGNED = 1, parameter WB = 8) (
  input clk,
  input [AB-1:0] a,
  input signed [WB-1:0] w,
  output reg signed [WB+AB-1:0] y
);
  generate
    if (A_SIGNED) begin : both
      wire signed [AB-1:0] s = a;
      always @(posedge clk) y <= s * w;
    end else begin : one
      wire signed [AB:0] u = {1'b0, a};
      always @(posedge clk) y <= u * w;
    end
  endgenerate
endmodule

// An activation times a signed power of two below 2^PLACES, one clock: digit = {sign, power}, power 7 for none.
module qc_shift #(parameter AB = 8, parameter A_SIGNED = 1, parameter PLACES = 7) (
  input clk,
  input [AB-1:0] a,
  input [3:0] digit,
  output reg signed [AB+PLACES-1:0] y
);
  wire signed [AB:0] plain = {A_SIGNED ? a[AB-1] : 1'b0, a};
  wire signed [AB:0] chosen = digit[3] ? -plain : plain;   // the negative one is shared by all rows
  wire signed [AB+PLACES-1:0] wide = chosen;
  always @(posedge clk) y <= digit[2:0] == 7 ? 0 : wide <<< digit[2:0];
endmodule

// Sum of N signed numbers of B bits, one level of pairs per clock: latency ceil(log2 N).
module qc_tree #(parameter N = 8, parameter B = 16) (
  input clk,
  input [N*B-1:0] x,
  output signed [B+$clog2(N)-1:0] y
);
  localparam H = (N + 1) / 2;
  genvar i;
  generate
    if (N == 1) begin : leaf
      assign y = x;
    end else begin : level
      wire [H*(B+1)-1:0] half;
      for (i = 0; i < H; i = i + 1) begin : pair
        reg signed [B:0] s;
        wire signed [B-1:0] a = x[2*i*B +: B];
        if (2 * i + 1 < N) begin : add
          wire signed [B-1:0] b = x[(2*i+1)*B +: B];
          always @(posedge clk) s <= a + b;
        end else begin : pass
          always @(posedge clk) s <= a;
        end
        assign half[i*(B+1) +: B+1] = s;
      end
      qc_tree #(.N(H), .B(B + 1)) rest (.clk(clk), .x(half), .y(y));
    end
  endgenerate
endmodule
