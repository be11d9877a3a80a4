// Sliding window: pixels, channels last, PE lanes per word, in; the window of every output pixel out.
//
// Order of a row's words: for each output pixel, for each tap (rows first), for each group of PE channels;
// BY_CHANNEL = 1: for each pixel, for each group, for each tap.
// Memory holds KEPT = min(HEIGHT, span + SH) rows in a ring. Phase r writes output row r and meanwhile reads ahead
// the rows of the next window, one word per clock each; before it the rows of the first window are read.
// A phase takes the longer of the two. From the issue of a word to the output: 4 clocks.
module qc_window #(
  parameter PE = 4,
  parameter BITS = 8,
  parameter HEIGHT = 8,
  parameter WIDTH = 8,
  parameter CHANNELS = 4,
  parameter OUT_HEIGHT = 8,
  parameter OUT_WIDTH = 8,
  parameter KH = 3,
  parameter KW = 3,
  parameter SH = 1,
  parameter SW = 1,
  parameter DH = 1,
  parameter DW = 1,
  parameter TOP = 1,
  parameter LEFT = 1,
  parameter integer FILL = 0,
  parameter BY_CHANNEL = 0,
  parameter BLOCK = 1,           // rows in block RAM, else in LUTs
  parameter DEPTH = 8            // of the output queue, a power of two
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
  localparam SPAN = DH * (KH - 1) + 1;
  localparam KEPT = HEIGHT < SPAN + SH ? HEIGHT : SPAN + SH;
  localparam GROUPS = CHANNELS / PE;
  localparam ROW = WIDTH * GROUPS;                       // words
  localparam RAM = KEPT * ROW;
  localparam AB = RAM > 1 ? $clog2(RAM) : 1;
  localparam FIRST = SPAN - TOP > HEIGHT ? HEIGHT : SPAN > TOP ? SPAN - TOP : 0;   // rows before output row 0
  localparam PHASE0 = FIRST > 0 ? 0 : 1;                 // phase 0 only reads; phase r + 1 writes output row r
  localparam HB = $clog2(HEIGHT + SPAN * 2 + SH * (OUT_HEIGHT + 1) + TOP + 2) + 1;       // rows, signed
  localparam WB = $clog2(WIDTH + LEFT + DW * KW * 2 + SW * (OUT_WIDTH + 1) + 2) + 1;     // columns, signed
  localparam CB = $clog2(ROW + (LEFT + DW * KW * 2 + SW * (OUT_WIDTH + 1) + 2) * GROUPS) + 1;  // words in a row, signed
  localparam GB = GROUPS > 1 ? $clog2(GROUPS) : 1;
  localparam RB = KH > 1 ? $clog2(KH) : 1;
  localparam TB = KW > 1 ? $clog2(KW) : 1;
  localparam QB = OUT_WIDTH > 1 ? $clog2(OUT_WIDTH) : 1;
  localparam PB = $clog2(OUT_HEIGHT + 2);
  localparam IB = ROW > 1 ? $clog2(ROW) : 1;
  localparam DB = $clog2(DEPTH + 1);
  // where the ring has row -TOP: its slot is -TOP modulo KEPT
  localparam SLOT0 = ((KEPT - (TOP % KEPT)) % KEPT) * ROW;
  localparam TURN = KEPT * ROW;

  reg [PB-1:0] phase;
  reg signed [HB-1:0] limit;                             // rows that are read when this phase ends
  reg signed [HB-1:0] raw;                               // the same before it is kept within the frame
  reg signed [HB-1:0] rows;                              // rows that are read
  reg [IB-1:0] column;                                   // words of the row that is being read
  reg [AB-1:0] waddr;
  reg written;                                           // the output row of this phase is issued

  // ---- read side of the stream ------------------------------------------------------------------------------------
  wire hungry = rows != limit;
  assign in_ready = hungry;
  wire read = hungry && in_valid;
  wire row_end = column == ROW - 1;
  wire last_read = read && row_end && rows + 1 == limit;

  // ---- issue of output words ---------------------------------------------------------------------------------------
  reg [QB-1:0] q;
  reg [RB-1:0] i;
  reg [TB-1:0] j;
  reg [GB-1:0] g;
  reg signed [HB-1:0] top, row;                          // row of tap 0 and of tap i
  reg signed [WB-1:0] left, col;
  reg [AB:0] top_slot, slot;                             // first word of these rows in the ring
  reg signed [CB-1:0] left_word, word;                   // first word of these columns in a row
  reg [DB-1:0] credits;
  wire go = !written && credits != 0;
  wire j_end = KW == 1 || j == KW - 1;
  wire i_end = KH == 1 || i == KH - 1;
  wire g_end = GROUPS == 1 || g == GROUPS - 1;
  wire q_end = OUT_WIDTH == 1 || q == OUT_WIDTH - 1;
  wire tap_step = BY_CHANNEL ? 1'b1 : g_end;             // this word is the last of its tap (in this group)
  wire window_end = j_end && i_end && g_end;
  wire taps_end = tap_step && j_end && i_end;            // the taps start over
  wire last_go = go && window_end && q_end;

  wire advance = (written || last_go) && (!hungry || last_read);
  wire frame_end = phase == OUT_HEIGHT;
  wire signed [HB-1:0] next_raw = raw + SH;
  wire signed [HB-1:0] bounded = next_raw < 0 ? 0 : next_raw > HEIGHT ? HEIGHT : next_raw;
  function [AB:0] wrap(input [AB+1:0] x);
    wrap = x >= TURN ? x - TURN : x;
  endfunction
  wire [AB:0] next_top_slot = wrap(top_slot + (SH % KEPT) * ROW);

  wire out_taken = out_valid && out_ready;
  always @(posedge clk)
    if (rst) begin
      phase <= PHASE0;
      written <= PHASE0 == 0;
      raw <= PHASE0 ? SPAN - TOP + SH : SPAN - TOP;
      limit <= PHASE0 == 0 ? FIRST : OUT_HEIGHT == 1 ? HEIGHT
               : SPAN - TOP + SH < 0 ? 0 : SPAN - TOP + SH > HEIGHT ? HEIGHT : SPAN - TOP + SH;
      rows <= 0;
      column <= 0;
      waddr <= 0;
      credits <= DEPTH;
      q <= 0; i <= 0; j <= 0; g <= 0;
      top <= -TOP; row <= -TOP; top_slot <= SLOT0; slot <= SLOT0;
      left <= -LEFT; col <= -LEFT; left_word <= -LEFT * GROUPS; word <= -LEFT * GROUPS;
    end else begin
      credits <= credits + out_taken - go;
      if (read) begin
        column <= row_end ? 0 : column + 1;
        waddr <= waddr == TURN - 1 ? 0 : waddr + 1;
        if (row_end) rows <= rows + 1;
      end
      if (go) begin
        if (last_go) written <= 1;
        // groups
        if (BY_CHANNEL ? taps_end : 1'b1) g <= g_end ? 0 : g + 1;
        // taps
        if (tap_step) begin
          j <= j_end ? 0 : j + 1;
          col <= j_end ? left : col + DW;
          word <= j_end ? left_word : word + DW * GROUPS;
          if (j_end) begin
            i <= i_end ? 0 : i + 1;
            row <= i_end ? top : row + DH;
            slot <= i_end ? top_slot : wrap(slot + (DH % KEPT) * ROW);
          end
        end
        // pixels
        if (window_end) begin
          q <= q_end ? 0 : q + 1;
          left <= q_end ? -LEFT : left + SW;
          col <= q_end ? -LEFT : left + SW;
          left_word <= q_end ? -LEFT * GROUPS : left_word + SW * GROUPS;
          word <= q_end ? -LEFT * GROUPS : left_word + SW * GROUPS;
        end
      end
      if (advance) begin
        if (frame_end) begin
          phase <= PHASE0;
          written <= PHASE0 == 0;
          raw <= PHASE0 ? SPAN - TOP + SH : SPAN - TOP;
          limit <= PHASE0 == 0 ? FIRST : OUT_HEIGHT == 1 ? HEIGHT
                   : SPAN - TOP + SH < 0 ? 0 : SPAN - TOP + SH > HEIGHT ? HEIGHT : SPAN - TOP + SH;
          rows <= 0;
          waddr <= 0;
          top <= -TOP; row <= -TOP; top_slot <= SLOT0; slot <= SLOT0;
        end else begin
          phase <= phase + 1;
          written <= 0;
          raw <= next_raw;
          limit <= phase + 1 == OUT_HEIGHT ? HEIGHT : bounded;
          if (phase != 0) begin
            top <= top + SH; row <= top + SH;
            top_slot <= next_top_slot; slot <= next_top_slot;
          end
        end
      end
    end

  // ---- clock 1: address; clock 2: memory; clock 3: padding; clock 4: queue ------------------------------------------
  reg v1, v2, v3, pad1, pad2;
  reg [AB-1:0] addr1;
  reg [PE*BITS-1:0] data3;
  wire [PE*BITS-1:0] data2;
  wire [BITS-1:0] fill = FILL;
  always @(posedge clk) begin
    v1 <= go && !rst;
    v2 <= v1 && !rst;
    v3 <= v2 && !rst;
    pad1 <= row < 0 || row >= HEIGHT || col < 0 || col >= WIDTH;
    pad2 <= pad1;
    addr1 <= $signed({1'b0, slot}) + word + $signed({1'b0, g});
    data3 <= pad2 ? {PE{fill}} : data2;
  end
  qc_ram #(.W(PE*BITS), .D(RAM), .BLOCK(BLOCK)) ring
    (.clk(clk), .we(read), .waddr(waddr), .wdata(in_data), .raddr(addr1), .rdata(data2));
  wire unused;
  qc_fifo #(.W(PE*BITS), .D(DEPTH)) results
    (.clk(clk), .rst(rst), .in_data(data3), .in_valid(v3), .in_ready(unused),
     .out_data(out_data), .out_valid(out_valid), .out_ready(out_ready));
endmodule
