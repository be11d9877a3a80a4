// First-in first-out queue that shows its oldest word before it is taken. D is a power of two, 2 or more.
// A word written in one clock can be taken in the next; with BLOCK = 1, in block RAM, in the one after that.
module qc_fifo #(parameter W = 8, parameter D = 4, parameter BLOCK = 0) (
  input clk,
  input rst,
  input [W-1:0] in_data,
  input in_valid,
  output in_ready,
  output [W-1:0] out_data,
  output out_valid,
  input out_ready
);
  localparam AB = $clog2(D);
  reg [AB:0] head, tail, shown;   // one bit more than an address, so that full and empty differ
  assign out_valid = head != shown;
  assign in_ready = head[AB-1:0] != tail[AB-1:0] || head[AB] == tail[AB];
  wire push = in_valid && in_ready, pull = out_valid && out_ready;
  wire [AB:0] next_head = head + pull;
  always @(posedge clk)
    if (rst) begin
      head <= 0;
      tail <= 0;
    end else begin
      head <= next_head;
      tail <= tail + push;
    end
  generate
    if (BLOCK) begin : block
      // what is read now is shown in the next clock, so it must be there now
      (* ram_style = "block", syn_ramstyle = "block_ram" *) reg [W-1:0] mem [0:D-1];
      reg [W-1:0] data;
      always @(posedge clk) if (push) mem[tail[AB-1:0]] <= in_data;
      always @(posedge clk) data <= mem[next_head[AB-1:0]];
      always @(posedge clk) shown <= rst ? 0 : tail;
      assign out_data = data;
    end else begin : luts
      (* ram_style = "distributed", syn_ramstyle = "distributed" *) reg [W-1:0] mem [0:D-1];
      always @(posedge clk) if (push) mem[tail[AB-1:0]] <= in_data;
      always @* shown = tail;
      assign out_data = mem[head[AB-1:0]];
    end
  endgenerate
`ifdef QC_WATCH
  // the most words that it ever held, for whoever sizes queues
  wire [AB:0] held = tail - head;
  reg [AB:0] most = 0;
  always @(posedge clk) if (!rst && held > most) most <= held;
`endif
endmodule
