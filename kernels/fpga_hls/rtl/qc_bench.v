// Test bench parts, not for synthesis: words from a file into a stream, and words of a stream into a file.
// Started with +stall=n, n of 16 clocks offer no word, or take none.

// SEED: of the pattern of stalls.
module qc_source #(
  parameter WIDTH = 8, parameter WORDS = 1, parameter SEED = 1, parameter FILE = ""
) (
  input clk,
  input rst,
  output [WIDTH-1:0] data,
  output valid,
  input ready,
  output moved
);
  reg [WIDTH-1:0] words [0:WORDS-1];
  integer sent, stall;
  reg [31:0] noise;
  reg offer;
  assign valid = !rst && sent < WORDS && offer;
  assign data = sent < WORDS ? words[sent] : {WIDTH{1'b0}};
  assign moved = valid && ready;
  initial begin
    $readmemh(FILE, words);
    sent = 0;
    if (!$value$plusargs("stall=%d", stall)) stall = 0;
    noise = SEED;
    offer = 1;
  end
  always @(posedge clk) begin
    noise <= noise * 32'd1664525 + 32'd1013904223;
    if (!valid || ready) offer <= noise[31:28] >= stall;   // an offer that was not taken stays
    if (moved) sent <= sent + 1;
  end
endmodule

// Lines `clock data`, where clock 0 is the first one in which any source of the bench could offer a word.
module qc_sink #(
  parameter WIDTH = 8, parameter WORDS = 1, parameter SEED = 1, parameter FILE = ""
) (
  input clk,
  input rst,
  input [31:0] clock,
  input [WIDTH-1:0] data,
  input valid,
  output ready,
  output moved,
  output full
);
  integer file, got, stall;
  reg [31:0] noise;
  reg accept;
  assign ready = accept;
  assign moved = valid && ready && !rst;
  assign full = got == WORDS;
  initial begin
    file = $fopen(FILE, "w");
    got = 0;
    if (!$value$plusargs("stall=%d", stall)) stall = 0;
    noise = SEED;
    accept = 1;
  end
  always @(posedge clk) begin
    noise <= noise * 32'd1664525 + 32'd1013904223;
    accept <= noise[31:28] >= stall;
    if (moved) begin
      if (!full) $fdisplay(file, "%0d %h", clock, data);
      if (got == WORDS - 1) $fflush(file);
      got <= got + 1;
    end
  end
endmodule
