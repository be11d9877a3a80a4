// First-in first-out queue that shows its oldest word before it is taken. D is a power of two, 2 or more.
// A word written in one clock can be taken in the next.
module qc_fifo #(parameter W = 8, parameter D = 4) (
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
  reg [AB:0] head, tail;   // one bit more than an address, so that full and empty differ
  assign out_valid = head != tail;
  assign in_ready = head[AB-1:0] != tail[AB-1:0] || head[AB] == tail[AB];
  wire push = in_valid && in_ready, pull = out_valid && out_ready;
  always @(posedge clk)
    if (rst) begin
      head <= 0;
      tail <= 0;
    end else begin
      head <= head + pull;
      tail <= tail + push;
    end
  (* ram_style = "distributed", syn_ramstyle = "distributed" *) reg [W-1:0] mem [0:D-1];
  always @(posedge clk) if (push) mem[tail[AB-1:0]] <= in_data;
  assign out_data = mem[head[AB-1:0]];
`ifdef QC_WATCH
  // the most words that it ever held, for whoever sizes queues
  wire [AB:0] held = tail - head;
  reg [AB:0] most = 0;
  always @(posedge clk) if (!rst && held > most) most <= held;
`endif
endmodule
