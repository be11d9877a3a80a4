// Matrix-vector unit with its requantize: y[MH] = requantize(W[MH, MW] x + b), PE rows by SIMD columns per clock.
// DEPTHWISE = 1 (with SIMD = 1): MH filters of MW taps, row p multiplies lane p of its operand.
//
// A vector enters in SF = MW / SIMD words, is kept, and is used NF = MH / PE times; a result of PE codes leaves
// every SF clocks. Interval per vector: NF * SF clocks. A depthwise unit reads every word afresh.
// PE accumulators share LANES rescalers: a result is rescaled in G = PE / LANES clocks, G <= SF.
// Nothing behind the issue stage can stall: a fold is ended only while the output queue has room for its result
// (credits), so no enable fans out over the arithmetic.
//
// From the last word of a fold to its result at the output: 14 + ceil(log2 N) clocks, N terms per row (SIMD, times DIGITS), and G + 1 more if G > 1.
//
// ROM words, most significant first:
//   WEIGHTS  [NF * SF]: PE x SIMD codes of WB bits, row PE-1 first, in a row column SIMD-1 first
//            DIGITS > 0: of 4 * DIGITS bits instead, signed powers of two whose sum the weight is
//   CHANNELS [NF * G]:  LANES x {multiplier MB, ds DS, bias ACCB}, row LANES-1 first
module qc_mvu #(
  parameter PE = 4,
  parameter SIMD = 8,
  parameter MW = 256,
  parameter MH = 64,
  parameter DEPTHWISE = 0,
  parameter LANES = 1,
  parameter WB = 8,
  parameter DIGITS = 0,
  parameter AB = 8,
  parameter A_SIGNED = 1,
  parameter ACCB = 25,
  parameter MB = 17,
  parameter SMIN = 20,
  parameter DS = 3,
  parameter LEFT = 0,
  parameter OB = 8,
  parameter integer ZP = 0,
  parameter integer QMIN = -128,
  parameter integer QMAX = 127,
  parameter HALF_EVEN = 0,
  parameter DSPA = 25,
  parameter WEIGHT_BLOCK = 1,    // weights in block RAM, else in LUTs
  parameter CHANNEL_BLOCK = 0,   // the same for the channels' constants
  parameter BUFFER_BLOCK = 0,    // the same for the kept vector
  parameter DEPTH = 4,           // of the output queue, a power of two; SF * DEPTH > latency for full speed
  parameter WEIGHTS = "",
  parameter CHANNELS = ""
) (
  input clk,
  input rst,
  input [(DEPTHWISE ? PE : SIMD)*AB-1:0] in_data,
  input in_valid,
  output in_ready,
  output [PE*OB-1:0] out_data,
  output out_valid,
  input out_ready
);
  localparam IN = DEPTHWISE ? PE : SIMD;
  localparam SF = MW / SIMD;
  localparam NF = MH / PE;
  localparam WORDS = SF * NF;
  localparam G = PE / LANES;
  localparam TERMS = DIGITS ? DIGITS : 1;           // per weight
  localparam SB = DIGITS ? 4 * DIGITS : WB;         // bits of a weight in its memory
  localparam TB = DIGITS ? WB + AB - 1 : WB + AB;   // of a term
  localparam LEVELS = $clog2(SIMD * TERMS);
  localparam SFB = SF > 1 ? $clog2(SF) : 1;
  localparam NFB = NF > 1 ? $clog2(NF) : 1;
  localparam WAB = WORDS > 1 ? $clog2(WORDS) : 1;
  localparam QAB = NF * G > 1 ? $clog2(NF * G) : 1;
  localparam GB = G > 1 ? $clog2(G) : 1;
  localparam CB = $clog2(DEPTH + 1);
  localparam MQ = MB > 0 ? MB : 1;
  localparam DQ = DS > 0 ? DS : 1;
  localparam QW = MB + DS + ACCB;

  // ---- issue ------------------------------------------------------------------------------------------------
  reg [SFB-1:0] sf;
  reg [NFB-1:0] nf;
  reg [WAB-1:0] word;
  reg [CB-1:0] credits;
  wire fresh = DEPTHWISE || NF == 1 || nf == 0;
  wire last = SF == 1 || sf == SF - 1;
  wire open = !last || credits != 0;
  wire go = (!fresh || in_valid) && open;
  assign in_ready = fresh && open;
  wire taken = out_valid && out_ready;
  always @(posedge clk)
    if (rst) begin
      sf <= 0;
      nf <= 0;
      word <= 0;
      credits <= DEPTH;
    end else begin
      credits <= credits + taken - (go && last);
      if (go) begin
        word <= word == WORDS - 1 ? 0 : word + 1;
        sf <= last ? 0 : sf + 1;
        if (last) nf <= nf == NF - 1 ? 0 : nf + 1;
      end
    end

  // ---- clock 1: the word of x is stored; clock 2: it is read back, beside the weights --------------------------
  reg v1, first1, last1;
  reg [WAB-1:0] word1;
  always @(posedge clk) begin
    v1 <= go && !rst;
    first1 <= SF == 1 || sf == 0;
    last1 <= last;
    word1 <= word;
  end

  wire [IN*AB-1:0] x2;
  generate
    if (DEPTHWISE || NF == 1) begin : straight
      reg [IN*AB-1:0] s1, s2;
      always @(posedge clk) begin
        s1 <= in_data;
        s2 <= s1;
      end
      assign x2 = s2;
    end else begin : keep
      reg [SFB-1:0] sf1;
      always @(posedge clk) sf1 <= sf;
      qc_ram #(.W(IN*AB), .D(SF), .BLOCK(BUFFER_BLOCK)) vector
        (.clk(clk), .we(go && fresh), .waddr(sf), .wdata(in_data), .raddr(sf1), .rdata(x2));
    end
  endgenerate
  wire [PE*SIMD*SB-1:0] w2;
  qc_rom #(.W(PE*SIMD*SB), .D(WORDS), .BLOCK(WEIGHT_BLOCK), .FILE(WEIGHTS)) weights
    (.clk(clk), .addr(word1), .data(w2));

  // ---- clock 3: operands at the multipliers; clock 4: terms; then one level of the adder tree per clock -----
  reg [IN*AB-1:0] x3;
  reg [PE*SIMD*SB-1:0] w3;
  always @(posedge clk) begin
    x3 <= x2;
    w3 <= w2;
  end
  localparam TREE = 3 + LEVELS;   // clocks from clock 1 to the sum of a word
  reg [TREE-1:0] v, f, l;         // valid, first and last word of a fold, beside the data
  reg done;                       // the accumulators hold results
  wire vs = v[TREE-1], fs = f[TREE-1], ls = l[TREE-1];
  always @(posedge clk) begin
    v <= rst ? 0 : {v, v1};
    f <= {f, first1};
    l <= {l, last1};
    done <= vs && ls && !rst;
  end

  wire [PE*ACCB-1:0] accs;
  genvar p, i;
  generate
    for (p = 0; p < PE; p = p + 1) begin : row
      wire [SIMD*TERMS*TB-1:0] terms;
      wire signed [TB+LEVELS-1:0] sum;
      for (i = 0; i < SIMD * TERMS; i = i + 1) begin : lane
        localparam A = DEPTHWISE ? p : i / TERMS;
        if (DIGITS) begin : shift
          qc_shift #(.AB(AB), .A_SIGNED(A_SIGNED), .PLACES(WB - 1)) term
            (.clk(clk), .a(x3[A*AB +: AB]), .digit(w3[(p*SIMD*TERMS+i)*4 +: 4]), .y(terms[i*TB +: TB]));
        end else begin : multiply
          qc_mul #(.AB(AB), .A_SIGNED(A_SIGNED), .WB(WB)) term
            (.clk(clk), .a(x3[A*AB +: AB]), .w(w3[(p*SIMD+i)*WB +: WB]), .y(terms[i*TB +: TB]));
        end
      end
      qc_tree #(.N(SIMD * TERMS), .B(TB)) tree (.clk(clk), .x(terms), .y(sum));
      reg signed [ACCB-1:0] acc;
      always @(posedge clk) if (vs) acc <= sum + (fs ? $signed({ACCB{1'b0}}) : acc);
      assign accs[p*ACCB +: ACCB] = acc;
    end
  endgenerate

  // ---- LANES results per clock to the rescalers, beside their constants ----------------------------------------
  reg [LANES*ACCB-1:0] a0;
  wire [LANES*QW-1:0] q;
  wire slot;                      // a group of results is chosen in this clock
  reg [QAB-1:0] qaddr;
  always @(posedge clk)
    if (rst) qaddr <= 0;
    else if (slot) qaddr <= qaddr == NF * G - 1 ? 0 : qaddr + 1;
  qc_rom #(.W(LANES*QW), .D(NF*G), .BLOCK(CHANNEL_BLOCK), .FILE(CHANNELS)) channels
    (.clk(clk), .addr(qaddr), .data(q));
  reg [GB-1:0] group;
  generate
    if (G == 1) begin : all
      assign slot = done;
      always @(posedge clk) a0 <= accs;
    end else begin : some
      // a power of two apart: synthesis then finds a choice of one in G, and no shift of all bits by any number of them
      localparam FAR = $clog2(LANES * ACCB);
      wire [(G << FAR)-1:0] held;
      reg run;
      for (p = 0; p < G; p = p + 1) begin : part
        reg [LANES*ACCB-1:0] kept;
        always @(posedge clk) if (done) kept <= accs[p*LANES*ACCB +: LANES*ACCB];
        assign held[(p << FAR) +: 1 << FAR] = kept;
      end
      assign slot = run;
      always @(posedge clk) begin
        run <= !rst && (done || (run && group != G - 1));
        group <= rst || !run || group == G - 1 ? 0 : group + 1;
        a0 <= held[{group, {FAR{1'b0}}} +: LANES*ACCB];
      end
    end
  endgenerate
  reg [7:0] late;                 // late[0]: a0 and q are valid; late[7]: their codes are
  always @(posedge clk) late <= rst ? 0 : {late, slot};
  wire [LANES*OB-1:0] codes;
  generate
    for (p = 0; p < LANES; p = p + 1) begin : scaler
      qc_rescale #(.AW(ACCB), .MB(MB), .SMIN(SMIN), .DS(DS), .LEFT(LEFT), .OB(OB), .ZP(ZP), .QMIN(QMIN),
                   .QMAX(QMAX), .HALF_EVEN(HALF_EVEN), .DSPA(DSPA)) rescale
        (.clk(clk), .acc(a0[p*ACCB +: ACCB]), .bias(q[p*QW +: ACCB]), .ds(q[p*QW+ACCB +: DQ]),
         .m(q[p*QW+ACCB+DS +: MQ]), .y(codes[p*OB +: OB]));
    end
  endgenerate

  // ---- results in words of PE, queued ---------------------------------------------------------------------------
  wire [PE*OB-1:0] result;
  wire ready;
  generate
    if (G == 1) begin : direct
      assign result = codes;
      assign ready = late[7];
    end else begin : gather
      reg [PE*OB-1:0] parts;
      reg [GB-1:0] count;
      reg full;
      always @(posedge clk) begin
        if (late[7]) parts <= {codes, parts[PE*OB-1:LANES*OB]};
        count <= rst ? 0 : late[7] ? (count == G - 1 ? 0 : count + 1) : count;
        full <= !rst && late[7] && count == G - 1;
      end
      assign result = parts;
      assign ready = full;
    end
  endgenerate
  wire unused;
  qc_fifo #(.W(PE*OB), .D(DEPTH)) results
    (.clk(clk), .rst(rst), .in_data(result), .in_valid(ready), .in_ready(unused),
     .out_data(out_data), .out_valid(out_valid), .out_ready(out_ready));
endmodule
