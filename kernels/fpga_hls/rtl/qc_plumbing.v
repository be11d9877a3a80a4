// Streams without arithmetic. None of them has a queue of its own: an edge of the graph has one where it needs one.

// Every word to COPIES readers, taken when all of them have room.
module qc_fork #(parameter W = 8, parameter COPIES = 2) (
  input clk,
  input rst,
  input [W-1:0] in_data,
  input in_valid,
  output in_ready,
  output [COPIES*W-1:0] out_data,
  output [COPIES-1:0] out_valid,
  input [COPIES-1:0] out_ready
);
  assign in_ready = &out_ready;
  assign out_data = {COPIES{in_data}};
  assign out_valid = {COPIES{in_valid && in_ready}};
endmodule

// For every vector the words of operand 0, then those of operand 1, ...; WORDS holds their counts as 32-bit fields.
module qc_concat #(parameter W = 8, parameter COUNT = 2, parameter [32*COUNT-1:0] WORDS = {32'd1, 32'd1}) (
  input clk,
  input rst,
  input [COUNT*W-1:0] in_data,
  input [COUNT-1:0] in_valid,
  output [COUNT-1:0] in_ready,
  output [W-1:0] out_data,
  output out_valid,
  input out_ready
);
  localparam SB = $clog2(COUNT) > 0 ? $clog2(COUNT) : 1;
  reg [SB-1:0] operand;
  reg [31:0] word;
  wire [31:0] words = WORDS[32*operand +: 32];
  // a power of two apart: synthesis then finds a choice of one in COUNT, and no shift by any number of bits
  localparam FAR = $clog2(W);
  wire [(COUNT << FAR)-1:0] apart;
  genvar i;
  generate
    for (i = 0; i < COUNT; i = i + 1) begin : side
      assign apart[(i << FAR) +: 1 << FAR] = in_data[i*W +: W];
    end
  endgenerate
  assign out_data = apart[{operand, {FAR{1'b0}}} +: W];
  assign out_valid = in_valid[operand];
  assign in_ready = {{(COUNT-1){1'b0}}, out_ready} << operand;
  always @(posedge clk)
    if (rst) begin
      operand <= 0;
      word <= 0;
    end else if (out_valid && out_ready) begin
      if (word + 1 == words) begin
        word <= 0;
        operand <= operand == COUNT - 1 ? 0 : operand + 1;
      end else word <= word + 1;
    end
endmodule

// Words of IN lanes to words of OUT lanes, one of which divides the other; full speed on the side of the small words.
// A wide word stays until its last part is taken; parts of a wide word are shown when the last one has come.
module qc_width #(parameter BITS = 8, parameter IN = 4, parameter OUT = 1) (
  input clk,
  input rst,
  input [IN*BITS-1:0] in_data,
  input in_valid,
  output in_ready,
  output [OUT*BITS-1:0] out_data,
  output out_valid,
  input out_ready
);
  localparam N = IN > OUT ? IN / OUT : OUT / IN;
  localparam NB = $clog2(N + 1);
  reg [NB-1:0] count;                      // parts held
  generate
    if (IN == OUT) begin : same
      assign out_data = in_data;
      assign out_valid = in_valid;
      assign in_ready = out_ready;
    end else if (IN > OUT) begin : split
      reg [IN*BITS-1:0] parts;
      assign out_data = parts[OUT*BITS-1:0];
      assign out_valid = count != 0;
      assign in_ready = count == 0 || (count == 1 && out_ready);
      wire take = in_valid && in_ready;
      always @(posedge clk) begin
        if (rst) count <= 0;
        else if (take) count <= N;
        else if (out_valid && out_ready) count <= count - 1;
        if (take) parts <= in_data;
        else if (out_ready) parts <= parts >> (OUT * BITS);
      end
    end else begin : join_parts
      reg [OUT*BITS-1:0] parts;
      assign out_data = parts;
      assign out_valid = count == N;
      assign in_ready = count != N || out_ready;
      always @(posedge clk) begin
        if (rst) count <= 0;
        else if (out_valid && out_ready) count <= in_valid;
        else if (in_valid && in_ready) count <= count + 1;
        if (in_valid && in_ready) parts <= {in_data, parts[OUT*BITS-1:IN*BITS]};
      end
    end
  endgenerate
endmodule
