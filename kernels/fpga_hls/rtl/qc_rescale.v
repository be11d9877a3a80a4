// Requantize, one value per clock: y = clip(round((acc + bias) * m / 2^s) + ZP, QMIN, QMAX), s = SMIN + ds.
//
// HALF_EVEN = 0: profile `dyadic`, (x * m + 2^(s-1)) >> s, ties up. Since only the bits from s-1 upwards matter,
//   it is computed as ((x * m >> (s-1)) + 1) >> 1, exactly the same integer.
// HALF_EVEN = 1: profile `shift_half_even`, x / 2^s with ties to even.
// MB = 0: no multiplier (m = 1), as in half_even and behind sums that are multiplied already.
// SMIN >= 1; LEFT shifts x before all that, for results that need shifts below 1.
// The product is cut into pieces that one multiplier of the part takes (DSPA bits, signed).
// Latency: 7 clocks, always. No enable: whoever feeds it keeps room for what comes out.
module qc_rescale #(
  parameter AW = 25,         // accumulator, signed; acc + bias is taken modulo 2^AW
  parameter MB = 17,         // multiplier, unsigned
  parameter SMIN = 20,       // least shift of the layer
  parameter DS = 3,          // bits of ds; 0 where all shifts are equal
  parameter LEFT = 0,
  parameter OB = 8,          // result
  parameter integer ZP = 0,
  parameter integer QMIN = -128,
  parameter integer QMAX = 127,
  parameter HALF_EVEN = 0,
  parameter DSPA = 25
) (
  input clk,
  input signed [AW-1:0] acc,
  input signed [AW-1:0] bias,
  input [(MB > 0 ? MB : 1)-1:0] m,
  input [(DS > 0 ? DS : 1)-1:0] ds,
  output reg [OB-1:0] y
);
  localparam PW = AW + MB + LEFT;                  // product
  localparam CUT = SMIN - 1;                       // bits below that matter for ties only
  localparam TW = PW > CUT + 2 ? PW - CUT : 2;     // what the shift by ds works on
  localparam CW = OB + 3;                          // after saturation: still beyond every clip limit
  localparam DW = DS > 0 ? DS : 1;

  // clocks 1-3: bias; product, with the registers that a DSP block has (input, product, sum)
  reg signed [AW-1:0] x1;
  reg [DW-1:0] ds1, ds2, ds3;
  always @(posedge clk) begin
    x1 <= acc + bias;
    ds1 <= ds;
    ds2 <= ds1;
    ds3 <= ds2;
  end
  wire signed [PW-1:0] product;
  generate
    if (MB == 0) begin : plain
      reg signed [AW-1:0] x2, x3;
      always @(posedge clk) begin
        x2 <= x1;
        x3 <= x2;
      end
      assign product = $signed(x3) <<< LEFT;
    end else if (AW <= DSPA) begin : whole
      reg signed [MB:0] m1;
      reg signed [AW+MB-1:0] p2, p3;
      always @(posedge clk) begin
        m1 <= {1'b0, m};
        p2 <= x1 * m1;
        p3 <= p2;
      end
      assign product = $signed(p3) <<< LEFT;
    end else begin : split
      localparam LW = DSPA - 1;                    // low part, unsigned
      wire signed [LW:0] lo1 = {1'b0, x1[LW-1:0]};
      wire signed [AW-LW-1:0] hi1 = x1[AW-1:LW];
      reg signed [MB:0] m1;
      reg signed [LW+MB:0] lo2;
      reg signed [AW+MB-LW-1:0] hi2;
      reg signed [AW+MB-1:0] p3;
      always @(posedge clk) begin
        m1 <= {1'b0, m};
        lo2 <= lo1 * m1;
        hi2 <= hi1 * m1;
        p3[LW-1:0] <= lo2[LW-1:0];                 // nothing is added below
        p3[AW+MB-1:LW] <= hi2 + $signed(lo2[LW+MB:LW]);
      end
      assign product = $signed(p3) <<< LEFT;
    end
  endgenerate

  // clock 4: drop what is below the rounding bit, and shift by ds
  localparam EW = TW + CUT;                        // the product, sign-extended where CUT is beyond it
  wire signed [EW-1:0] extended = product;
  wire signed [TW-1:0] cut = extended[EW-1:CUT];
  wire signed [TW-1:0] shifted = DS > 0 ? cut >>> ds3 : cut;
  reg signed [TW-1:0] t4;
  reg tie4;                                        // the result lies in the middle, and the lower neighbour is even
  always @(posedge clk) t4 <= shifted;
  generate
    if (HALF_EVEN) begin : even
      wire [EW-1:0] below = ~({EW{1'b1}} << (DS > 0 ? CUT + ds3 : CUT));
      always @(posedge clk) tie4 <= ~|(extended & below) & shifted[0] & ~shifted[1];
    end else begin : up
      always @(posedge clk) tie4 <= 1'b0;
    end
  endgenerate

  // clock 5: saturate to CW bits
  reg signed [CW-1:0] c5;
  reg tie5;
  generate
    if (TW > CW) begin : narrow
      wire fits = &(t4[TW-1:CW-1]) | ~|(t4[TW-1:CW-1]);
      always @(posedge clk) c5 <= fits ? t4[CW-1:0] : {t4[TW-1], {(CW-1){~t4[TW-1]}}};
    end else begin : wide
      always @(posedge clk) c5 <= t4;
    end
  endgenerate
  always @(posedge clk) tie5 <= tie4;

  // clock 6: round, zero point; clock 7: clip
  wire signed [CW+1:0] twice = c5 + (2 * ZP + 1);
  reg signed [CW:0] r6;
  always @(posedge clk) r6 <= (twice >>> 1) - $signed({1'b0, tie5});
  always @(posedge clk) y <= r6 < QMIN ? QMIN : r6 > QMAX ? QMAX : r6[OB-1:0];
endmodule
